package systemtest

import "syscall"

// childAttributes have the kernel kill a child whose test has died, and keep a Ctrl-C for the test from reaching it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
