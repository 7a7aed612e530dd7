//go:build unix

package systemtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is one run of a program.
type process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	output string        // file with what it wrote to stdout and stderr
	ended  chan struct{} // closed when it has ended and been waited for
}

// startProcess runs the program with env in addition to this process's own. Its output is shown if the test fails.
func startProcess(t testing.TB, name, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), filepath.Base(name)+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := &process{t: t, name: name, cmd: exec.Command(program, args...), output: out.Name(), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = childAttributes()
	started := make(chan error)
	forks <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s (%s) wrote:\n%s", p.name, p.cmd.ProcessState, tail(p.log(), 60))
		}
	})
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended already
	<-p.ended
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %v to %s: %v; it wrote:\n%s", s, p.name, err, tail(p.log(), 20))
	}
}

// exit waits until the process ends by itself and returns its status: -1 after a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s has not ended within %v; it wrote:\n%s", p.name, patience, tail(p.log(), 60))
	}
	return p.cmd.ProcessState.ExitCode()
}

// log is what the process has written until now.
func (p *process) log() string {
	b, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// awaitLog waits until the process, which goes on running, has written this. A node can answer before it has.
func (p *process) awaitLog(words string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s writes %q", p.name, words), func() error {
		if text := p.log(); !strings.Contains(text, words) {
			return errors.New(tail(text, 20))
		}
		return nil
	})
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// runToEnd runs the binary, which must end by itself, and returns its exit status and what it wrote.
func runToEnd(t testing.TB, env []string, args ...string) (status int, output string) {
	t.Helper()
	p := startProcess(t, "raft3d "+strings.Join(args, " "), t.TempDir(), env, binary, args...)
	status = p.exit()
	return status, p.log()
}
