package raftnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"raft3d/wal"
)

// snapshotPause is the wait after a snapshot that could not be written, for a full disk say, before the next try.
const snapshotPause = 30 * time.Second

// runSnapshots takes a snapshot whenever the log has grown enough. One that fails costs nothing but the growth of the
// log, so the node goes on, unless the log itself is dead.
func (n *Node) runSnapshots() {
	defer n.joined.Done()
	for {
		select {
		case <-n.stop:
			return
		case <-n.snapshotWanted:
		}
		if !n.snapshotDue() { // it was wanted again while the last one was being written
			continue
		}
		if _, _, _, err := n.TakeSnapshot(context.Background()); err != nil {
			if errors.Is(err, wal.ErrDead) {
				n.fail(fmt.Errorf("take a snapshot: %w", err))
				return
			}
			n.logger.Error("could not take a snapshot; the log keeps growing until one succeeds", "err", err, "again_in", snapshotPause)
			select {
			case <-n.stop:
				return
			case <-time.After(snapshotPause):
			}
		}
	}
}

// wantSnapshot asks for a snapshot where one is due.
func (n *Node) wantSnapshot() {
	if n.snapshotDue() {
		wake(n.snapshotWanted)
	}
}

// maxLogGrowth is how long the log may become however big the state is, in bytes of entries: who starts has all of it in
// memory, twice as large, and may have to apply it (docs/decisions/0015).
const maxLogGrowth = 256 << 20

// snapshotDue says whether the log has grown by more than the state is big, so that a snapshot's cost stays
// proportional, or by all that it may, or by the number of entries that the configuration says.
func (n *Node) snapshotDue() bool {
	since := n.seen.applied.Load() - min(n.seen.applied.Load(), n.seen.snapshotAt.Load())
	if n.cfg.SnapshotEntries > 0 && since >= n.cfg.SnapshotEntries {
		return true
	}
	return since > 0 && n.disk.Appended() > snapshotAfter(n.cfg.SnapshotBytes, n.seen.snapshotBytes.Load())
}

// snapshotAfter is how much the log grows between two snapshots, in bytes: least, or as much as the state is big.
func snapshotAfter(least, state int64) int64 { return max(least, min(state, maxLogGrowth)) }

// TakeSnapshot writes the state as it is now and drops the log before it. It returns the index and term of the last
// entry in it and its size in bytes; where nothing happened since the last one, that one's.
func (n *Node) TakeSnapshot(ctx context.Context) (index, term uint64, bytes int64, err error) {
	n.snapshots.Lock()
	defer n.snapshots.Unlock()
	switch at, _ := n.sm.Applied(); at {
	case 0:
		return 0, 0, 0, errorf(Conflict, "", "this node has no state yet: it waits for its cluster")
	case n.latest.index:
		return n.latest.index, n.latest.term, n.latest.bytes, nil
	}
	metadata, bytes, err := writeSnapshot(n.disk, n.sm)
	if err != nil {
		return 0, 0, 0, err
	}
	marked := make(chan error, 1)
	n.toLog.put(logJob{mark: metadata, marked: marked})
	select {
	case err = <-marked:
	case <-n.stop:
		err = n.stoppedError(Unknown)
	}
	if err != nil {
		return 0, 0, 0, err
	}
	info := snapshotInfo{metadata.GetIndex(), metadata.GetTerm(), bytes}
	n.remember(info)
	n.seen.taken.Add(1)
	n.logger.Info("took a snapshot", "index", info.index, "bytes", info.bytes)
	return info.index, info.term, info.bytes, nil
}

// remember notes the newest snapshot that counts. The caller holds snapshots, or the node does not run yet.
func (n *Node) remember(info snapshotInfo) {
	n.latest = info
	n.seen.snapshotAt.Store(info.index)
	n.seen.snapshotBytes.Store(info.bytes)
}

// writeSnapshot writes the file of a snapshot; the record that makes it count comes after.
func writeSnapshot(disk *wal.Log, sm StateMachine) (metadata *raftpb.SnapshotMetadata, bytes int64, err error) {
	err = sm.Snapshot(func(index uint64, meta []byte, state io.WriterTo) error {
		if metadata, err = snapshotMetadata(index, meta); err != nil {
			return err
		}
		bytes, err = disk.WriteSnapshot(metadata, state)
		return err
	})
	return metadata, bytes, err
}

// snapshotMetadata is what raft needs to know of a state, from the record that is stored with it.
func snapshotMetadata(index uint64, meta []byte) (*raftpb.SnapshotMetadata, error) {
	m, err := decodeMembers(meta)
	if err != nil {
		return nil, err
	}
	return &raftpb.SnapshotMetadata{Index: &index, Term: &m.meta.Term, ConfState: m.conf}, nil
}

// restore replaces the state machine by the snapshot on the disk.
func (n *Node) restore(metadata *raftpb.SnapshotMetadata) error {
	r, _, err := n.disk.OpenSnapshot(metadata.GetIndex(), metadata.GetTerm())
	if err != nil {
		return err
	}
	defer r.Close()
	if err := n.sm.Restore(r); err != nil {
		return fmt.Errorf("restore snapshot %d: %w", metadata.GetIndex(), err)
	}
	return nil
}

// sendSnapshot sends the state as it is when the transfer begins. In front of it goes what it really is: its index
// is at least the one that raft asked for, and its configuration must have the receiver in it, or the receiver
// would ignore it for ever.
func (n *Node) sendSnapshot(m *raftpb.Message) {
	to := m.GetTo()
	n.transport.SendSnapshot(m, func(w io.Writer) error {
		return n.sm.Snapshot(func(index uint64, meta []byte, state io.WriterTo) error {
			metadata, err := snapshotMetadata(index, meta)
			if err != nil {
				return err
			}
			if index < m.GetSnapshot().GetMetadata().GetIndex() || !contains(metadata.GetConfState(), to) {
				return fmt.Errorf("send snapshot %d to %x: the state does not know it yet", index, to)
			}
			b, err := proto.Marshal(metadata)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
				return err
			}
			_, err = state.WriteTo(w)
			return err
		})
	})
}

func contains(conf *raftpb.ConfState, id uint64) bool {
	for _, ids := range [][]uint64{conf.GetVoters(), conf.GetLearners()} {
		for _, v := range ids {
			if v == id {
				return true
			}
		}
	}
	return false
}

const maxSnapshotMetadata = 64 << 10 // bytes; a configuration of a few thousand members

// ReceiveSnapshot takes a state that the leader sends: into a file, checked to its end, and only then to raft. It
// returns when the state is in place, or raft has no use for it.
func (n *Node) ReceiveSnapshot(m *raftpb.Message, state io.Reader) error {
	var size [4]byte
	if _, err := io.ReadFull(state, size[:]); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	length := binary.BigEndian.Uint32(size[:])
	if length > maxSnapshotMetadata {
		return fmt.Errorf("receive snapshot: its description has %d bytes, at most %d are accepted", length, maxSnapshotMetadata)
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(state, b); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	metadata := &raftpb.SnapshotMetadata{}
	if err := proto.Unmarshal(b, metadata); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	if metadata.GetIndex() == 0 || metadata.GetTerm() == 0 || !contains(metadata.GetConfState(), n.id) {
		return fmt.Errorf("receive snapshot %d: its configuration does not have this member", metadata.GetIndex())
	}
	m.Snapshot = &raftpb.Snapshot{Metadata: metadata}

	n.snapshots.Lock() // nothing else may write or judge a snapshot file of this index meanwhile
	defer n.snapshots.Unlock()
	index := metadata.GetIndex()
	stale := index <= n.seen.applied.Load()
	var bytes int64
	var err error
	if stale {
		if _, err = io.Copy(io.Discard, state); err != nil {
			return fmt.Errorf("receive snapshot %d: %w", index, err)
		}
	} else if bytes, err = n.disk.WriteSnapshot(metadata, readAll{state}); err != nil {
		return fmt.Errorf("receive snapshot %d: %w", index, err)
	}
	installed := make(chan struct{})
	accepted := false
	n.mu.Lock()
	n.installed = installed
	n.mu.Unlock()
	running := n.onLoop(func(c *core) {
		c.receive(m)
		c.drain()
		for _, a := range c.out.appends {
			accepted = accepted || a.GetSnapshot().GetMetadata().GetIndex() == index
		}
	})
	if !running {
		return n.stoppedError(Unknown)
	}
	if !accepted {
		if stale {
			return nil
		}
		return n.disk.DropSnapshot(index, metadata.GetTerm())
	}
	select {
	case <-installed:
		n.remember(snapshotInfo{index, metadata.GetTerm(), bytes})
		return nil
	case <-n.stop:
		return n.stoppedError(Unknown)
	}
}

// readAll gives a reader the form of a state that is written.
type readAll struct{ r io.Reader }

func (s readAll) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, s.r) }
