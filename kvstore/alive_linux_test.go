package kvstore

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// killed leaves the directory of a store as a kill of its process does.
func killed(t *testing.T) (dir string, applied uint64) {
	t.Helper()
	dir = t.TempDir()
	s := openStore(t, dir, Options{})
	busyWork(t, s)
	if err := s.catchUp(); err != nil { // as for a reader
		t.Fatal(err)
	}
	return dir, kill(t, s)
}

// kill leaves the store as a kill of its process does, and returns what it is to have when it is opened again.
func kill(t *testing.T, s *Store) (applied uint64) {
	t.Helper()
	applied = s.head.Applied
	if err := s.current.db.Close(); err != nil {
		t.Fatal(err)
	}
	if s.alive == nil { // Linux before 6.8 does not tell mounts apart
		applied = 0
	} else if err := s.alive.Close(); err != nil {
		t.Fatal(err)
	}
	s.closed = true
	return applied
}

func busyWork(t *testing.T, s *Store) {
	t.Helper()
	for i := range 5 {
		apply(t, s, uint64(i)+1, encode(t, printer(farm.ID(fmt.Sprint("p", i))), farm.Stamp{At: farmtest.Start}))
	}
}

func reopened(t *testing.T, dir string) uint64 {
	t.Helper()
	s := openStore(t, dir, Options{})
	defer s.Close()
	applied, _ := s.Applied()
	return applied
}

func TestAStateOutlivesAKillOfItsProcess(t *testing.T) {
	dir, applied := killed(t)
	if got := reopened(t, dir); got != applied {
		t.Fatalf("applied %d after the kill, want %d (0 only where the kernel cannot tell)", got, applied)
	}
	if got := reopened(t, dir); got != 0 {
		t.Fatalf("applied %d after an end in order without a seal, want a new state", got)
	}
}

func TestAStateThatWasReadOutlivesTheNextKillToo(t *testing.T) {
	for _, read := range []bool{true, false} {
		dir, want := killed(t)
		s := openStore(t, dir, Options{})
		if read {
			if err := s.Snapshot(func(uint64, []byte, io.WriterTo) error { return nil }); err != nil {
				t.Fatal(err)
			}
		} else {
			want = 0 // it may have been the state that the process died of
		}
		kill(t, s)
		if got := reopened(t, dir); got != want {
			t.Errorf("read %v: applied %d after the second kill, want %d", read, got, want)
		}
	}
}

func TestAStateThatAnybodyTouchedIsBuiltAnew(t *testing.T) {
	state := func(dir string) string { return filepath.Join(dir, stateFile) }
	for name, touch := range map[string]func(dir string) error{
		"a byte is another": func(dir string) error {
			f, err := os.OpenFile(state(dir), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{1}, 5000)
			return err
		},
		"its time is set back": func(dir string) error {
			info, err := os.Stat(state(dir))
			if err != nil {
				return err
			}
			return os.Chtimes(state(dir), time.Time{}, info.ModTime())
		},
		"it is a copy": func(dir string) error {
			b, err := os.ReadFile(state(dir))
			if err != nil {
				return err
			}
			if err := os.Remove(state(dir)); err != nil {
				return err
			}
			return os.WriteFile(state(dir), b, 0o600)
		},
		"the machine has started anew": func(dir string) error {
			path := filepath.Join(dir, aliveFile)
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len("raft3d-alive 1 boot=")] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"it is gone":     func(dir string) error { return os.Remove(state(dir)) },
		"its note is":    func(dir string) error { return os.Remove(filepath.Join(dir, aliveFile)) },
		"a torn note is": func(dir string) error { return os.Truncate(filepath.Join(dir, aliveFile), 40) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := killed(t)
			if err := touch(dir); err != nil {
				t.Fatal(err)
			}
			if got := reopened(t, dir); got != 0 {
				t.Fatalf("applied %d, want a new state", got)
			}
		})
	}
}
