//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// process is one run of a program. Its owner calls kill in the end.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended and been waited for
}

// forker starts processes from one thread that lives as long as it does: Linux ends a child with the thread that made it
// (see childAttributes), not with the process.
type forker struct {
	calls chan func()
	ended chan struct{}
}

func newForker() *forker {
	f := &forker{make(chan func()), make(chan struct{})}
	go func() {
		defer close(f.ended)
		runtime.LockOSThread()
		for call := range f.calls {
			call()
		}
	}()
	return f
}

func (f *forker) close() {
	close(f.calls)
	<-f.ended
}

// start runs a program, which appends what it says to the file.
func (f *forker) start(output string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, childAttributes()
	started := make(chan error)
	f.calls <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as kill -9 does, also one that is stopped, and returns when it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended already
	<-p.ended
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // the same
