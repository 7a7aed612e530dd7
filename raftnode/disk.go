package raftnode

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// logJob is one thing to write: an append, or the record of a snapshot whose file is there.
type logJob struct {
	append *raftpb.Message
	mark   *raftpb.SnapshotMetadata
	marked chan<- error // gets the result of mark; capacity one
}

// runLog is the only one that appends to the wal. All that waits is written with one sync (group commit).
func (n *Node) runLog() {
	defer n.joined.Done()
	for {
		select {
		case <-n.stop:
			return
		case <-n.toLog.ready:
		case n.syncing = <-n.syncs:
		}
		err := n.writeLog(n.toLog.take())
		if err == nil {
			err = n.answerSync()
		}
		if err != nil {
			n.fail(fmt.Errorf("write the log: %w", err)) // never retried: the kernel may have dropped the page
			return
		}
	}
}

func (n *Node) writeLog(jobs []logJob) error {
	var pending []*raftpb.Message
	for _, job := range jobs {
		switch {
		case job.mark != nil:
			if err := n.appendAll(pending); err != nil {
				return err
			}
			pending = nil
			err := n.disk.MarkSnapshot(job.mark)
			job.marked <- err
			if err != nil {
				return err
			}
		case !raft.IsEmptySnap(job.append.GetSnapshot()):
			if err := n.appendAll(pending); err != nil {
				return err
			}
			pending = nil
			if err := n.install(job.append); err != nil {
				return err
			}
		default:
			pending = append(pending, job.append)
		}
	}
	return n.appendAll(pending)
}

// appendAll writes a run of appends at once and tells the loop.
func (n *Node) appendAll(messages []*raftpb.Message) error {
	if len(messages) == 0 {
		return nil
	}
	var hard *raftpb.HardState
	var entries []*raftpb.Entry
	if len(messages) == 1 {
		entries = messages[0].GetEntries()
	}
	for _, m := range messages {
		if h := hardState(m); h != nil {
			hard = h
		}
		if len(messages) > 1 {
			entries = append(entries, m.GetEntries()...)
		}
	}
	if err := n.disk.Append(hard, entries); err != nil {
		return err
	}
	n.add(func(in *input) { in.stored = append(in.stored, messages...) })
	return nil
}

// answerSync puts on the disk what the log keeps in memory, a commit index, where apply waits for that.
func (n *Node) answerSync() error {
	if n.syncing == nil {
		return nil
	}
	err := n.disk.Sync()
	n.syncing <- err
	n.syncing = nil
	return err
}

// syncCommit returns once it is on the disk how far the log is committed. Apply calls it.
func (n *Node) syncCommit() error {
	done := make(chan error, 1)
	select {
	case n.syncs <- done:
	case <-n.stop:
		return n.stoppedError(Unknown)
	}
	select {
	case err := <-done:
		return err
	case <-n.stop:
		return n.stoppedError(Unknown)
	}
}

// hardState is what an append asks to be kept besides entries; nil: nothing.
func hardState(m *raftpb.Message) *raftpb.HardState {
	h := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	if raft.IsEmptyHardState(h) {
		return nil
	}
	return h
}

// install makes a received snapshot, whose file is on the disk, the state of this node. The order matters: file,
// record, log, state; and the loop hears of it last, since raft then counts it as applied.
func (n *Node) install(m *raftpb.Message) error {
	metadata := m.GetSnapshot().GetMetadata()
	if err := n.disk.MarkSnapshot(metadata); err != nil {
		return err
	}
	if err := n.disk.Append(hardState(m), m.GetEntries()); err != nil {
		return err
	}
	done := make(chan error, 1)
	n.toApply.put(applyJob{restore: metadata, restored: done})
	for restored := false; !restored; {
		// Apply may wait for this goroutine on the way, with a membership change that lies before the snapshot.
		if err := n.answerSync(); err != nil {
			return err
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			restored = true
		case n.syncing = <-n.syncs:
		case <-n.stop:
			return nil
		}
	}
	n.add(func(in *input) {
		in.stored = append(in.stored, m)
		for i := range in.applied {
			in.applied[i].table = nil // older than the snapshot's
		}
		in.table = n.table.Load()
	})
	n.seen.installed.Add(1)
	n.mu.Lock()
	if n.installed != nil {
		close(n.installed)
		n.installed = nil
	}
	n.mu.Unlock()
	n.logger.Info("installed a snapshot from the leader", "index", metadata.GetIndex(), "term", metadata.GetTerm())
	return nil
}
