package raftnode

import (
	"errors"
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func entry(index, term uint64, data []byte) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: data}
}

// logOf is a storage whose entries begin behind a snapshot at base and have the sizes given.
func logOf(t failer, base, applied uint64, sizes ...int) *storage {
	t.Helper()
	data := make([]byte, slices.Max(append(sizes, 0)))
	var entries []*raftpb.Entry
	for i, size := range sizes {
		entries = append(entries, entry(base+1+uint64(i), 1, data[:size]))
	}
	var snapshot *raftpb.SnapshotMetadata
	if base > 0 {
		snapshot = &raftpb.SnapshotMetadata{Index: &base, Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{1}}}
	}
	s, err := newStorage(snapshot, entries, 0, &raftpb.HardState{}, &raftpb.ConfState{Voters: []uint64{1}}, applied, math.MaxUint64)
	if err != nil {
		t.Fatalf("newStorage: %v", err)
	}
	return s
}

// sizes are those of the entries that raft would find.
func sizes(t failer, s *storage) []int {
	t.Helper()
	first, err := s.FirstIndex()
	if err != nil {
		t.Fatalf("first index: %v", err)
	}
	last, err := s.LastIndex()
	if err != nil {
		t.Fatalf("last index: %v", err)
	}
	var got []int
	if last >= first {
		entries, err := s.Entries(first, last+1, 1<<62)
		if err != nil {
			t.Fatalf("entries %d to %d: %v", first, last, err)
		}
		for _, e := range entries {
			got = append(got, len(e.GetData()))
		}
	}
	return got
}

// checkBytes compares what storage believes to hold with what it holds.
func checkBytes(t failer, s *storage) {
	t.Helper()
	got := sizes(t, s)
	total := 0
	for _, n := range got {
		total += n
	}
	if !slices.Equal(got, s.bytes) || total != s.total {
		t.Fatalf("the log has entries of %v bytes, %d in all; the account says %v and %d", got, total, s.bytes, s.total)
	}
}

func TestTheStorageKnowsTheSizeOfItsEntriesWhateverHappensToThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Uint64Range(0, 5).Draw(t, "base")
		s := logOf(t, base, base)
		data, term := make([]byte, 16), uint64(1)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			first, _ := s.FirstIndex()
			last, _ := s.LastIndex()
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				if err := s.compact(rapid.Uint64Range(0, last).Draw(t, "compact to")); err != nil {
					t.Fatalf("compact: %v", err)
				}
			case 1:
				index := last + rapid.Uint64Range(1, 3).Draw(t, "ahead")
				if err := s.install(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{}}}); err != nil {
					t.Fatalf("install: %v", err)
				}
				if s.applied != index || s.confAt != index || s.total != 0 {
					t.Fatalf("after the snapshot at %d: applied %d, configuration of %d, %d bytes", index, s.applied, s.confAt, s.total)
				}
			default:
				at := rapid.Uint64Range(max(first, 3)-2, last+1).Draw(t, "append at")
				var entries []*raftpb.Entry
				for i := range rapid.Uint64Range(0, 4).Draw(t, "entries") {
					entries = append(entries, entry(at+i, term, data[:rapid.IntRange(0, 16).Draw(t, "size")]))
				}
				if err := s.append(entries); err != nil {
					t.Fatalf("append: %v", err)
				}
			}
			checkBytes(t, s)
		}
	})
}

func TestRaftStartsWithTheConfigurationOfTheStateAndNotOfTheSnapshot(t *testing.T) {
	conf := &raftpb.ConfState{Voters: []uint64{1, 2, 3}}
	s, err := newStorage(nil, []*raftpb.Entry{entry(1, 1, nil), entry(2, 1, nil)}, 0, &raftpb.HardState{}, conf, 2, math.MaxUint64)
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := s.InitialState(); err != nil || !proto.Equal(got, conf) {
		t.Fatalf("raft begins with %v (%v), the state has %v", got, err, conf)
	}
}

func TestTheSnapshotForAFollowerIsOneOfNow(t *testing.T) {
	conf := &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}}
	for name, tt := range map[string]struct {
		applied, confAt uint64
		available       bool
	}{
		"the newest change is applied":      {applied: 6, confAt: 6, available: true},
		"entries came after it":             {applied: 7, confAt: 6, available: true},
		"it is not in the state yet":        {applied: 5, confAt: 6},
		"nothing is applied":                {applied: 0, confAt: 0},
		"the term of the state is not here": {applied: 9, confAt: 6},
	} {
		t.Run(name, func(t *testing.T) {
			s := logOf(t, 3, 3, 1, 1, 1, 1)
			s.conf, s.applied, s.confAt = conf, tt.applied, tt.confAt
			snapshot, err := s.Snapshot()
			if !tt.available {
				if !errors.Is(err, raft.ErrSnapshotTemporarilyUnavailable) {
					t.Fatalf("got %v, %v", snapshot, err)
				}
				return
			}
			m := snapshot.GetMetadata()
			if err != nil || m.GetIndex() != tt.applied || m.GetTerm() != 1 || !proto.Equal(m.GetConfState(), conf) {
				t.Fatalf("got %v, %v; want index %d with %v", m, err, tt.applied, conf)
			}
		})
	}
}

// drawCompaction is a follower's log and how much of it is applied, with bytes to spare or not.
func drawCompaction(t *rapid.T) (*core, uint64) {
	base := rapid.Uint64Range(0, 50).Draw(t, "base")
	n := rapid.IntRange(0, 60).Draw(t, "entries")
	size := rapid.SampledFrom([]int{0, 100, 1 << 20, 5 << 20}).Draw(t, "size")
	list := make([]int, n)
	for i := range list {
		list[i] = size
	}
	applied := rapid.Uint64Range(base, base+uint64(n)).Draw(t, "applied")
	keep := rapid.Uint64Range(0, 40).Draw(t, "keep")
	return &core{storage: logOf(t, base, applied, list...), keepEntries: keep}, base + 1
}

func TestCompactionDropsOnlyWhatIsAppliedAndKeepsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, first := drawCompaction(t)
		s, total := c.storage, c.storage.total
		held := s.applied + 1 - first
		c.compact()
		checkBytes(t, s)
		now, _ := s.FirstIndex()
		after := s.applied + 1 - now
		switch {
		case now < first || now > s.applied+1:
			t.Fatalf("the log began at %d with %d applied, now at %d", first, s.applied, now)
		case total <= maxLogBytes && after < min(held, c.keepEntries):
			t.Fatalf("of %d applied entries %d are left, %d should be kept", held, after, c.keepEntries)
		case total <= maxLogBytes && c.keepEntries > 0 && after >= 2*c.keepEntries:
			t.Fatalf("of %d applied entries %d are left, though only %d are to be kept", held, after, c.keepEntries)
		case total > maxLogBytes && s.total > maxLogBytes && after > 0:
			t.Fatalf("of %d bytes %d are left, and %d applied entries", total, s.total, after)
		}
		if _, err := s.Term(s.applied); err != nil {
			t.Fatalf("the term of the applied index %d is gone: %v", s.applied, err)
		}
	})
}

func TestCompactionWaitsUntilItIsWorthTheCopy(t *testing.T) {
	c := &core{storage: logOf(t, 10, 10, make([]int, 100)...), keepEntries: 20}
	compactions := 0
	for applied := uint64(11); applied <= 110; applied++ {
		before, _ := c.storage.FirstIndex()
		c.storage.applied = applied
		c.compact()
		if after, _ := c.storage.FirstIndex(); after != before {
			compactions++
		}
	}
	if compactions != 4 { // at 50, 70, 90 and 110 entries
		t.Fatalf("100 entries of which 20 are kept were compacted %d times", compactions)
	}
}
