package raftnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
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

	"go.uber.org/goleak"

	"raft3d/kvstore"
	"raft3d/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
func (n *testNode) start() {
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
	disk, rec, err := wal.Open(n.dir, wal.Config{SegmentBytes: 1 << 20})
	if err != nil {
		n.c.t.Fatalf("open the log of %s: %v", n.name, err)
	}
	n.disk, n.state = disk, &listState{}
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

func TestASingleNodeKeepsItsCommandsOverARestart(t *testing.T) {
	c := newTestCluster(t)
	n := c.found("node1")
	for i := range 10 {
		c.propose(n, fmt.Sprint("before ", i))
	}
	n.crash()
	n.start()
	if err := n.node.ReadBarrier(c.soon()); err != nil {
		t.Fatal(err)
	}
	if got := n.state.commands(); len(got) != 10 || got[9] != "before 9" {
		t.Fatalf("after a crash and a read barrier: %q", got)
	}
	c.propose(n, "after")
}

func TestThreeNodesAgreeWhicheverIsAsked(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2, n3 := c.join("node2", n1), c.join("node3", n1)
	var wg sync.WaitGroup
	for _, n := range []*testNode{n1, n2, n3} {
		for w := range 8 {
			wg.Go(func() {
				for i := range 20 {
					if _, err := n.node.Propose(c.soon(), fmt.Appendf(nil, "%s-%d-%d", n.name, w, i)); err != nil {
						t.Errorf("propose at %s: %v", n.name, err)
					}
				}
			})
		}
	}
	wg.Wait()
	if all := c.converge(); len(all) != 3*8*20 {
		t.Fatalf("%d commands, want %d", len(all), 3*8*20)
	}
	for _, n := range []*testNode{n1, n2, n3} {
		c.propose(n1, "read by "+n.name)
		if err := n.node.ReadBarrier(c.soon()); err != nil {
			t.Fatal(err)
		}
		if got := n.state.commands(); got[len(got)-1] != "read by "+n.name {
			t.Fatalf("%s does not see a write that was acknowledged before its read began: %q", n.name, got[len(got)-1])
		}
	}
}

func TestProposalsSurviveTheLeadersDeathAndHappenOnce(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	c.join("node3", n1)
	for round := range 3 {
		lead := c.leader()
		var wg sync.WaitGroup
		started := make(chan struct{}, 64)
		acked := make(chan string, 4096)
		for _, n := range c.nodes {
			if n == lead {
				continue
			}
			for w := range 4 {
				wg.Go(func() {
					for i := range 40 {
						cmd := fmt.Sprintf("%d-%s-%d-%d", round, n.name, w, i)
						if _, err := n.node.Propose(c.soon(), []byte(cmd)); err != nil {
							t.Errorf("propose at %s while %s dies: %v", n.name, lead.name, err)
						} else {
							acked <- cmd
						}
						if i == 5 {
							started <- struct{}{}
						}
					}
				})
			}
		}
		for range 8 {
			<-started
		}
		lead.crash()
		wg.Wait()
		close(acked)
		lead.start()
		all := c.converge()
		count := map[string]int{}
		for _, cmd := range all {
			count[cmd]++
		}
		for cmd := range acked {
			if count[cmd] != 1 {
				t.Errorf("%s was acknowledged and happened %d times", cmd, count[cmd])
			}
		}
	}
}

func TestAJoinerOfAnIdleCompactedClusterGetsTheState(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1", func(c *Config) { c.KeepEntries = 4 })
	for i := range 50 {
		c.propose(n1, fmt.Sprint(i))
	}
	if _, _, _, err := n1.node.TakeSnapshot(c.soon()); err != nil {
		t.Fatal(err)
	}
	n2 := c.join("node2", n1)
	if got := len(n2.state.commands()); got != 50 {
		t.Fatalf("the joiner has %d of 50 commands", got)
	}
}

func TestASlowFollowerCatchesUpBySnapshot(t *testing.T) {
	c := newTestCluster(t)
	small := func(c *Config) { c.KeepEntries, c.SnapshotEntries = 4, 20 }
	n1 := c.found("node1", small)
	n2, n3 := c.join("node2", n1, small), c.join("node3", n1, small)
	_ = n2
	n3.crash()
	for i := range 200 {
		c.propose(n1, fmt.Sprint(i))
	}
	n3.start()
	if all := c.converge(); len(all) != 200 {
		t.Fatalf("%d commands, want 200", len(all))
	}
	n3.crash()
	n3.start()
	if all := c.converge(); len(all) != 200 {
		t.Fatalf("after one more restart: %d commands, want 200", len(all))
	}
}

func TestASnapshotThatFindsTheDiskFullStopsNothing(t *testing.T) {
	c := newTestCluster(t)
	n := c.found("node1", func(c *Config) { c.SnapshotEntries = 5 })
	n.state.mu.Lock()
	n.state.full = 1
	n.state.mu.Unlock()
	for i := range 50 {
		c.propose(n, fmt.Sprint(i))
	}
	eventually(t, "a snapshot was tried", func() (bool, any) {
		n.state.mu.Lock()
		defer n.state.mu.Unlock()
		return n.state.full == 0, n.state.full
	})
	c.propose(n, "goes on")
	if index, _, _, err := n.node.TakeSnapshot(c.soon()); err != nil || index == 0 {
		t.Fatalf("with room again: snapshot %d, %v", index, err)
	}
}

// Whoever is wrong stops, leader or not; nobody else does, and the farm goes on.
func TestWhatGrowsWhileASnapshotIsWrittenCountsForTheNext(t *testing.T) {
	c := newTestCluster(t)
	n := c.found("node1", func(c *Config) { c.SnapshotEntries = 20 })
	held := make(chan struct{})
	n.state.mu.Lock()
	n.state.held = held
	founding := len(n.state.taken)
	n.state.mu.Unlock()
	taken := func() []uint64 {
		n.state.mu.Lock()
		defer n.state.mu.Unlock()
		return slices.Clone(n.state.taken[founding:])
	}
	for i := 0; len(taken()) == 0; i++ {
		c.propose(n, fmt.Sprint(i))
	}
	c.propose(n, "one more") // the log is long enough for a snapshot still
	close(held)
	eventually(t, "what was wanted is looked at", func() (bool, any) {
		s := n.node.Status()
		return n.node.seen.taken.Load() > 0 && len(n.node.snapshotWanted) == 0, s
	})
	for i := 0; len(taken()) == 1; i++ {
		c.propose(n, fmt.Sprint("again ", i))
	}
	if at := taken(); at[1] < at[0]+20 {
		t.Fatalf("snapshots at %d, the next one is due 20 entries after the last", at)
	}
}

func TestTheLogGrowsWithTheStateUpToABound(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ least, state, want int64 }{
		{64 * mib, 0, 64 * mib},
		{64 * mib, 100 * mib, 100 * mib},
		{64 * mib, 5000 * mib, 256 * mib},
		{400 * mib, 5000 * mib, 400 * mib}, // who says so wants it
	} {
		if got := snapshotAfter(c.least, c.state); got != c.want {
			t.Errorf("at least %d, with a state of %d: after %d, want %d", c.least, c.state, got, c.want)
		}
	}
}

func TestANodeThatAppliesOneCommandOtherwiseStopsAlone(t *testing.T) {
	for _, role := range []string{"leader", "follower", "follower that runs ahead"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t)
			n1 := c.found("node1")
			c.join("node2", n1)
			c.join("node3", n1)
			c.propose(n1, "x")
			lead := c.leader()
			wrong := lead
			if role != "leader" {
				wrong = c.nodes[map[string]string{"node1": "node2", "node2": "node3", "node3": "node1"}[lead.name]]
			}
			wrong.state.mu.Lock()
			wrong.state.wrongAt, wrong.state.twice = 5, role == "follower that runs ahead"
			wrong.state.mu.Unlock()
			for i := range 10 {
				c.propose(n1, fmt.Sprint(i))
			}
			select {
			case <-wrong.node.Done():
			case <-c.soon().Done():
				t.Fatalf("%s runs on: %+v", wrong.name, wrong.node.Counters())
			}
			if err := wrong.node.Err(); !errors.Is(err, ErrDiverged) {
				t.Fatalf("it stopped with %v, want ErrDiverged", err)
			}
			if !wrong.node.Counters().Diverged {
				t.Error("its counters do not tell")
			}
			wrong.stop()
			wrong.start() // and builds its state anew
			c.leader()
			for _, n := range c.nodes {
				c.propose(n, "after "+n.name)
			}
			before := map[string]uint64{}
			for name, n := range c.nodes {
				before[name] = n.node.Counters().Compared
			}
			eventually(t, "all have compared again, and agree", func() (bool, any) {
				for name, n := range c.nodes {
					k := n.node.Counters()
					if err := n.node.Err(); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if k.Compared <= before[name] || k.Differing > 0 {
						return false, fmt.Sprint(name, k)
					}
				}
				return true, nil
			})
		})
	}
}

func TestANodeAnswersForTheMarkThatIsAskedForOrTheNewestThatItHas(t *testing.T) {
	c := newTestCluster(t)
	n := c.found("node1")
	ask := func(mark uint64) (status int, at uint64) {
		status, out := n.node.answerSum(t.Context(), 0, binary.BigEndian.AppendUint64(nil, mark))
		if status != http.StatusOK {
			return status, 0
		}
		at = binary.BigEndian.Uint64(out)
		if _, sum, _ := n.state.Checkpoint(at); [32]byte(out[8:]) != sum {
			t.Errorf("asked for %d, it has the wrong sum for %d", mark, at)
		}
		return status, at
	}
	if status, _ := ask(1); status != http.StatusNotFound {
		t.Errorf("without any change it answers %d", status)
	}
	for i := range 3 {
		c.propose(n, fmt.Sprint(i))
	}
	for _, x := range [][2]uint64{{1, 1}, {3, 3}, {9, 3}} {
		if status, at := ask(x[0]); status != http.StatusOK || at != x[1] {
			t.Errorf("asked for %d it answers %d for %d, want %d", x[0], status, at, x[1])
		}
	}
	if status, _ := n.node.answerSum(t.Context(), 0, nil); status != http.StatusBadRequest {
		t.Errorf("a request of no bytes is answered %d", status)
	}
}

// Of two nobody can say who is right: both say that they differ, and go on.
func TestOfTwoNodesThatDifferBothSaySoAndGoOn(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2 := c.join("node2", n1)
	n2.state.mu.Lock()
	n2.state.wrongAt = 2
	n2.state.mu.Unlock()
	for i := range 3 {
		c.propose(n1, fmt.Sprint(i))
	}
	eventually(t, "both see that they differ", func() (bool, any) {
		a, b := n1.node.Counters(), n2.node.Counters()
		return a.Differing == 1 && b.Differing == 1, fmt.Sprintf("%+v %+v", a, b)
	})
	for _, n := range []*testNode{n1, n2} {
		c.propose(n, "after "+n.name)
		if k := n.node.Counters(); k.Diverged || n.node.Err() != nil {
			t.Errorf("%s: %+v, %v", n.name, k, n.node.Err())
		}
	}
}

func TestAllNodesCrashAtOnceAndComeBackWithEverything(t *testing.T) {
	c := newTestCluster(t)
	small := func(c *Config) { c.KeepEntries, c.SnapshotEntries = 8, 30 }
	n1 := c.found("node1", small)
	c.join("node2", n1, small)
	c.join("node3", n1, small)
	total := 0
	for round := range 3 {
		for i := range 40 {
			c.propose(c.nodes[fmt.Sprintf("node%d", i%3+1)], fmt.Sprint(round, i))
			total++
		}
		for _, n := range c.nodes {
			n.crash()
		}
		for _, n := range c.nodes {
			n.start()
		}
		c.leader()
		for _, n := range c.nodes {
			if err := n.node.ReadBarrier(c.soon()); err != nil {
				t.Fatal(err)
			}
			if got := len(n.state.commands()); got != total {
				t.Fatalf("round %d: %s has %d of %d acknowledged commands", round, n.name, got, total)
			}
		}
	}
}

func TestARemovedMemberStopsAndSaysWhy(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2, n3 := c.join("node2", n1), c.join("node3", n1)
	// The leader itself goes, asked through another member, while writes go on there.
	lead := c.leader()
	var other *testNode
	for _, n := range []*testNode{n1, n2, n3} {
		if n != lead {
			other = n
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 100 {
			if _, err := other.node.Propose(c.soon(), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Errorf("write %d while the leader is removed: %v", i, err)
			}
		}
	})
	if err := other.node.RemoveMember(c.soon(), lead.name, false); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	select {
	case <-lead.node.Done():
	case <-c.soon().Done():
		t.Fatalf("the removed member runs on: %+v", lead.node.Status())
	}
	if err := lead.node.Err(); !errors.Is(err, ErrRemoved) {
		t.Fatalf("the removed member stopped with %v, want ErrRemoved", err)
	}
	lead.stop()
	// Its directory is of no use any more: started again, the others send it away.
	lead.start()
	select {
	case <-lead.node.Done():
	case <-c.soon().Done():
		t.Fatalf("a removed member may come back: %+v", lead.node.Status())
	}
	if err := lead.node.Err(); !errors.Is(err, ErrRemoved) {
		t.Fatalf("the removed member came back and stopped with %v, want ErrRemoved", err)
	}
}

// Either may go, through either, and the one that stays goes on, also when it crashes in the very moment.
func TestAMemberThatWasSilentForAMomentIsNotTakenForDead(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	n3 := c.join("node3", n1)
	lead := c.leader()
	gone := n3
	if gone == lead {
		gone = n1
	}
	eventually(t, "the leader has heard everybody", func() (settled bool, _ any) {
		lead.node.onLoop(func(c *core) { settled = c.settled() })
		return settled, nil
	})
	lead.node.onLoop(func(c *core) {
		for id := range c.heard {
			c.heard[id] -= 2 * c.electionTicks // as if their machines had stood still
		}
	})
	if err := lead.node.RemoveMember(c.soon(), gone.name, false); err != nil {
		t.Fatal(err)
	}
}

func TestOfTwoVotersOneStaysAndGoesOn(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		for _, via := range []string{"leader", "follower"} {
			for _, crash := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s removed at the %s, crash %v", who, via, crash), func(t *testing.T) {
					t.Parallel()
					c := newTestCluster(t)
					n1 := c.found("node1")
					c.join("node2", n1)
					pick := map[string]*testNode{"leader": c.leader()}
					for _, n := range c.nodes {
						if n != pick["leader"] {
							pick["follower"] = n
						}
					}
					goes, asked := pick[who], pick[via]
					stays := c.nodes[map[string]string{"node1": "node2", "node2": "node1"}[goes.name]]
					c.propose(asked, "before")
					if err := asked.node.RemoveMember(c.soon(), goes.name, false); err != nil {
						t.Fatal(err)
					}
					if crash {
						stays.crash()
						stays.start()
					}
					c.propose(stays, "after")
					select {
					case <-goes.node.Done():
					case <-c.soon().Done():
						t.Fatalf("the removed member runs on: %+v", goes.node.Status())
					}
					if err := goes.node.Err(); !errors.Is(err, ErrRemoved) {
						t.Fatalf("the removed member stopped with %v, want ErrRemoved", err)
					}
				})
			}
		}
	}
}

func TestTheLastVoterCantBeRemoved(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.propose(n1, "x")
	var e *Error
	if err := n1.node.RemoveMember(c.soon(), "node1", true); !errors.As(err, &e) || e.Kind != Conflict {
		t.Fatalf("removing the last voter: %v, want a Conflict", err)
	}
	if err := n1.node.RemoveMember(c.soon(), "nobody", true); !errors.As(err, &e) || e.Kind != NotFound {
		t.Fatalf("removing nobody: %v, want NotFound", err)
	}
	c.propose(n1, "y")
}

func TestANewLeaderDoesNotTakeSilenceForDeath(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	c.join("node3", n1)
	lead := c.leader()
	justElected := func() { // by itself and one vote, which may be any
		lead.node.onLoop(func(c *core) { c.heard, c.led = map[uint64]int{}, c.now })
	}
	justElected()
	to, err := lead.node.TransferLeader(c.soon(), "")
	if err != nil {
		t.Fatalf("move the leadership away from a new leader: %v", err)
	}
	lead = c.nodes[to]
	c.leader()
	var others []*testNode
	for _, n := range c.nodes {
		if n != lead {
			others = append(others, n)
		}
	}
	dead, alive := others[0], others[1]

	// Silence that has lasted is what it seems.
	dead.stop()
	silent := func(want bool) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s is silent: %v", dead.name, want), func() (bool, any) {
			s, err := lead.node.ClusterStatus(c.soon())
			for _, m := range s.Members {
				if m.ID == dead.name && err == nil {
					lately := 0 <= m.LastContact && m.LastContact <= 2*dead.cfg.Election // below 0: this leader has never heard it
					return lately != want, s
				}
			}
			return false, fmt.Sprint(s, err)
		})
	}
	silent(true)
	var e *Error
	if err := lead.node.RemoveMember(c.soon(), alive.name, false); !errors.As(err, &e) || e.Kind != Conflict {
		t.Fatalf("remove %s while %s is dead: %v, want a Conflict", alive.name, dead.name, err)
	}
	dead.start()
	silent(false)
	justElected()
	if err := lead.node.RemoveMember(c.soon(), alive.name, false); err != nil {
		t.Fatalf("a new leader removes %s from three that are alive: %v", alive.name, err)
	}
}

func TestTwoMembersThatJoinAtOnceBothGetIn(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2, n3 := c.prepare("node2", false), c.prepare("node3", false)
	c.propose(n1, "x")
	var wg sync.WaitGroup
	for _, n := range []*testNode{n2, n3} {
		wg.Go(func() { n.joinVia(n1) })
	}
	wg.Wait()
	for _, n := range []*testNode{n2, n3} {
		eventually(t, n.name+" becomes a voter", func() (bool, any) { s := n.node.Status(); return s.Role == "voter", s })
	}
}

func TestANameThatAVoterHasIsRefused(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	var e *Error
	_, err := n1.node.AddMember(c.soon(), Member{ID: "node2", MemberID: NewID(), Raft: "127.0.0.1:1", HTTP: "127.0.0.1:1"})
	if !errors.As(err, &e) || e.Kind != Conflict || !strings.Contains(e.Detail, "removed") {
		t.Fatalf("an empty directory under a known name: %v, want a Conflict that says what to do", err)
	}
}

func TestLeadershipMovesWhereItIsSent(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	c.join("node3", n1)
	for _, to := range []string{"node2", "node3", "node1"} {
		eventually(t, to+" leads", func() (bool, any) { // on a busy machine it may not take over in time, and says so
			got, err := n1.node.TransferLeader(c.soon(), to)
			if err == nil && got != to {
				t.Fatalf("transfer to %s: %s", to, got)
			}
			return err == nil && c.leader().name == to, err
		})
	}
}

func TestWithoutAQuorumAWriteSaysWhatBecameOfIt(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2 := c.join("node2", n1)
	n2.crash()
	eventually(t, "node1 notices that it leads nobody", func() (bool, any) { s := n1.node.Status(); return s.Leader == "", s })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var e *Error
	if _, err := n1.node.Propose(ctx, []byte("x")); !errors.As(err, &e) || e.Kind != Unavailable || e.Outcome != NotApplied {
		t.Fatalf("a write that never left this node: %+v", err)
	}
	if err := n1.node.ReadBarrier(ctx); !errors.As(err, &e) || e.Kind != Unavailable {
		t.Fatalf("a read without a quorum: %v", err)
	}
	n2.start()
	c.propose(n1, "y")
	if all := c.converge(); !slices.Equal(all, []string{"y"}) {
		t.Fatalf("the write that was given up happened all the same: %q", all)
	}
}

func TestAFailingStateMachineStopsTheNode(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.propose(n1, "x")
	n1.state.mu.Lock()
	n1.state.failAt = n1.state.Index + 1
	n1.state.mu.Unlock()
	var e *Error
	if _, err := n1.node.Propose(c.soon(), []byte("y")); !errors.As(err, &e) || e.Outcome != Unknown {
		t.Fatalf("a write on a failing node: %v, want an unknown outcome", err)
	}
	<-n1.node.Done()
	if err := n1.node.Err(); err == nil || !strings.Contains(err.Error(), "on fire") {
		t.Fatalf("the node stopped with %v", err)
	}
}

func TestAMemberThatMovedTellsTheOthers(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2 := c.join("node2", n1)
	n2.stop()
	n2.addr = "" // a new port
	n2.start()
	eventually(t, "node1 knows node2's new address", func() (bool, any) {
		s := n1.node.Status()
		for _, m := range s.Members {
			if m.ID == "node2" {
				return m.Raft == n2.addr, s
			}
		}
		return false, s
	})
	c.propose(n2, "x")
	c.converge()
}

func TestAFounderThatLostItsDirectoryBeginsNoSecondCluster(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	c.join("node2", n1)
	c.join("node3", n1)
	c.propose(n1, "x")
	n1.crash()
	c.clusterID = NewID() // the same line with -bootstrap, on an empty directory
	again := c.prepare("node1", true)
	again.addr = n1.addr
	again.start()
	select {
	case <-again.node.Done():
	case <-c.soon().Done():
		t.Fatalf("a second cluster serves at the first one's address: %+v", again.node.Status())
	}
	if err := again.node.Err(); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), "-join") {
		t.Fatalf("it stopped with %v, want what to do", err)
	}
}

func TestAnOldCopyOfADirectoryIsRefused(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2 := c.join("node2", n1)
	c.join("node3", n1)
	n2.stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(n2.dir)); err != nil {
		t.Fatal(err)
	}
	n2.start()
	c.propose(n2, "promised after the copy was made")
	n2.crash()
	n2.dir = copied // the machine was restored from a backup: the same number of starts as the one before
	n2.start()
	select {
	case <-n2.node.Done():
	case <-c.soon().Done():
		t.Fatalf("a member that forgot its log takes part: %+v", n2.node.Status())
	}
	if err := n2.node.Err(); !errors.Is(err, ErrStale) {
		t.Fatalf("it stopped with %v, want ErrStale", err)
	}
}

func TestAWriteAtAJoinerIsAnsweredOnceItHasTheState(t *testing.T) {
	c := newTestCluster(t)
	n1 := c.found("node1")
	n2 := c.prepare("node2", false)
	n2.start()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := n2.node.Propose(c.soon(), fmt.Appendf(nil, "early %d", i)); err != nil {
				t.Errorf("a write taken by a node that was about to join: %v", err)
			}
		})
	}
	eventually(t, "the writes wait", func() (bool, any) { s := n2.node.Status(); return s.Pending == 8, s })
	n2.joinVia(n1)
	wg.Wait()
	if all := c.converge(); len(all) != 8 {
		t.Fatalf("%d of 8 writes: %q", len(all), all)
	}
}
