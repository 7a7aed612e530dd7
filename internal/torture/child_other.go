//go:build unix && !linux

package main

import "syscall"

// childAttributes keep a Ctrl-C for the harness from reaching the child.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
