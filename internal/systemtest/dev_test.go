//go:build unix

package systemtest

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

// devNodeLine is how "raft3d dev" lists a node: name, address, pid.
var devNodeLine = regexp.MustCompile(`(node\d)\s+http://(127\.0\.0\.1:\d+)\s+pid (\d+)`)

func TestDevRunsThreeNodesAndCtrlCEndsThemAll(t *testing.T) {
	t.Parallel()
	http, raft := freePorts(t, 3), freePorts(t, 3)
	dir := t.TempDir()
	dev := startProcess(t, "raft3d dev", dir, nil, binary, "dev",
		fmt.Sprintf("-http-port=%d", http), fmt.Sprintf("-raft-port=%d", raft), "-dir="+dir)

	var found [][]string
	eventually(t, "it says that three nodes are up", func() error {
		if !dev.running() {
			t.Fatalf("it has ended: %s", dev.log())
		}
		if found = devNodeLine.FindAllStringSubmatch(dev.log(), -1); len(found) != 3 {
			return errors.New(tail(dev.log(), 10))
		}
		return nil
	})
	c := &cluster{t: t, client: newClient(t)}
	var pids []int
	for i, m := range found {
		if want := fmt.Sprintf("127.0.0.1:%d", http+i); m[2] != want {
			t.Errorf("%s is at %s, want %s", m[1], m[2], want)
		}
		pid, err := strconv.Atoi(m[3])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
		c.nodes = append(c.nodes, &node{t: t, name: m[1], http: m[2], client: c.client})
	}
	c.nodes[0].create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
	for _, n := range c.nodes {
		n.get("/api/v1/printers/p")
	}

	// A node that dies is not the end of the others, nor of dev.
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.nodes[1].create("printers", `{"id":"q","company":"Prusa","model":"MK4"}`)
	c.nodes[2].get("/api/v1/printers/q")

	dev.signal(syscall.SIGINT)
	if status := dev.exit(); status != 0 {
		t.Errorf("Ctrl-C ended it with status %d, want 0", status)
	}
	for i, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("node%d, process %d, is still there: %v", i+1, pid, err)
		}
		for _, port := range []int{http + i, raft + i} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Errorf("port %d of node%d is still taken: %v", port, i+1, err)
				continue
			}
			l.Close()
		}
	}
}
