package raftnode

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

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
