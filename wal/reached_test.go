package wal

import (
	"os"
	"path/filepath"
	"testing"
)

// Zeros are what a log has behind its end, so that it lost some of it can't be seen there.
func TestALogThatForgotItsLastUnitsIsRefused(t *testing.T) {
	f := create(t)
	for i := uint64(1); i <= 4; i++ {
		f.append(hard(1, 1, i), entry(i, 1))
	}
	f.kill()
	c := inspect(t, f.dir)
	for n := range len(c.ends) - headRecords {
		put(t, c.path, c.zeroed(c.begin(n), int64(len(c.bytes))))
		f.refused("though unit 4 was on the disk")
	}
	put(t, c.path, c.bytes)
	want(t, f.open(), "| 1/1 2/1 3/1 4/1| term 1 vote 1 commit 4")
}

// What is under way at a crash was not on the disk yet, so nothing says that it was.
func TestAUnitThatNoNoteIsOfMayBeTorn(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 0), run(1, 3, 1)...)
	note, err := os.ReadFile(filepath.Join(f.dir, reachedName))
	must(t, err)
	f.append(hard(1, 1, 3), entry(4, 1))
	f.kill()
	put(t, filepath.Join(f.dir, reachedName), note)
	c := inspect(t, f.dir)
	begin := c.begin(4)
	put(t, c.path, c.zeroed(begin, int64(len(c.bytes))))
	want(t, f.open(), "| 1/1 2/1 3/1| term 1 vote 1 commit 0")
	f.append(hard(1, 1, 3), entry(4, 1))
	f.kill()
	c = inspect(t, f.dir)
	put(t, c.path, c.zeroed(c.ends[len(c.ends)-3], int64(len(c.bytes))))
	f.refused("the log ends with unit")
	must(t, os.Remove(filepath.Join(f.dir, reachedName))) // so that the directory can be left
	f.open()
}

func TestASnapshotThatTheLogForgotIsRefused(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 3), run(1, 3, 1)...)
	f.snapshot(9, 4) // received
	f.kill()
	c := inspect(t, f.dir)
	put(t, c.path, c.zeroed(c.ends[len(c.ends)-2], int64(len(c.bytes))))
	f.refused("no record of snapshot 9")
	put(t, c.path, c.bytes)
	want(t, f.open(), "9/4|| term 4 vote 0 commit 9")
}

func TestANoteThatCantBeBelievedProvesNothing(t *testing.T) {
	f := create(t)
	path := filepath.Join(f.dir, reachedName)
	for name, spoil := range map[string]func([]byte){
		"missing":           func([]byte) { must(t, os.Remove(path)) },
		"empty":             func([]byte) { put(t, path, nil) },
		"with another bit":  func(b []byte) { b[60] ^= 1; put(t, path, b) },
		"longer":            func(b []byte) { put(t, path, append(b, 0)) },
		"of another member": func([]byte) { put(t, path, reached{unit: 1 << 40}.encode(testIdentity.MemberID+1)) },
	} {
		f.close()
		b, err := os.ReadFile(path)
		must(t, err)
		spoil(b)
		if _, err := Read(f.dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.open()
		if r, err := readReached(f.dir, testIdentity.MemberID); err != nil || r != (reached{f.Incarnation(), f.unit, 0}) {
			t.Errorf("%s: the new note says %+v (%v), the log is at unit %d", name, r, err, f.unit)
		}
	}
}

func TestAnOldIncarnationFileIsRefused(t *testing.T) {
	f := create(t)
	path := filepath.Join(f.dir, incarnationName)
	old, err := os.ReadFile(path)
	must(t, err)
	f.reopen()
	f.close()
	put(t, path, old)
	f.refused("an older copy of it")
}

func BenchmarkNote(b *testing.B) {
	f := create(b)
	for b.Loop() {
		f.unit++
		must(b, f.noteReached())
	}
}
