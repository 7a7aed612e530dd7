package main

import "syscall"

// childAttributes have the kernel kill a child whose harness has died, and keep a Ctrl-C for the harness from reaching it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
