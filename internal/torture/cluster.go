//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"raft3d/internal/torture/link"
)

// node is one member, with the command line that starts it each time. The goroutine that runs a cycle starts and ends
// it; any may ask for its addresses and whether it runs.
type node struct {
	name      string
	http      string // host:port
	dir, log  string
	args      []string
	proxy     *link.Proxy // where the others reach it
	run       atomic.Pointer[process]
	paused    bool
	killed    bool   // by us
	unmounted func() // nil: its directory is on no file system of its own
}

func (n *node) running() bool {
	p := n.run.Load()
	return p != nil && p.running()
}

// cluster is the nodes of one run.
type cluster struct {
	nodes  []*node
	dir    string
	forker *forker
	binary string
	client *http.Client
}

const (
	patience = 60 * time.Second // until a cluster that nothing is done to any more must be well
	pollTime = 20 * time.Millisecond
)

// newCluster starts so many nodes and returns when all are voters. place, where it is not nil, makes a node's directory.
func newCluster(ctx context.Context, f *forker, binary, dir string, count int, place func(*node) error, flags ...string) (c *cluster, err error) {
	c = &cluster{dir: dir, forker: f, binary: binary, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	ports, err := freePorts(3 * count)
	if err != nil {
		return c, err
	}
	for i := range count {
		address := func(k int) string { return fmt.Sprintf("127.0.0.1:%d", ports[3*i+k]) }
		n := &node{name: fmt.Sprintf("node%d", i+1), http: address(0), proxy: link.New(address(2), address(1))}
		n.dir, n.log = filepath.Join(dir, n.name, "data"), filepath.Join(dir, n.name+".log")
		if err := os.MkdirAll(filepath.Dir(n.dir), 0o700); err != nil {
			return c, err
		}
		if place != nil {
			if err := place(n); err != nil {
				return c, err
			}
		}
		n.args = append([]string{"-id=" + n.name, "-http=" + n.http, "-raft=" + address(1), "-raft-adv=" + address(2), "-data=" + n.dir}, flags...)
		if i == 0 {
			n.args = append(n.args, "-bootstrap")
		} else {
			n.args = append(n.args, "-join="+c.nodes[0].http)
		}
		c.nodes = append(c.nodes, n)
		if err := c.start(n); err != nil {
			return c, err
		}
		if err := c.await(ctx, n.name+" to be a voter", func() error { return c.voters(ctx, i+1) }); err != nil {
			return c, err
		}
	}
	return c, nil
}

// freePorts are ports that nobody listens on, below those that the system gives to those who call: a node that is down
// for a while must not find its port taken by somebody's connection.
func freePorts(count int) (ports []int, err error) {
	for range 10000 {
		port := 10000 + rand.IntN(22000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if !slices.Contains(ports, port) {
			if ports = append(ports, port); len(ports) == count {
				return ports, nil
			}
		}
	}
	return nil, fmt.Errorf("no %d free ports between 10000 and 32000", count)
}

func (c *cluster) start(n *node) error {
	if n.running() {
		return nil
	}
	p, err := c.forker.start(n.log, c.binary, n.args...)
	if err != nil {
		return err
	}
	n.run.Store(p)
	n.paused, n.killed = false, false
	return n.proxy.Up()
}

// kill ends nodes as kill -9 does, all at the same moment.
func (c *cluster) kill(nodes ...*node) {
	for _, n := range nodes {
		if p := n.run.Load(); p != nil {
			_ = p.cmd.Process.Kill()
		}
	}
	for _, n := range nodes {
		if p := n.run.Load(); p != nil {
			p.kill()
		}
		n.paused, n.killed = false, true
		n.proxy.Down()
	}
}

func (c *cluster) pause(n *node) {
	n.paused = true
	n.run.Load().signal(syscall.SIGSTOP)
}

func (c *cluster) resume(n *node) {
	if n.paused {
		n.paused = false
		n.run.Load().signal(syscall.SIGCONT)
	}
}

// heal undoes whatever was done: all nodes run, none is stopped, and the network is good.
func (c *cluster) heal() error {
	c.setFaults(func(_, _ *node) link.Faults { return link.Faults{} })
	for _, n := range c.nodes {
		c.resume(n)
		if err := c.start(n); err != nil {
			return err
		}
	}
	return nil
}

// setFaults sets those of each direction between two nodes.
func (c *cluster) setFaults(of func(from, to *node) link.Faults) {
	for _, to := range c.nodes {
		for _, from := range c.nodes {
			if from != to {
				to.proxy.Set(from.name, of(from, to))
			}
		}
	}
}

// close ends everything that the cluster started. What is on its disks stays, but for file systems of its own.
func (c *cluster) close() {
	c.kill(c.nodes...)
	for _, n := range c.nodes {
		if n.unmounted != nil {
			n.unmounted()
		}
	}
	c.client.CloseIdleConnections()
}

// await asks until f returns nil, at most patience.
func (c *cluster) await(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// get asks one node once, for at most five seconds.
func (c *cluster) get(ctx context.Context, n *node, path string) (status int, header http.Header, body []byte, err error) {
	return c.send(ctx, n, "GET", path, nil)
}

func (c *cluster) send(ctx context.Context, n *node, method, path string, content []byte) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+n.http+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, nil, err
	}
	response, err := c.client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, err
}

type member struct{ ID, Role string }

func (c *cluster) view(ctx context.Context, n *node) (leader string, members []member, err error) {
	status, _, body, err := c.get(ctx, n, "/api/v1/cluster")
	if err != nil {
		return "", nil, err
	}
	if status != http.StatusOK {
		return "", nil, fmt.Errorf("%s answers %d %s", n.name, status, body)
	}
	var v struct {
		Leader  string
		Members []member
	}
	err = json.Unmarshal(body, &v)
	return v.Leader, v.Members, err
}

// voters is nil when each node is ready and knows so many voters.
func (c *cluster) voters(ctx context.Context, count int) error {
	for _, n := range c.nodes {
		if err := c.ready(ctx, n); err != nil {
			return err
		}
		_, members, err := c.view(ctx, n)
		if err != nil {
			return err
		}
		members = slices.DeleteFunc(members, func(m member) bool { return m.Role == "learner" })
		if len(members) != count {
			return fmt.Errorf("%s knows the voters %v, not %d", n.name, members, count)
		}
	}
	return nil
}

// errEnded says that a node has stopped that nobody has ended.
var errEnded = errors.New("has ended by itself")

func (c *cluster) ready(ctx context.Context, n *node) error {
	if !n.running() {
		return fmt.Errorf("%s %w", n.name, errEnded)
	}
	status, _, body, err := c.get(ctx, n, "/readyz?verbose")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %s", n.name, body)
	}
	return err
}

// allReady waits until every node serves.
func (c *cluster) allReady(ctx context.Context) error {
	var waiting sync.WaitGroup
	errs := make([]error, len(c.nodes))
	for i, n := range c.nodes {
		waiting.Go(func() {
			errs[i] = c.await(ctx, n.name+" to be ready", func() error { return c.ready(ctx, n) })
		})
	}
	waiting.Wait()
	return errors.Join(errs...)
}

// leader is the node that leads, as far as one that runs knows; nil: none.
func (c *cluster) leader(ctx context.Context) *node {
	for _, asked := range c.nodes {
		if !asked.running() || asked.paused {
			continue
		}
		name, _, err := c.view(ctx, asked)
		if err != nil {
			continue
		}
		if i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name }); i >= 0 {
			return c.nodes[i]
		}
	}
	return nil
}

// counts are those of all proxies.
func (c *cluster) counts() (all link.Counts) {
	for _, n := range c.nodes {
		k := n.proxy.Counts()
		all.Connections += k.Connections
		all.Frames += k.Frames
		all.Lost += k.Lost
		all.Doubled += k.Doubled
		all.Flipped += k.Flipped
		all.Broken += k.Broken
		all.HeldUp += k.HeldUp
	}
	return all
}
