package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	acts["slack"] = func() {
		fmt.Println("begun")
		if os.Getenv("RAFT3D_TEST_GONE") != "" {
			fmt.Println(os.Remove(os.Args[0]))
		}
		if err := coarseTimers(); err != nil {
			fmt.Println(err)
		}
		runtime.LockOSThread()
		slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		fmt.Println(slack, err, os.Getpid(), os.Args[1:])
	}
}

func TestANodeBeginsOnceMoreWithCoarseTimersUnlessTheSlackIsChosen(t *testing.T) {
	for _, c := range []struct{ given, want, starts int }{
		{kernelSlack, timerSlack, 2},
		{kernelSlack + 1, kernelSlack + 1, 1},
		{timerSlack, timerSlack, 1},
	} {
		cmd := exec.Command(os.Args[0], "-id=node1", "a b")
		cmd.Env = append(os.Environ(), actAsRaft3d+"=slack")
		var out strings.Builder
		cmd.Stdout = &out
		runtime.LockOSThread() // a process has the slack of the thread that started it
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(c.given), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		err := cmd.Start()
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, kernelSlack, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		want := strings.Repeat("begun\n", c.starts) + fmt.Sprintln(c.want, error(nil), cmd.Process.Pid, []string{"-id=node1", "a b"})
		if out.String() != want {
			t.Errorf("with %d ns:\n%swanted:\n%s", c.given, out.String(), want)
		}
	}
}

func TestANodeThatCannotBeginOnceMoreSaysSoAndGoesOn(t *testing.T) {
	self := filepath.Join(t.TempDir(), "raft3d")
	program, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(self, program, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), actAsRaft3d+"=slack", "RAFT3D_TEST_GONE=1")
	out, err := cmd.Output()
	want := fmt.Sprintf("begun\n<nil>\nexecute %s once more: no such file or directory\n%d <nil> %d []\n", self, kernelSlack, cmd.Process.Pid)
	if err != nil || string(out) != want {
		t.Errorf("%v:\n%swanted:\n%s", err, out, want)
	}
}
