package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nodes are three processes of one system, on loopback.
type nodes struct {
	dir     string
	clients []string // host:port to call, by node
	peers   []string
	command func(n *nodes, node int) *exec.Cmd
	procs   []*exec.Cmd // nil: it does not run
}

// startNodes starts three of them. Those that it returns with an error are to be ended too.
func startNodes(at string, command func(n *nodes, node int) *exec.Cmd) (*nodes, error) {
	dir, err := os.MkdirTemp(at, "nodes")
	if err != nil {
		return nil, err
	}
	n := &nodes{dir: dir, command: command, procs: make([]*exec.Cmd, 3)}
	var held []net.Listener
	for range 6 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		held = append(held, l)
	}
	for i, l := range held {
		if i < 3 {
			n.clients = append(n.clients, l.Addr().String())
		} else {
			n.peers = append(n.peers, l.Addr().String())
		}
		l.Close()
	}
	for i := range n.procs {
		if err := n.run(i); err != nil {
			return n, err
		}
	}
	return n, nil
}

// run starts a node, and keeps what it says in its directory.
func (n *nodes) run(node int) error {
	cmd := n.command(n, node)
	log, err := os.OpenFile(filepath.Join(n.dir, fmt.Sprint("log", node)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.procs[node] = cmd
	return nil
}

func (n *nodes) kill(node int) {
	if cmd := n.procs[node]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed, so it says so
		n.procs[node] = nil
	}
}

// terminate ends a node in order.
func (n *nodes) terminate(node int) {
	if cmd := n.procs[node]; cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // how it ends is not what is measured
		n.procs[node] = nil
	}
}

func (n *nodes) end() {
	for i := range n.procs {
		n.kill(i)
	}
	os.RemoveAll(n.dir)
}

// usage is what the three have used so far.
type usage struct {
	cpu                 time.Duration
	written             int64 // bytes that went to the disk
	resident, anonymous int64 // bytes
}

func (n *nodes) usage() (u usage) {
	for _, cmd := range n.procs {
		if cmd == nil {
			continue
		}
		proc := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))
		if b, err := os.ReadFile(filepath.Join(proc, "stat")); err == nil {
			fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
			for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
				ticks, _ := strconv.ParseInt(field, 10, 64)
				u.cpu += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
		u.written += field(filepath.Join(proc, "io"), "write_bytes:")
		u.resident += field(filepath.Join(proc, "status"), "VmRSS:") * 1024
		u.anonymous += field(filepath.Join(proc, "status"), "RssAnon:") * 1024
	}
	return u
}

func field(path, name string) int64 {
	b, _ := os.ReadFile(path)
	_, rest, _ := strings.Cut(string(b), name)
	value, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	v, _ := strconv.ParseInt(strings.Fields(value + " 0")[0], 10, 64)
	return v
}

var errNotYet = errors.New("it did not happen within a minute")

// until waits for a condition.
func until(ctx context.Context, what string, is func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errNotYet)
	defer cancel()
	for !is(ctx) {
		if !sleep(ctx, 2*time.Millisecond) {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}
