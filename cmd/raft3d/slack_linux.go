package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may end a sleep of this process's threads, in nanoseconds; kernelSlack is what it
// takes where nobody has said anything (prctl(2), PR_SET_TIMERSLACK).
//
// Go's monitor thread sleeps 20 µs at a time while anything goes on, to see whether a thread is stuck in a system call.
// At the kernel's 50 µs it wakes up to six times for one write, on each node; that was a quarter of the write's CPU
// (docs/decisions/0018). Every timer may be so late, which is a twentieth of a tick.
const (
	timerSlack  = 1_000_000
	kernelSlack = 50_000
)

// coarseTimers has the process run with timerSlack. A thread has the slack of the one that made it, and Go's monitor is
// there before main, so the process begins once more, as the same one. It returns nil where that is done, and where
// somebody has chosen another slack, such as systemd's TimerSlackNSec. An error costs CPU and nothing else.
func coarseTimers() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("read the timer slack: %w", err)
	}
	if slack != kernelSlack {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	err = fmt.Errorf("execute %s once more: %w", self, unix.Exec(self, os.Args, os.Environ()))
	if back := unix.Prctl(unix.PR_SET_TIMERSLACK, kernelSlack, 0, 0, 0); back != nil { // as all other threads have it
		err = errors.Join(err, fmt.Errorf("set the timer slack back: %w", back))
	}
	return err
}
