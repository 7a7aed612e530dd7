package raftnode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func TestANodeWithItsStateHoldsOnlyTheEndOfItsLog(t *testing.T) {
	c := newTestCluster(t)
	n := c.found("node1", func(c *Config) { c.KeepEntries = 2 })
	for i := range 40 {
		c.propose(n, fmt.Sprint("c", i))
	}
	last := n.node.Status().LastIndex
	n.stop()
	n.startWith(n.state)
	if first := n.node.Status().FirstIndex; first != last-1 {
		t.Errorf("the log begins at %d, want the last 2 up to %d", first, last)
	}
	c.propose(n, "more")
	if cmds := n.state.commands(); len(cmds) != 41 || cmds[40] != "more" {
		t.Errorf("%d commands: %v", len(cmds), cmds)
	}

	n.stop()
	n.start() // its state is lost, and all of the log is applied again
	c.propose(n, "and more")
	if cmds := n.state.commands(); len(cmds) != 42 || cmds[0] != "c0" || cmds[41] != "and more" {
		t.Errorf("%d commands: %v", len(cmds), cmds)
	}
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
