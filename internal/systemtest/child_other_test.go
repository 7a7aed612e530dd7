//go:build unix && !linux

package systemtest

import "syscall"

// childAttributes leave a child in the group of its test: a Ctrl-C for the test ends it, too.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
