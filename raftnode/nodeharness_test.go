package raftnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"raft3d/kvstore"
	"raft3d/wal"
)

// listState is a StateMachine that remembers every command. It is what a careless one would be if it were correct.
type listState struct {
	mu sync.Mutex
	listRecord
	failAt  uint64 // Apply fails from this index on; 0: never
	wrongAt int    // the command, counted from 1, that it applies wrongly; 0: none
	twice   bool   // what is wrong: applied twice, so that its marks run ahead; else it is another command
	full    int    // the disk is full for so many snapshots more

	taken []uint64      // where a snapshot was
	held  chan struct{} // a snapshot, once it has its state, waits until this is closed; nil: none does

	farm    *kvstore.Store // fed with the same; nil: there is only the list
	farmDir string
}

type listRecord struct {
	Index    uint64
	Meta     []byte
	Commands []string
}

func (s *listState) Apply(index uint64, cmds [][]byte, meta []byte) ([]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.Index {
		panic(fmt.Sprintf("apply: index %d after %d", index, s.Index))
	}
	if s.failAt != 0 && index >= s.failAt {
		return nil, errors.New("the disk is on fire")
	}
	s.Index = index
	if meta != nil {
		s.Meta = meta
	}
	results := make([]any, len(cmds))
	for i, c := range cmds {
		if s.wrongAt != 0 && len(s.Commands)+1 == s.wrongAt {
			c = []byte("something else")
			if s.twice {
				s.Commands = append(s.Commands, string(c))
			}
		}
		s.Commands = append(s.Commands, string(c))
		results[i] = len(s.Commands)
	}
	if s.farm != nil {
		return results, s.applyFarm(index, cmds, meta, results)
	}
	return results, nil
}

func (s *listState) Applied() (uint64, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Index, s.Meta
}

// Checkpoint makes each command a mark.
func (s *listState) Checkpoint(mark uint64) (at uint64, sum [32]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mark == 0 {
		mark = uint64(len(s.Commands))
	}
	if mark == 0 || mark > uint64(len(s.Commands)) {
		return mark, sum, false
	}
	return mark, sha256.Sum256([]byte(strings.Join(s.Commands[:mark], "\n"))), true
}

func (s *listState) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.Commands)
}

func (s *listState) Snapshot(fn func(uint64, []byte, io.WriterTo) error) error {
	s.mu.Lock()
	r := s.listRecord
	full := s.full > 0
	if full {
		s.full--
	}
	s.taken = append(s.taken, r.Index)
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	if full {
		return fn(r.Index, r.Meta, onFullDisk{})
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(r); err != nil {
		return err
	}
	if s.farm != nil {
		return s.snapshotFarm(b.Bytes(), fn)
	}
	return fn(r.Index, r.Meta, &b)
}

// onFullDisk is a state whose snapshot finds no room.
type onFullDisk struct{}

func (onFullDisk) WriteTo(io.Writer) (int64, error) { return 0, syscall.ENOSPC }

func (s *listState) Restore(r io.Reader) (err error) {
	if s.farm != nil {
		if r, err = s.restoreFarm(r); err != nil {
			return err
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var record listRecord
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&record); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listRecord = record
	return nil
}

// testCluster is a few nodes in this process, with real logs and real connections.
type testCluster struct {
	t         testing.TB
	clusterID uint64
	nodes     map[string]*testNode
}

type testNode struct {
	c        *testCluster
	name     string
	id       uint64
	dir      string
	addr     string
	cfg      Config
	node     *Node
	state    *listState
	disk     *wal.Log
	server   *http.Server
	listener net.Listener
}

func newTestCluster(t testing.TB) *testCluster {
	t.TempDir() // the first one has all of them removed, which must come after the nodes have stopped
	c := &testCluster{t: t, clusterID: NewID(), nodes: map[string]*testNode{}}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.stop()
		}
	})
	return c
}

// found starts the first member.
func (c *testCluster) found(name string, change ...func(*Config)) *testNode {
	n := c.prepare(name, true, change...)
	n.start()
	return n
}

// join starts a further member and waits until it is a voter.
func (c *testCluster) join(name string, via *testNode, change ...func(*Config)) *testNode {
	c.t.Helper()
	n := c.prepare(name, false, change...)
	n.joinVia(via)
	// Also as via sees it: who leads may apply the change after the new voter has.
	eventually(c.t, name+" becomes a voter", func() (bool, any) {
		s, there := n.node.Status(), via.node.Status()
		i := slices.IndexFunc(there.Members, func(m Member) bool { return m.ID == name })
		return (s.Role == "voter" || s.Role == "leader") && i >= 0 && there.Members[i].Role != "learner", s
	})
	return n
}

func (n *testNode) joinVia(via *testNode) {
	n.c.t.Helper()
	if n.node == nil {
		n.start()
	}
	if _, err := via.node.AddMember(n.c.soon(), Member{ID: n.name, MemberID: n.id, Raft: n.addr, HTTP: "127.0.0.1:1"}); err != nil {
		n.c.t.Fatalf("add %s: %v", n.name, err)
	}
}

func (c *testCluster) prepare(name string, founder bool, change ...func(*Config)) *testNode {
	c.t.Helper()
	n := &testNode{c: c, name: name, id: NewID(), dir: c.t.TempDir()}
	c.nodes[name] = n
	n.cfg = Config{
		Name: name, HTTPAddr: "127.0.0.1:1", Version: "test",
		Heartbeat: 20 * time.Millisecond, Election: 200 * time.Millisecond, Logger: testLogger(c.t, name),
	}
	for _, f := range change {
		f(&n.cfg)
	}
	disk, err := wal.Create(n.dir, wal.Identity{ClusterID: c.clusterID, MemberID: n.id, Name: name, Founder: founder}, wal.Config{SegmentBytes: 1 << 20})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// start runs the node over its directory, as after a crash: the state begins empty.
func (n *testNode) start() { n.c.t.Helper(); n.startWith(&listState{}) }

// startWith runs the node over its directory and a state that it has kept. The log is read without most of its data,
// whether or not the state has that.
func (n *testNode) startWith(state *listState) {
	n.c.t.Helper()
	addr := n.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.listener, n.addr, n.cfg.RaftAddr = l, l.Addr().String(), l.Addr().String()
	disk, rec, err := wal.Open(n.dir, wal.Config{SegmentBytes: 1 << 20, CommittedData: 3})
	if err != nil {
		n.c.t.Fatalf("open the log of %s: %v", n.name, err)
	}
	n.disk, n.state = disk, state
	if n.node, err = Start(n.cfg, disk, rec, n.state); err != nil {
		n.c.t.Fatalf("start %s: %v", n.name, err)
	}
	n.server = &http.Server{Handler: n.node.PeerHandler()}
	go n.server.Serve(l)
}

// stop ends the node cleanly; it may be started again.
func (n *testNode) stop() {
	if n.node == nil {
		return
	}
	n.node.Close()
	n.server.Close()
	n.disk.Close()
	n.node = nil
}

// crash ends the node without a word to anyone, as far as one process can do that to a part of itself.
func (n *testNode) crash() {
	n.server.Close()
	n.node.fail(errors.New("crashed by the test"))
	n.node.Close()
	n.disk.Close()
	n.node = nil
}

func (c *testCluster) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *testCluster) propose(n *testNode, cmd string) {
	c.t.Helper()
	if _, err := n.node.Propose(c.soon(), []byte(cmd)); err != nil {
		c.t.Fatalf("propose %q at %s: %v; status %+v", cmd, n.name, err, n.node.Status())
	}
}

// leader waits until the running nodes agree on one of them.
func (c *testCluster) leader() *testNode {
	c.t.Helper()
	var lead *testNode
	eventually(c.t, "all agree on a leader", func() (bool, any) {
		seen := map[string]string{}
		for name, n := range c.nodes {
			if n.node != nil {
				seen[name] = n.node.Status().Leader
			}
		}
		names := slices.Compact(slices.Sorted(maps.Values(seen)))
		if len(names) != 1 || names[0] == "" {
			return false, seen
		}
		lead = c.nodes[names[0]]
		return lead.node != nil, seen
	})
	return lead
}

// converge waits until all running nodes hold the same commands.
func (c *testCluster) converge() []string {
	c.t.Helper()
	var all []string
	eventually(c.t, "all nodes hold the same commands", func() (bool, any) {
		counts := map[string]int{}
		all = nil
		same := true
		for name, n := range c.nodes {
			if n.node == nil {
				continue
			}
			cmds := n.state.commands()
			counts[name] = len(cmds)
			if all == nil {
				all = cmds
			}
			same = same && slices.Equal(all, cmds)
		}
		return same, counts
	})
	return all
}

func eventually(t testing.TB, what string, cond func() (bool, any)) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s; last seen: %+v", what, seen)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func testLogger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("RAFT3D_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}
