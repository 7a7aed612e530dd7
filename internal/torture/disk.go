//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"raft3d/client"
)

const (
	diskBytes = 160 << 20 // of the file system of each node: two segments of the log, two snapshots, and some
	minFree   = 16 << 20  // below which a node creates nothing
	diskTime  = 20 * time.Second
)

// diskHarm is one way in which a disk fails.
type diskHarm struct {
	name string
	do   func(context.Context, *campaign, *rand.Rand, *node) error

	strace, mount bool // what it needs
}

var diskHarms = []diskHarm{
	{"EIO from fsync", failing("fsync,fdatasync", "error=EIO", "input/output error"), true, false},
	{"ENOSPC from fsync", failing("fsync,fdatasync", "error=ENOSPC", "no space left on device"), true, false},
	{"EIO from write to the log", failing("write,pwrite64", "error=EIO", "input/output error"), true, false},
	{"ENOSPC from write to the log", failing("write,pwrite64", "error=ENOSPC", "no space left on device"), true, false},
	{"EIO from rename of a snapshot", failing("rename,renameat,renameat2", "error=EIO", "input/output error"), true, false},
	{"each fsync takes 200 ms", slowly, true, false},
	{"a disk that is nearly full", nearlyFull, false, true},
	{"a disk that is full", full, false, true},
}

// disk runs the cycles of failing disks, each kind in turn.
func (o options) disk(ctx context.Context, f *forker, binary, dir string, figures *figures) error {
	has := func(program string) bool {
		_, err := exec.LookPath(program)
		return err == nil
	}
	traces := has("strace")
	if !traces {
		figures.untested = append(figures.untested, "system calls that fail: there is no strace here")
	}
	place := func(n *node) error { return mountSmall(ctx, filepath.Dir(n.dir), n) }
	flags := append([]string{fmt.Sprintf("-min-free=%d", minFree)}, timing...)
	c, err := newCluster(ctx, f, binary, dir, o.nodes, place, flags...)
	mounts := true
	if c != nil && err != nil && ctx.Err() == nil && len(c.nodes) == 0 { // not even the first directory could be made
		mounts = false
		figures.untested = append(figures.untested, "small disks that fill: "+err.Error())
		c, err = newCluster(ctx, f, binary, dir, o.nodes, nil, flags...)
	}
	if err != nil {
		return err
	}
	defer c.close()
	var possible []diskHarm
	for _, h := range diskHarms {
		if (!h.strace || traces) && (!h.mount || mounts) {
			possible = append(possible, h)
		}
	}
	if len(possible) == 0 {
		return nil
	}
	g, err := o.campaign(c, figures)
	if err != nil {
		return err
	}
	defer g.caller.all.Close()
	g.caller.failing.Store(true)
	for number := 1; number <= o.diskCycles; number++ {
		h := possible[(number-1)%len(possible)]
		if err := g.cycle(ctx, number, func(ctx context.Context, rng *rand.Rand) (string, error) {
			sleep(ctx, upTo(rng, 300*time.Millisecond))
			victim := c.nodes[rng.IntN(len(c.nodes))]
			if leader := c.leader(ctx); leader != nil && rng.IntN(2) == 0 {
				victim = leader
			}
			return h.name, h.do(ctx, g, rng, victim)
		}); err != nil {
			return g.keepDisks(dir, number, err)
		}
	}
	return g.keepDisks(dir, 0, g.compareFeeds(ctx))
}

// keepDisks is keep where what is on the disks would go with them.
func (g *campaign) keepDisks(dir string, number int, err error) error {
	var wrong *violation
	if !errors.As(err, &wrong) {
		return err
	}
	g.cluster.kill(g.cluster.nodes...)
	for _, n := range g.cluster.nodes {
		if failed := os.CopyFS(filepath.Join(dir, "kept", n.name), os.DirFS(n.dir)); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return g.keep(dir, number, err)
}

// mountSmall gives a node a file system of its own, which goes with the cluster.
func mountSmall(ctx context.Context, dir string, n *node) error {
	if out, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", diskBytes), "raft3d-torture", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount a tmpfs: %w: %s", err, bytes.TrimSpace(out))
	}
	n.unmounted = func() { _ = exec.Command("umount", "-l", dir).Run() } // what stays is seen by who removes the directory
	return nil
}

// trace has strace change what some system calls of a node come to, from now on.
func (g *campaign) trace(ctx context.Context, n *node, calls, inject string, paths ...string) (*process, error) {
	pid := n.run.Load().cmd.Process.Pid
	args := []string{"-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(pid), "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + inject}
	for _, p := range paths {
		args = append(args, "-P", p)
	}
	output := filepath.Join(g.cluster.dir, "strace.log")
	p, err := g.cluster.forker.start(output, "strace", args...)
	if err != nil {
		return nil, err
	}
	err = g.cluster.await(ctx, "strace to trace "+n.name, func() error {
		if !n.running() {
			return nil // its first call has failed already
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && bytes.Contains(status, []byte("TracerPid:\t0\n")) {
			err = fmt.Errorf("it doesn't yet")
			if !p.running() {
				err = fmt.Errorf("it has ended: see %s", output)
			}
		}
		return err
	})
	if err != nil {
		p.kill()
	}
	return p, err
}

// failing is the harm of system calls that fail: the node must stop and say why, and come back when it is started again.
func failing(calls, inject, says string) func(context.Context, *campaign, *rand.Rand, *node) error {
	return func(ctx context.Context, g *campaign, rng *rand.Rand, n *node) error {
		when := fmt.Sprintf(":when=%d", 1+rng.IntN(3)) // of each thread
		var paths []string
		rename := strings.HasPrefix(calls, "rename")
		switch {
		case rename:
			when = ""
		case strings.HasPrefix(calls, "write"):
			var err error
			if paths, err = filepath.Glob(filepath.Join(n.dir, "wal", "*")); err != nil {
				return err
			}
		}
		at := logSize(n)
		p, err := g.trace(ctx, n, calls, inject+when, paths...)
		if err != nil {
			return err
		}
		defer p.kill()
		if rename {
			_, _, _, _ = g.cluster.send(ctx, n, "POST", "/debug/snapshot", nil) // its answer is not what matters
		}
		return g.stops(ctx, n, at, says)
	}
}

// stops waits until the node has ended by itself, and looks whether it says why.
func (g *campaign) stops(ctx context.Context, n *node, at int64, says string) error {
	p := n.run.Load()
	timer := time.NewTimer(diskTime)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		return &violation{[]string{fmt.Sprintf("%s goes on for %v with a disk that has failed; see %s", n.name, diskTime, n.log)}}
	case <-ctx.Done():
		return ctx.Err()
	}
	n.killed = true
	n.proxy.Down()
	text, err := logSince(n, at)
	if err != nil {
		return err
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(text, says) {
		return &violation{[]string{fmt.Sprintf("%s ended with status %d and did not say %q:\n%s", n.name, code, says, text)}}
	}
	return nil
}

func logSize(n *node) int64 {
	info, err := os.Stat(n.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

func logSince(n *node, at int64) (string, error) {
	f, err := os.Open(n.log)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, at, 1<<20))
	return string(text), err
}

// slowly is the harm of a disk that takes its time: nobody stops for that.
func slowly(ctx context.Context, g *campaign, _ *rand.Rand, n *node) error {
	p, err := g.trace(ctx, n, "fsync,fdatasync", "delay_enter=200000")
	if err != nil {
		return err
	}
	defer p.kill()
	sleep(ctx, 3*time.Second)
	p.signal(syscall.SIGTERM) // it lets go of the node
	select {
	case <-p.ended:
	case <-ctx.Done():
	}
	return nil
}

// ballast fills the node's disk but for so many bytes, and returns what empties it.
func ballast(n *node, leave int64) (remove func() error, err error) {
	path := filepath.Join(filepath.Dir(n.dir), "ballast")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return nil, err
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	piece := make([]byte, 1<<20)
	for written := int64(0); written < free-leave; {
		k, err := f.Write(piece[:min(int64(len(piece)), free-leave-written)])
		written += int64(k)
		if err != nil { // the node was faster
			break
		}
	}
	return func() error { return os.Remove(path) }, nil
}

// nearlyFull is the harm of a disk with little room: what creates is refused with 507, all else goes on.
func nearlyFull(ctx context.Context, g *campaign, _ *rand.Rand, n *node) error {
	remove, err := ballast(n, minFree/2)
	if err != nil {
		return err
	}
	create := func(want int) error {
		return g.cluster.await(ctx, fmt.Sprintf("%s to answer a creation with %d", n.name, want), func() error {
			got := g.caller.once(ctx, n, client.Request{Method: "POST", Path: client.PrintersPath, Body: client.NewPrinter{Company: "Full", Model: "disk"}}, "")
			if got.status != want {
				return fmt.Errorf("%d %s %w", got.status, got.body, got.err)
			}
			return nil
		})
	}
	err = create(http.StatusInsufficientStorage)
	if err == nil {
		err = g.cluster.await(ctx, n.name+" to answer a read", func() error {
			got := g.caller.once(ctx, n, client.Request{Method: "GET", Path: client.FilamentsPath}, "")
			if got.status != http.StatusOK {
				return fmt.Errorf("%d %s %w", got.status, got.body, got.err)
			}
			return nil
		})
	}
	if err := remove(); err != nil {
		return err
	}
	if err == nil {
		err = create(http.StatusCreated)
	}
	if err != nil && ctx.Err() == nil {
		err = &violation{[]string{err.Error()}}
	}
	return err
}

// full is the harm of a disk without any room: the node may go on for a while in what it has, and else stops and says so.
func full(ctx context.Context, g *campaign, _ *rand.Rand, n *node) error {
	at := logSize(n)
	remove, err := ballast(n, 0)
	if err != nil {
		return err
	}
	_, _, _, _ = g.cluster.send(ctx, n, "POST", "/debug/snapshot", nil) // there is no room for it
	wait, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	select {
	case <-n.run.Load().ended:
		err = g.stops(ctx, n, at, "no space left on device")
		g.figures.disks = append(g.figures.disks, "a node whose disk was full stopped and said so")
	case <-wait.Done():
		g.figures.disks = append(g.figures.disks, "a node whose disk was full went on")
	}
	if failed := remove(); failed != nil {
		return failed
	}
	return err
}
