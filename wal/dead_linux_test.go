package wal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// breakFiles puts a device in the place of the log's open segments: /dev/full fails to write, /dev/null to sync.
func breakFiles(f *fixture, device string) {
	f.t.Helper()
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	must(f.t, err)
	defer d.Close()
	links, err := filepath.Glob("/proc/self/fd/*")
	must(f.t, err)
	broken := 0
	for _, link := range links {
		name, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(name, walDir(f.dir)) || !strings.HasSuffix(name, ".wal") {
			continue
		}
		fd := 0
		for _, c := range filepath.Base(link) {
			fd = fd*10 + int(c-'0')
		}
		must(f.t, syscall.Dup3(int(d.Fd()), fd, syscall.O_CLOEXEC))
		broken++
	}
	if broken == 0 {
		f.t.Fatal("no segment is open")
	}
}

func TestTheFirstFailureIsTheLast(t *testing.T) {
	for device, want := range map[string]error{"/dev/full": syscall.ENOSPC, "/dev/null": syscall.EINVAL} {
		for name, fail := range map[string]func(f *fixture) error{
			"append": func(f *fixture) error { return f.Append(hard(1, 1, 4), run(6, 6, 1)) },
			"vote":   func(f *fixture) error { return f.Append(hard(2, 1, 3), nil) },
			"mark":   func(f *fixture) error { return f.MarkSnapshot(meta(3, 1)) },
			"sync":   func(f *fixture) error { return f.Sync() },
			"close":  func(f *fixture) error { return f.Close() },
		} {
			t.Run(device+" "+name, func(t *testing.T) {
				f := create(t)
				f.append(hard(1, 1, 3), run(1, 5, 1)...)
				f.append(hard(1, 1, 4)) // kept in memory
				f.write(3, 1)
				breakFiles(f, device)
				first := fail(f)
				if !errors.Is(first, ErrDead) || !errors.Is(first, want) {
					t.Fatalf("got %v, want %v", first, want)
				}
				for name, err := range map[string]error{
					"append": f.Append(nil, run(6, 6, 1)),
					"mark":   f.MarkSnapshot(meta(3, 1)),
					"sync":   f.Sync(),
					"drop":   f.DropSnapshot(3, 1),
					"close":  f.Close(),
				} {
					if err != first {
						t.Errorf("%s: got %v, want the first error, %v", name, err, first)
					}
				}
				if _, err := f.WriteSnapshot(meta(4, 1), strings.NewReader("")); err != first {
					t.Errorf("write snapshot: %v", err)
				}
				if _, _, err := f.OpenSnapshot(3, 1); err != first {
					t.Errorf("open snapshot: %v", err)
				}
			})
		}
	}
}

// What was answered for before the failure is there afterwards.
func TestADeadLogOpensAgainWithAllThatWasAcknowledged(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 3), run(1, 5, 1)...)
	breakFiles(f, "/dev/full")
	if err := f.Append(nil, run(6, 9, 1)); err == nil {
		t.Fatal("wrote to a full disk")
	}
	f.Close()
	want(t, f.open(), "| 1/1 2/1 3/1 4/1 5/1| term 1 vote 1 commit 3")
}

func TestADirectoryThatCannotBeWrittenKillsTheLogAtASnapshot(t *testing.T) {
	f := create(t)
	must(t, os.RemoveAll(filepath.Join(f.dir, snapDirName)))
	if _, err := f.WriteSnapshot(meta(3, 1), strings.NewReader("")); !errors.Is(err, ErrDead) {
		t.Fatalf("got %v", err)
	}
}

func TestOnlyTheFirstErrorIsKept(t *testing.T) {
	f := create(t)
	first := f.die(syscall.EIO)
	if second := f.die(syscall.ENOSPC); second != first {
		t.Fatalf("got %v after %v", second, first)
	}
}

// A deleted file takes its space until it is closed.
func TestDeletedSegmentsAreClosed(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 4 << 10})
	for i := uint64(1); i <= 500; i++ {
		f.append(hard(1, 0, i), entry(i, 1))
		if i%100 == 0 {
			f.snapshot(i, 1)
		}
	}
	links, err := filepath.Glob("/proc/self/fd/*")
	must(t, err)
	for _, link := range links {
		if name, err := os.Readlink(link); err == nil && strings.HasPrefix(name, f.dir) && strings.HasSuffix(name, "(deleted)") {
			t.Errorf("%s is open", name)
		}
	}
}

func TestALogThatCantNoteHowFarItReachesIsDead(t *testing.T) {
	f := create(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	must(t, f.note.Close())
	f.note = full
	if err := f.Append(hard(1, 1, 0), run(1, 1, 1)); !errors.Is(err, ErrDead) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
}
