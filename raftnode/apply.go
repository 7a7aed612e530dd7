package raftnode

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// applyJob is one thing for the state machine: committed entries, or a snapshot that replaces it.
type applyJob struct {
	entries  *raftpb.Message
	restore  *raftpb.SnapshotMetadata
	restored chan<- error // capacity one
}

// runApply is the only one that changes the state machine. All that is committed is applied in one transaction.
func (n *Node) runApply() {
	defer n.joined.Done()
	for {
		select {
		case <-n.stop:
			return
		case <-n.toApply.ready:
		}
		var batch []*raftpb.Message
		for _, job := range n.toApply.take() {
			if job.restore == nil {
				batch = append(batch, job.entries)
				continue
			}
			if !n.applyAll(batch) {
				return
			}
			batch = nil
			err := n.restore(job.restore)
			if err == nil {
				err = n.applier.reload()
			}
			if err == nil && n.applier.index != job.restore.GetIndex() {
				err = fmt.Errorf("snapshot %d restored a state at index %d", job.restore.GetIndex(), n.applier.index)
			}
			if err == nil {
				n.publishMembers()
				n.answerSkipped()
			}
			job.restored <- err
		}
		if !n.applyAll(batch) {
			return
		}
	}
}

// answerSkipped answers the waiters whose commands came with a snapshot: they were applied, but what the state machine
// said of them was said on other nodes.
func (n *Node) answerSkipped() {
	window := n.applier.members.window(n.id)
	n.mu.Lock()
	defer n.mu.Unlock()
	for sequence, w := range n.waiters {
		if !window.has(n.applier.incarnation, sequence) {
			continue
		}
		delete(n.waiters, sequence)
		err := errorf(Unavailable, "", "the change was decided while this node was behind, and the answer did not reach it; look whether it happened")
		err.Outcome = Unknown
		w <- result{err: err}
		n.calls = append(n.calls, func(c *core) { c.forget(sequence) })
	}
}

// applyAll applies a run of messages, answers this node's waiters, and tells the loop. It reports whether the node
// may go on.
func (n *Node) applyAll(messages []*raftpb.Message) bool {
	if len(messages) == 0 {
		return true
	}
	entries := messages[0].GetEntries()
	for _, m := range messages[1:] {
		entries = append(entries[:len(entries):len(entries)], m.GetEntries()...)
	}
	begin := time.Now()
	done, changed, err := n.applier.apply(entries)
	if err != nil {
		n.fail(err)
		return false
	}
	n.cfg.ObserveApply(len(entries), time.Since(begin))
	if changed {
		n.publishMembers()
	}
	n.seen.applied.Store(n.applier.index)

	batches := make([]appliedBatch, len(messages))
	for i, m := range messages {
		batches[i].message = m
	}
	first := &batches[0]
	if changed {
		first.table = n.table.Load()
	}
	n.mu.Lock()
	for _, f := range done {
		waiters := n.waiters
		if f.change {
			waiters = n.changeWaiters
		} else {
			first.own = append(first.own, f.sequence)
		}
		if w, ok := waiters[f.sequence]; ok {
			delete(waiters, f.sequence)
			w <- result{f.value, f.err}
		}
	}
	n.in.applied = append(n.in.applied, batches...)
	n.mu.Unlock()
	wake(n.wake)
	n.wantSnapshot()
	return true
}

// configure hands a conf change to the loop and waits for the configuration that follows: the only rendezvous.
func (n *Node) configure(cc *raftpb.ConfChangeV2) (conf *raftpb.ConfState, err error) {
	entry := decodeContext(cc)
	if r := entry.GetMember(); cc.Changes[0].GetNodeId() != 0 && (entry.Op == MemberChange_ADD || entry.Op == MemberChange_UPDATE) {
		n.setPeer(r.MemberId, r.Raft) // before raft speaks to it
	}
	index := n.applier.index
	// A member acts on a configuration only once it would still have it after a crash: whoever was removed is gone
	// then, and nobody could be elected by the votes of the old one.
	if err := n.syncCommit(); err != nil {
		return nil, fmt.Errorf("apply membership change at index %d: %w", index, err)
	}
	if !n.onLoop(func(c *core) { conf = c.configure(cc, index) }) {
		return nil, fmt.Errorf("apply membership change at index %d: the node stops", index)
	}
	return conf, nil
}

func (n *Node) setPeer(id uint64, addr string) {
	if id != n.id && n.peers[id] != addr {
		n.peers[id] = addr
		n.transport.SetPeer(id, addr)
	}
}

// publishMembers lets others see the membership as of the applied index, and tells the transport.
func (n *Node) publishMembers() {
	old, table := n.table.Load(), n.applier.members.table()
	n.table.Store(table)
	n.seen.applied.Store(n.applier.index)
	if len(table.members) == 0 {
		return // a joiner without a state: it answers whoever connects to it
	}
	for _, m := range table.members {
		n.setPeer(m.id, m.raft)
	}
	for id := range n.peers {
		if _, ok := table.byID(id); !ok {
			delete(n.peers, id)
			n.transport.RemovePeer(id)
		}
	}
	if old != nil && len(old.members) > 0 {
		n.tellMembers(old, table)
	}
}

// tellMembers logs what changed.
func (n *Node) tellMembers(old, table *memberTable) {
	for _, m := range table.members {
		switch before, known := old.byID(m.id); {
		case !known:
			n.logger.Info("member joined as a learner", "member", m.name, "raft", m.raft)
		case m.voter && !before.voter:
			n.logger.Info("member became a voter", "member", m.name)
		case m.raft != before.raft || m.http != before.http:
			n.logger.Info("member changed its addresses", "member", m.name, "raft", m.raft, "http", m.http)
		}
	}
	for _, m := range old.members {
		if _, ok := table.byID(m.id); !ok {
			n.logger.Info("member was removed", "member", m.name)
		}
	}
}
