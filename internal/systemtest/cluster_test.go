//go:build unix

package systemtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// node is one member of a cluster, with the command line that starts it each time.
type node struct {
	*process // the current run; nil before the first

	t      testing.TB
	name   string
	http   string // host:port
	raft   string // host:port
	dir    string
	args   []string
	client *http.Client
}

// cluster is nodes on this machine.
type cluster struct {
	t      testing.TB
	nodes  []*node
	dir    string
	flags  []string // of every node, beside the seed's
	client *http.Client
}

// newCluster starts three nodes as one would in three terminals and waits until each has a vote.
func newCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	c := emptyCluster(t, flags...)
	for range 3 {
		c.add().start()
	}
	c.awaitVoters(c.nodes...)
	return c
}

func emptyCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	return &cluster{t: t, dir: t.TempDir(), flags: flags, client: newClient(t)}
}

// add makes a node, which is not started yet: the first starts the cluster, the others join it there.
func (c *cluster) add() *node {
	c.t.Helper()
	n := &node{t: c.t, name: fmt.Sprintf("node%d", len(c.nodes)+1), http: freeAddress(c.t), raft: freeAddress(c.t), client: c.client}
	n.dir = filepath.Join(c.dir, n.name)
	n.args = []string{"-id=" + n.name, "-http=" + n.http, "-raft=" + n.raft, "-data=" + n.dir}
	if len(c.nodes) == 0 {
		n.args = append(n.args, "-bootstrap")
	} else {
		n.args = append(n.args, "-join="+c.nodes[0].http)
	}
	n.args = append(n.args, c.flags...)
	c.nodes = append(c.nodes, n)
	return n
}

var ports struct {
	sync.Mutex
	given map[int]bool
}

// freeAddress is one that nobody listens on. It is below the ports that the system gives to those who call: a node
// that is down for a while must not find its port taken by somebody's connection.
func freeAddress(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1))
}

// freePorts returns the first of so many free ports in a row.
func freePorts(t testing.TB, count int) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.given == nil {
		ports.given = map[int]bool{}
	}
	for range 1000 {
		first := 10000 + rand.IntN(22000)
		free := true
		for port := first; port < first+count; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				l.Close()
			}
			free = free && err == nil && !ports.given[port]
		}
		if free {
			for port := first; port < first+count; port++ {
				ports.given[port] = true
			}
			return first
		}
	}
	t.Fatalf("no %d free ports in a row", count)
	return 0
}

// start runs the node with its command line.
func (n *node) start() {
	n.t.Helper()
	n.process = startProcess(n.t, n.name, filepath.Dir(n.dir), nil, binary, n.args...)
}

// stop ends the node in good order, and fails unless that is what it was.
func (n *node) stop() {
	n.t.Helper()
	n.signal(syscall.SIGTERM)
	if status := n.exit(); status != 0 {
		n.t.Errorf("%s ended with status %d after SIGTERM, want 0", n.name, status)
	}
}

// try makes one call at this node.
func (n *node) try(method, path, body string) (reply, error) {
	return call(n.client, method, "http://"+n.http+path, body)
}

// do makes one call at this node and fails unless it is answered with that status.
func (n *node) do(status int, method, path, body string) reply {
	n.t.Helper()
	r, err := n.try(method, path, body)
	if err != nil {
		n.t.Fatalf("%s: %s %s: %v", n.name, method, path, err)
	}
	if r.status != status {
		n.t.Fatalf("%s: %s %s %s answers %v; want status %d", n.name, method, path, body, r, status)
	}
	return r
}

func (n *node) get(path string) reply { n.t.Helper(); return n.do(200, "GET", path, "") }

// create makes an object and returns its JSON.
func (n *node) create(kind, body string) reply {
	n.t.Helper()
	return n.do(201, "POST", "/api/v1/"+kind, body)
}

// view is the cluster as this node knows it.
func (n *node) view() (clusterView, error) {
	r, err := n.try("GET", "/api/v1/cluster", "")
	if err != nil {
		return clusterView{}, err
	}
	if r.status != 200 {
		return clusterView{}, fmt.Errorf("%s answers %v", n.name, r)
	}
	return decode[clusterView](n.t, r), nil
}

func (n *node) mustView() clusterView {
	n.t.Helper()
	v, err := n.view()
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

// metric is the value of a metric that has no labels.
func (n *node) metric(name string) float64 {
	n.t.Helper()
	for line := range strings.Lines(n.get("/metrics").body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				n.t.Fatalf("%s: %v", line, err)
			}
			return v
		}
	}
	n.t.Fatalf("%s has no metric %s", n.name, name)
	return 0
}

// awaitReady waits until the node serves with a state that is close to its cluster's.
func (n *node) awaitReady() {
	n.t.Helper()
	eventually(n.t, n.name+" is ready", func() error {
		if !n.running() {
			n.t.Fatalf("%s has ended: %s", n.name, tail(n.log(), 20))
		}
		r, err := n.try("GET", "/readyz?verbose", "")
		if err == nil && r.status != 200 {
			err = fmt.Errorf("%v", r)
		}
		return err
	})
}

// awaitVoters waits until each of these nodes is ready and knows them all, and only them, as voters, under one leader.
func (c *cluster) awaitVoters(nodes ...*node) {
	c.t.Helper()
	var names []string
	for _, n := range nodes {
		names = append(names, n.name)
	}
	slices.Sort(names)
	for _, n := range nodes {
		n.awaitReady()
		eventually(c.t, fmt.Sprintf("%s sees the voters %v", n.name, names), func() error {
			v, err := n.view()
			if err != nil {
				return err
			}
			var voters []string
			for _, m := range v.Members {
				if m.Role != "learner" {
					voters = append(voters, m.ID)
				}
			}
			slices.Sort(voters)
			if v.Leader == "" || !slices.Equal(voters, names) || len(v.Members) != len(names) {
				return fmt.Errorf("%+v", v)
			}
			return nil
		})
	}
}

// leader waits until the nodes that run agree on a leader among them, and returns it and the others.
func (c *cluster) leader() (leader *node, others []*node) {
	c.t.Helper()
	eventually(c.t, "there is one leader", func() error {
		leader, others = nil, nil
		name := ""
		for _, n := range c.nodes {
			if n.process == nil || !n.running() {
				continue
			}
			v, err := n.view()
			if err != nil {
				return err
			}
			if name == "" {
				name = v.Leader
			}
			if name == "" || v.Leader != name {
				return fmt.Errorf("%s says that %q leads, another one %q", n.name, v.Leader, name)
			}
			if n.name == name {
				leader = n
			} else {
				others = append(others, n)
			}
		}
		if leader == nil {
			return fmt.Errorf("%q leads, which does not run", name)
		}
		return nil
	})
	return leader, others
}

// lead moves the leadership to n.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	c.leader()
	n.do(200, "POST", "/api/v1/cluster/leader", fmt.Sprintf(`{"id":%q}`, n.name))
	eventually(c.t, n.name+" leads", func() error {
		if l, _ := c.leader(); l != n {
			return fmt.Errorf("%s leads", l.name)
		}
		return nil
	})
}

// lists are the collections of the farm.
var lists = []string{"/api/v1/printers", "/api/v1/filaments", "/api/v1/print_jobs"}

// sameEverywhere fails unless the nodes answer every list with the same bytes at the same revision. Nobody may write
// meanwhile.
func sameEverywhere(t testing.TB, nodes ...*node) {
	t.Helper()
	for _, list := range lists {
		first := nodes[0].get(list)
		for _, n := range nodes[1:] {
			r := n.get(list)
			if a, b := first.revision(t), r.revision(t); a != b {
				t.Errorf("%s is at revision %d on %s, at %d on %s", list, a, nodes[0].name, b, n.name)
			}
			if first.body != r.body {
				t.Errorf("%s differs between %s and %s at %s", list, nodes[0].name, n.name, firstDifference(first.body, r.body))
			}
		}
	}
}

// firstDifference shows where two texts part.
func firstDifference(a, b string) string {
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	return fmt.Sprintf("byte %d of %d and %d:\n%.200s\n%.200s", at, len(a), len(b), a[max(0, at-50):], b[max(0, at-50):])
}

// says fails unless the text has every one of the words in it.
func says(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("it does not say %q:\n%s", word, tail(text, 20))
		}
	}
}
