package wal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"
)

// etcd#22442: raft.restore drops the tail, but the log on the disk has only the snapshot's record.
func TestAReceivedSnapshotKeepsTheTailThatItReplacedDead(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 2), run(1, 10, 1)...)
	f.snapshot(8, 3)
	f.append(hard(3, 0, 8))
	want(t, f.reopen(), "8/3|| term 3 vote 0 commit 8")
	f.append(hard(3, 0, 9), run(9, 9, 3)...)
	want(t, f.reopen(), "8/3| 9/3| term 3 vote 0 commit 9")
}

// The other trigger: the overwriting entry is at or below the snapshot. The dead entries' term is higher than the
// snapshot's, so a filter by term would not find them.
func TestEntriesOverwrittenBelowASnapshotStayDead(t *testing.T) {
	f := create(t)
	f.append(hard(4, 0, 2), run(1, 2, 1)...)
	f.append(hard(5, 0, 2), run(3, 5, 5)...)
	f.append(hard(6, 0, 2), run(3, 3, 4)...)
	f.append(hard(6, 0, 3))
	f.snapshot(3, 4)
	want(t, f.reopen(), "3/4|| term 6 vote 0 commit 3")
}

func TestALocalSnapshotKeepsWhatFollowsIt(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 8), run(1, 10, 1)...)
	f.snapshot(8, 1)
	want(t, f.reopen(), "8/1| 9/1 10/1| term 1 vote 1 commit 8")
}

func TestASnapshotFarAheadClearsTheLog(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 3), run(1, 10, 1)...)
	f.snapshot(100, 2)
	f.append(hard(2, 0, 101), run(101, 103, 2)...)
	f.append(hard(3, 0, 101), run(102, 102, 3)...)
	want(t, f.reopen(), "100/2| 101/2 102/3| term 3 vote 0 commit 101")
	f.snapshot(102, 3)
	want(t, f.reopen(), "102/3|| term 3 vote 0 commit 102")
}

// P8: etcd's ReadAll forgets to say that the record of a snapshot is missing.
func TestASnapshotFileWithoutARecordIsNotBelieved(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 3), run(1, 3, 1)...)
	f.write(3, 7)
	f.write(50, 9)
	want(t, f.reopen(), "| 1/1 2/1 3/1| term 1 vote 1 commit 3")
}

func TestTheLogGoesOnAcrossSegments(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 2 << 10})
	for i := uint64(1); i <= 200; i++ {
		f.append(hard(1, 0, i-1), entry(i, 1))
		if i%50 == 0 {
			f.reopen()
		}
	}
	list, err := segments(walDir(f.dir))
	must(t, err)
	if len(list) < 5 {
		t.Fatalf("%d segments", len(list))
	}
	r := f.reopen()
	if len(r.Entries) != 200 || r.HardState.GetCommit() != 199 {
		t.Fatalf("recovered %s", describe(r))
	}
	f.close()
	segment := func(n int) string { return filepath.Join(walDir(f.dir), list[n].name) }

	good, err := os.ReadFile(segment(2))
	must(t, err)
	put(t, segment(2), good[:len(good)-8])
	f.refused(list[2].name)
	put(t, segment(2), append(good[:len(good):len(good)], 1))
	f.refused(list[2].name)
	c := inspect(t, f.dir)
	c.path = segment(2)
	for at := int64(0); at < int64(len(good)); at += 11 {
		b := append([]byte(nil), good...)
		b[at] ^= 0x40
		if r, err := c.with(b); err == nil && len(r.Entries) != 200 {
			t.Fatalf("byte %d of a segment in the middle: recovered %s", at, describe(r))
		}
	}
	put(t, segment(2), good)
	for n := range len(list) - 1 { // without the last one, the log would merely be shorter
		b, err := os.ReadFile(segment(n))
		must(t, err)
		must(t, os.Remove(segment(n)))
		if _, err := Read(f.dir); err == nil {
			t.Fatalf("segment %d is missing", n)
		}
		put(t, segment(n), b)
	}
	other, err := os.ReadFile(segment(1))
	must(t, err)
	put(t, segment(2), other)
	f.refused(list[2].name)
	put(t, segment(2), good)
	put(t, filepath.Join(walDir(f.dir), "1-1.wal"), nil)
	f.refused("not the name of a segment")
}

// The head of a segment is synced before the segment gets its name.
func TestASegmentWhoseHeadIsBrokenIsRefused(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 2 << 10})
	for i := uint64(1); i <= 100; i++ {
		f.append(hard(1, 0, i), entry(i, 1))
	}
	f.close()
	c := inspect(t, f.dir)
	for at := range c.payload {
		if r, err := c.with(c.bytes[:at]); err == nil {
			t.Fatalf("cut at byte %d: recovered %s", at, describe(r))
		}
	}
}

// Two logs with the same units of the same member; a segment of the one does not fit into the other.
func TestASegmentOfAnotherLogIsRefused(t *testing.T) {
	var logs [2]*fixture
	for n := range logs {
		logs[n] = createWith(t, Config{SegmentBytes: 2 << 10})
		for i := uint64(1); i <= 100; i++ {
			e := entry(i, 1)
			e.Data = append(e.Data, byte(n))
			logs[n].append(hard(1, 0, i), e)
		}
		logs[n].close()
	}
	list, err := segments(walDir(logs[0].dir))
	must(t, err)
	other, err := os.ReadFile(filepath.Join(walDir(logs[1].dir), list[1].name))
	must(t, err)
	put(t, filepath.Join(walDir(logs[0].dir), list[1].name), other)
	logs[0].refused("does not follow")
}

func TestUnitsFollowOnEachOther(t *testing.T) {
	record := func(unit uint64) []byte {
		b, err := proto.Marshal(hardState{1, 0, 0}.numbered(unit))
		must(t, err)
		return b
	}
	for unit := uint64(1); unit < 8; unit++ {
		r := replayer{unit: 4}
		if err := r.stateRecord(record(unit), false); (err == nil) != (unit == 5) {
			t.Errorf("unit %d after unit 4: %v", unit, err)
		}
		r = replayer{unit: 4, state: hardState{1, 0, 0}}
		if err := r.stateRecord(record(unit), true); (err == nil) != (unit == 4) {
			t.Errorf("unit %d repeated after unit 4: %v", unit, err)
		}
	}
	r := replayer{unit: 4, state: hardState{1, 1, 0}}
	if err := r.stateRecord(record(4), true); err == nil {
		t.Error("the head of a segment repeats another hard state")
	}
}

// etcd goes on in a segment that an earlier process had allocated, and would leave there what it does not overwrite.
func TestASegmentThatWasAllocatedBeforeIsNotUsedAgain(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 2 << 10})
	f.close()
	put(t, filepath.Join(walDir(f.dir), "0.tmp"), bytes.Repeat([]byte("old"), 500))
	f.open()
	for i := uint64(1); i <= 40; i++ {
		f.append(hard(1, 0, i), entry(i, 1))
		if i%3 == 0 {
			if _, err := Read(f.dir); err != nil {
				t.Fatalf("after %d appends: %v", i, err)
			}
		}
	}
}

func TestAZeroedSectorInAnEarlierSegmentIsRefused(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 2 << 10})
	for i := uint64(1); i <= 100; i++ {
		f.append(hard(1, 0, i), entry(i, 1))
	}
	f.close()
	list, err := segments(walDir(f.dir))
	must(t, err)
	path := filepath.Join(walDir(f.dir), list[1].name)
	good, err := os.ReadFile(path)
	must(t, err)
	c := &crashed{t: t, dir: f.dir, path: path, bytes: good}
	for at := 0; at < len(good); at += sectorBytes {
		if r, err := c.with(c.zeroed(int64(at), int64(min(at+sectorBytes, len(good))))); err == nil {
			t.Fatalf("sector at byte %d: recovered %s", at, describe(r))
		}
	}
}

// A lost tail that held committed entries shows in the commit index, if in nothing else.
func TestALogThatEndsBeforeItsCommitIndexIsRefused(t *testing.T) {
	r := replayer{baseKnown: true, state: hardState{1, 0, 9}}
	r.entries = run(1, 8, 1)
	if err := r.choose(t.TempDir(), &plan{}); err == nil {
		t.Fatal("recovered")
	}
}

func TestEtcdsOwnReaderWouldBringTheDeadBack(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 2), run(1, 10, 1)...)
	f.snapshot(8, 3)
	f.close()
	w, err := etcdwal.OpenForRead(nil, walDir(f.dir), &walpb.Snapshot{Index: proto.Uint64(8), Term: proto.Uint64(3)})
	must(t, err)
	defer w.Close()
	_, _, entries, err := w.ReadAll()
	must(t, err)
	if len(entries) != 2 || entries[0].GetTerm() != 1 {
		t.Fatalf("etcd reads %v: if it is mended, see the decision record on our own replay", entries)
	}
}

func TestCommittedEntriesMayComeWithoutTheirData(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 8), run(1, 10, 1)...)
	f.close()
	f.config.CommittedData = 3
	r := f.open()
	if r.Bare != 5 || len(r.Entries) != 10 {
		t.Fatalf("the first %d of %d entries have no data, want 5 of 10", r.Bare, len(r.Entries))
	}
	for _, e := range r.Entries {
		if bare := e.Data == nil; bare != (e.GetIndex() <= 5) {
			t.Errorf("entry %d has the data %q", e.GetIndex(), e.Data)
		}
	}
	all, err := f.Reread()
	must(t, err)
	want(t, Recovered{Entries: all, HardState: r.HardState}, "| 1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/1 10/1| term 1 vote 1 commit 8")

	f.append(hard(1, 1, 10), run(11, 11, 1)...)
	f.config.CommittedData = 0
	want(t, f.reopen(), "| 1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/1 10/1 11/1| term 1 vote 1 commit 10")
}
