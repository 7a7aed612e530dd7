//go:build !unix

package main

import (
	"os"
	"syscall"
)

// childAttributes are the usual ones here.
func childAttributes() *syscall.SysProcAttr { return nil }

// endGently kills: there is no signal here that a node could end in order on, and its log stands a kill.
func endGently(p *os.Process) error { return p.Kill() }
