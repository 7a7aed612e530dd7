package main

import (
	"os"
	"syscall"
)

// childAttributes put a node of dev in a process group of its own, so that Ctrl-C reaches it once, through dev; and
// have the kernel end it if dev is killed, so that none is left over.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func endGently(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
