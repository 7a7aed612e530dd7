//go:build unix

// Package systemtest runs the real binary as real processes and breaks them: it holds what Raft3D promises to
// somebody who has nothing but a shell.
//
// TestMain builds the binary once. There are four nouns: a process (one run of the binary, its output kept in a
// file), a node (a name, its addresses, its directory, and the command line that starts it, always the same), a
// cluster of them, and a load (writers that note what was acknowledged). Whatever a test starts is ended by its
// process id when the test ends, and by the kernel if the test dies; ports and directories are free ones. A call is
// made once: nothing here tries again behind a test's back.
//
// Nothing but its own tests uses this package.
package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "raft3d-systemtest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "raft3d")
	if out, err := exec.Command("go", "build", "-o", binary, "raft3d/cmd/raft3d").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build raft3d: %v\n%s", err, out)
		return 1
	}
	go runForks()
	defer close(forks)
	return m.Run()
}

// forks are executed by one thread that lives as long as the tests: Linux ends a child with the thread that made it
// (see childAttributes), not with the process.
var forks = make(chan func())

func runForks() {
	runtime.LockOSThread()
	for fork := range forks {
		fork()
	}
}
