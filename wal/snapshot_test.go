package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func readSnapshot(f *fixture, index, term uint64) (string, error) {
	r, m, err := f.OpenSnapshot(index, term)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if m.GetIndex() != index || m.GetTerm() != term || len(m.GetConfState().GetVoters()) != 3 {
		f.t.Fatalf("metadata is %v", m)
	}
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestASnapshotComesBackAsItWasWritten(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 5), run(1, 8, 1)...)
	n, err := f.WriteSnapshot(meta(5, 1), strings.NewReader(stateAt(5)))
	must(t, err)
	if info, err := os.Stat(snapshotID{5, 1}.path(f.dir)); err != nil || info.Size() != n {
		t.Fatalf("wrote %d bytes, the file: %v, %v", n, info, err)
	}
	must(t, f.MarkSnapshot(meta(5, 1)))
	want(t, f.reopen(), "5/1| 6/1 7/1 8/1| term 1 vote 0 commit 5")
	if s, err := readSnapshot(f, 5, 1); err != nil || s != stateAt(5) {
		t.Fatalf("read %d bytes, %v", len(s), err)
	}
}

func TestAFlippedByteAnywhereInASnapshotIsFound(t *testing.T) {
	f := create(t)
	f.write(3, 1)
	path := snapshotID{3, 1}.path(f.dir)
	good, err := os.ReadFile(path)
	must(t, err)
	for at := range good {
		bad := append([]byte(nil), good...)
		bad[at] ^= 0x10
		put(t, path, bad)
		if s, err := readSnapshotRaw(f.Log); err == nil {
			t.Fatalf("byte %d is flipped, and %d bytes were read without an error", at, len(s))
		}
	}
	for length := 0; length < len(good); length += 7 {
		put(t, path, good[:length])
		if _, err := readSnapshotRaw(f.Log); err == nil {
			t.Fatalf("cut to %d bytes, and read without an error", length)
		}
	}
	put(t, path, append(good, 0))
	if _, err := readSnapshotRaw(f.Log); err == nil {
		t.Fatal("a byte longer, and read without an error")
	}
}

func readSnapshotRaw(l *Log) ([]byte, error) {
	r, _, err := l.OpenSnapshot(3, 1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

type brokenState struct{ err error }

func (s brokenState) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(make([]byte, 1<<20))
	if err != nil {
		return int64(n), err
	}
	return int64(n), s.err
}

func TestAStateThatCannotBeReadLeavesNothingBehindAndTheLogAlive(t *testing.T) {
	f := create(t)
	broken := errors.New("the sender went away")
	if _, err := f.WriteSnapshot(meta(3, 1), brokenState{broken}); !errors.Is(err, broken) || errors.Is(err, ErrDead) {
		t.Fatalf("got %v", err)
	}
	if files, err := os.ReadDir(filepath.Join(f.dir, snapDirName)); err != nil || len(files) > 0 {
		t.Fatalf("left %v, %v", files, err)
	}
	f.append(nil, run(1, 1, 1)...)
}

func TestASnapshotNeedsIndexTermAndConfiguration(t *testing.T) {
	f := create(t)
	for _, m := range []*raftpb.SnapshotMetadata{nil, meta(0, 1), meta(1, 0), {Index: meta(1, 1).Index, Term: meta(1, 1).Term}} {
		if _, err := f.WriteSnapshot(m, strings.NewReader("")); err == nil {
			t.Errorf("wrote %v", m)
		}
		if err := f.MarkSnapshot(m); err == nil {
			t.Errorf("marked %v", m)
		}
	}
	if err := f.MarkSnapshot(meta(4, 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("marked a snapshot without a file: %v", err)
	}
}

func TestASnapshotThatWasNeverMarkedIsGoneAfterARestart(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 5), run(1, 8, 1)...)
	f.write(4, 1)
	put(t, filepath.Join(f.dir, snapDirName, "x.tmp"), []byte("half"))
	put(t, filepath.Join(walDir(f.dir), "1.tmp"), []byte("an old segment that was allocated"))
	want(t, f.reopen(), "| 1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1| term 1 vote 0 commit 5")
	if files, err := os.ReadDir(filepath.Join(f.dir, snapDirName)); err != nil || len(files) > 0 {
		t.Fatalf("left %v, %v", files, err)
	}
}

func TestDropSnapshotDeletesOnlyWhatDoesNotCount(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 8), run(1, 8, 1)...)
	f.snapshot(4, 1)
	f.write(6, 1)
	must(t, f.DropSnapshot(6, 1))
	must(t, f.DropSnapshot(6, 1))
	if _, err := readSnapshot(f, 6, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read a dropped snapshot: %v", err)
	}
	if err := f.DropSnapshot(4, 1); err == nil {
		t.Fatal("dropped the snapshot that counts")
	}
	if _, err := readSnapshot(f, 4, 1); err != nil {
		t.Fatal(err)
	}
}

func TestAnOlderSnapshotThatComesLateIsDropped(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 8), run(1, 8, 1)...)
	f.write(4, 1)
	f.snapshot(6, 1)
	must(t, f.MarkSnapshot(meta(4, 1)))
	must(t, f.MarkSnapshot(meta(6, 1)))
	if _, err := os.Stat(snapshotID{4, 1}.path(f.dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("it is there: %v", err)
	}
	f.snapshot(8, 1)
	must(t, f.MarkSnapshot(meta(6, 1))) // counts still
	want(t, f.reopen(), "8/1|| term 1 vote 0 commit 8")
}

// The commit index may be behind on the disk; a snapshot is of committed state all the same.
func TestASnapshotCountsBeforeTheCommitIndexThatCoversItIsWritten(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 0), run(1, 8, 1)...)
	f.append(hard(1, 1, 6))
	f.snapshot(6, 1)
	f.crash()
	want(t, f.open(), "6/1| 7/1 8/1| term 1 vote 1 commit 6")
}

func TestAReceivedSnapshotBringsItsTermWhenTheHardStateWasNotWritten(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 2), run(1, 3, 1)...)
	f.snapshot(9, 4)
	f.crash()
	want(t, f.open(), "9/4|| term 4 vote 0 commit 9")
	f.append(hard(4, 2, 10), run(10, 11, 4)...)
	want(t, f.reopen(), "9/4| 10/4 11/4| term 4 vote 2 commit 10")
}

func TestTheOlderSnapshotTakesOverFromADamagedOne(t *testing.T) {
	damages := map[string]func(path string){
		"flipped": func(path string) { flip(t, path, 300) },
		"cut":     func(path string) { must(t, os.Truncate(path, 100)) },
		"missing": func(path string) { must(t, os.Remove(path)) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			f := create(t)
			f.append(hard(1, 0, 8), run(1, 8, 1)...)
			f.snapshot(4, 1)
			f.snapshot(6, 1)
			f.close()
			damage(snapshotID{6, 1}.path(f.dir))
			want(t, f.open(), "4/1| 5/1 6/1 7/1 8/1| term 1 vote 0 commit 8")
			f.append(nil, run(9, 9, 1)...)
			want(t, f.reopen(), "4/1| 5/1 6/1 7/1 8/1 9/1| term 1 vote 0 commit 8")
			f.snapshot(6, 1) // made again
			want(t, f.reopen(), "6/1| 7/1 8/1 9/1| term 1 vote 0 commit 8")
			f.close()
			damage(snapshotID{4, 1}.path(f.dir))
			damage(snapshotID{6, 1}.path(f.dir))
			want(t, f.open(), "| 1/1 2/1 3/1 4/1 5/1 6/1 7/1 8/1 9/1| term 1 vote 0 commit 8") // nothing is deleted yet
		})
	}
}

func flip(t testing.TB, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	b[at] ^= 1
	put(t, path, b)
}

func TestARecordWithoutItsFileIsRefusedWhereNothingElseReachesAsFar(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 3), run(1, 3, 1)...)
	f.snapshot(2, 1)
	f.snapshot(9, 4) // received
	f.append(hard(4, 0, 9))
	f.close()
	must(t, os.Remove(snapshotID{9, 4}.path(f.dir)))
	f.refused("no snapshot to start from")
}

func TestAFullDiskStopsASnapshotButNotTheLog(t *testing.T) {
	f := create(t)
	if err := f.snapshotFailed(snapshotID{3, 1}, fmt.Errorf("write: %w", syscall.ENOSPC)); errors.Is(err, ErrDead) {
		t.Fatalf("got %v", err)
	}
	f.append(nil, run(1, 1, 1)...)
	if err := f.snapshotFailed(snapshotID{3, 1}, syscall.EIO); !errors.Is(err, ErrDead) || f.failed() != err {
		t.Fatalf("got %v", err)
	}
}

// Ten thousand appends with small segments: the disk holds no more than two snapshots and what they need, and the
// older one is always good to start from.
func TestTheDiskStaysBoundedAndTheOlderSnapshotReachesTheEnd(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 16 << 10}).fast()
	const appends, every = 10_000, 1_000
	for i := uint64(1); i <= appends; i++ {
		f.append(hard(1, 0, i), entry(i, 1))
		if i%every == 0 {
			f.snapshot(i, 1)
			if list, err := segments(walDir(f.dir)); err != nil || len(list) > 12 {
				t.Fatalf("%d segments after %d appends, %v", len(list), i, err)
			}
			if files, err := snapshotFiles(f.dir); err != nil || len(files) > 2 {
				t.Fatalf("%d snapshots after %d appends, %v", len(files), i, err)
			}
		}
	}
	f.append(hard(1, 0, appends+1), run(appends+1, appends+3, 1)...)
	r := f.reopen()
	want(t, r, "10000/1| 10001/1 10002/1 10003/1| term 1 vote 0 commit 10001")
	f.close()
	must(t, os.Remove(snapshotID{appends, 1}.path(f.dir)))
	r = f.open()
	if r.Snapshot.GetIndex() != appends-every || len(r.Entries) != every+3 || r.Entries[0].GetIndex() != appends-every+1 {
		t.Fatalf("from snapshot %d: %d entries", r.Snapshot.GetIndex(), len(r.Entries))
	}
	f.snapshot(appends+2, 1)
	want(t, f.reopen(), "10002/1| 10003/1| term 1 vote 0 commit 10002")
}

// What raft had dropped may have gone higher than what stands: no segment of it may be missed.
func TestPurgeWaitsUntilDroppedEntriesAreBehind(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 4 << 10}).fast()
	f.append(hard(1, 0, 0), run(1, 300, 1)...)
	f.append(hard(2, 0, 50), run(51, 60, 2)...)
	for i := uint64(61); i <= 299; i++ {
		f.append(hard(2, 0, i), entry(i, 2))
		if i%40 == 0 {
			f.snapshot(i, 2)
			f.reopen()
			f.fast()
		}
	}
	r := f.reopen()
	if r.Snapshot.GetIndex() != 280 || len(r.Entries) != 19 {
		t.Fatalf("recovered %s", describe(r))
	}
	list, err := segments(walDir(f.dir))
	must(t, err)
	if list[0].seq != 0 {
		t.Fatalf("segment %s is the first, but the first one holds entry 300 of term 1", list[0].name)
	}
	f.append(hard(2, 0, 0), run(300, 310, 2)...)
	f.snapshot(301, 2)
	f.snapshot(310, 2)
	if list, err = segments(walDir(f.dir)); err != nil || list[0].seq == 0 {
		t.Fatalf("nothing was deleted: %v, %v", list, err)
	}
}

// The record of a snapshot may stand before segments whose names are lower than its index.
func TestPurgeSparesTheSegmentWithTheOlderSnapshotsRecord(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 2 << 10})
	f.append(hard(1, 0, 3), run(1, 10, 1)...)
	f.snapshot(100, 2) // received
	f.append(hard(2, 0, 100))
	f.reopen() // etcd's writer now counts from entry 10 again
	for term := uint64(3); f.segments() < 3; term++ {
		f.append(hard(term, 1, 100))
	}
	f.append(hard(900, 0, 100), run(101, 130, 900)...)
	f.append(hard(900, 0, 130), run(131, 160, 900)...)
	f.append(hard(900, 0, 160), run(161, 190, 900)...)
	f.snapshot(150, 900)
	f.close()
	must(t, os.Remove(snapshotID{150, 900}.path(f.dir)))
	r := f.open()
	if r.Snapshot.GetIndex() != 100 || len(r.Entries) != 90 {
		t.Fatalf("recovered %s", describe(r))
	}
}

func TestAnOlderSnapshotThatTheLogDoesNotReachDoesNotCount(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 3), run(1, 3, 1)...)
	f.snapshot(2, 1)
	f.snapshot(9, 4) // received
	f.reopen()
	if len(f.kept) != 1 || f.kept[0].index != 9 {
		t.Fatalf("%v count", f.kept)
	}
}
