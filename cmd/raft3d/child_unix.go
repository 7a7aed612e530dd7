//go:build unix && !linux

package main

import (
	"os"
	"syscall"
)

// childAttributes put a node of dev in a process group of its own, so that Ctrl-C reaches it once, through dev.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func endGently(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
