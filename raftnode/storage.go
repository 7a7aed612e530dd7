package raftnode

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// storage is raft's view of the log: the entries that are on this node's disk and not yet compacted away. It is
// etcd's MemoryStorage but for two answers, each of which stops a node for ever where MemoryStorage gives it: the
// configuration at the start is that of the applied state (not of the last snapshot), and the snapshot for a
// follower that is too far behind is one of now (a joiner of an idle, compacted cluster is in no older one).
//
// The core owns it; nobody else may touch it.
type storage struct {
	*raft.MemoryStorage
	hard    *raftpb.HardState // at the start
	conf    *raftpb.ConfState // as of the newest conf change or snapshot that raft took
	confAt  uint64            // its index
	applied uint64            // the newest index that the state machine is known to hold
	bytes   []int             // sizes of the entries in memory, oldest first
	total   int               // their sum
}

// newStorage holds the log of a node that starts: what follows on the snapshot, and where the state stands. Of what is
// applied it keeps no more than one that runs: keep entries, and none up to bare, which have no data.
func newStorage(snapshot *raftpb.SnapshotMetadata, entries []*raftpb.Entry, bare uint64, hard *raftpb.HardState, conf *raftpb.ConfState, applied, keep uint64) (*storage, error) {
	s := &storage{MemoryStorage: raft.NewMemoryStorage(), hard: hard, conf: conf, confAt: applied, applied: applied}
	if drop := max(applied-min(applied, keep), bare); drop > snapshot.GetIndex() {
		last := entries[drop-snapshot.GetIndex()-1]
		entries = slices.Clone(entries[drop-snapshot.GetIndex():])
		snapshot = &raftpb.SnapshotMetadata{Index: last.Index, Term: last.Term}
	}
	if snapshot != nil {
		if err := s.ApplySnapshot(&raftpb.Snapshot{Metadata: snapshot}); err != nil {
			return nil, err
		}
	}
	return s, s.append(entries)
}

// InitialState is asked once, when raft starts.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Snapshot names the state as of now. What is sent in the end is what the state machine holds when the transfer
// begins, which is this or newer.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	if s.applied < s.confAt || s.applied == 0 {
		// The newest configuration is not in the state machine yet, so a receiver might be missing from it.
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	term, err := s.Term(s.applied)
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(s.applied), Term: &term, ConfState: s.conf,
	}}, nil
}

// append adds entries that are on the disk; they replace what they overlap. Those that were compacted away stay so.
func (s *storage) append(entries []*raftpb.Entry) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	for len(entries) > 0 && entries[0].GetIndex() < first {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil
	}
	kept := int(entries[0].GetIndex() - first)
	for len(s.bytes) > kept {
		s.total -= s.bytes[len(s.bytes)-1]
		s.bytes = s.bytes[:len(s.bytes)-1]
	}
	if err := s.MemoryStorage.Append(entries); err != nil {
		return err
	}
	for _, e := range entries {
		s.bytes = append(s.bytes, len(e.GetData()))
		s.total += len(e.GetData())
	}
	return nil
}

// install begins the log anew behind a snapshot that this node took over.
func (s *storage) install(snapshot *raftpb.Snapshot) error {
	if err := s.ApplySnapshot(snapshot); err != nil {
		return err
	}
	m := snapshot.GetMetadata()
	s.conf, s.confAt, s.applied = m.GetConfState(), m.GetIndex(), m.GetIndex()
	s.bytes, s.total = nil, 0
	return nil
}

// compact drops the entries up to index, which must be applied.
func (s *storage) compact(index uint64) error {
	first, err := s.FirstIndex()
	if err != nil || index < first {
		return err
	}
	if err := s.Compact(index); err != nil {
		return err
	}
	n := int(index - first + 1)
	for _, b := range s.bytes[:n] {
		s.total -= b
	}
	s.bytes = append([]int(nil), s.bytes[n:]...)
	return nil
}
