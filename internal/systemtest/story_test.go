//go:build unix

package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// The seed's fault story: its exact command lines, and everything that may happen to three such nodes.
func TestWritersAtTheSurvivorsSeeNoErrorWhenTheLeaderIsKilledFiveTimesInARow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	before := c.nodes[0].mustView()
	for i, n := range c.nodes { // a write through every node is there at every node
		n.create("printers", fmt.Sprintf(`{"id":"p%d","company":"Prusa","model":"MK4"}`, i))
		for _, other := range c.nodes {
			other.get(fmt.Sprintf("/api/v1/printers/p%d", i))
		}
	}

	l := startLoad(t, 16, c.nodes...)
	for range 5 {
		l.await(50)
		killed := c.killLeader(l)
		l.await(100) // the survivors go on
		killed.start()
		c.awaitVoters(c.nodes...)
	}
	l.stopWithoutFailure()
	l.check(c.nodes...)

	// The same lines as at first have started everything again and done nothing new.
	after := c.nodes[0].mustView()
	if after.ClusterID != before.ClusterID || after.identities() != before.identities() {
		t.Errorf("the cluster is another one after restarts with the same command lines:\n%+v\n%+v", before, after)
	}
}

// killLeader moves the writers to the followers and kills the leader.
func (c *cluster) killLeader(l *load) *node {
	c.t.Helper()
	for {
		leader, others := c.leader()
		l.moveTo(others...)
		if now, _ := c.leader(); now != leader {
			continue // it changed meanwhile; a killed follower would show nothing
		}
		leader.kill()
		return leader
	}
}

func TestAKilledNodeCatchesUpByTheLogAndAfterALongAbsenceByASnapshot(t *testing.T) {
	t.Parallel()
	const installed = "installed a snapshot from the leader"
	c := newCluster(t, "-snapshot-entries=200") // the nodes then keep no more than that in memory for those behind
	_, others := c.leader()
	away, stay := others[0], c.without(others[0])

	l := startLoad(t, 1, stay...)
	away.kill()
	l.await(5)
	l.stopWithoutFailure()
	away.start()
	c.awaitVoters(c.nodes...)
	l.check(c.nodes...)
	if strings.Contains(away.log(), installed) {
		t.Errorf("%s was away for a few entries and was sent the whole state", away.name)
	}

	has := away.metric("raft3d_log_last_index")
	away.kill()
	l.again(8)
	for _, n := range stay { // who has just died is waited for a while
		for n.metric("raft3d_log_first_index") <= has {
			l.await(100)
		}
	}
	away.start()
	l.await(500) // a snapshot of what changes
	c.awaitVoters(c.nodes...)
	l.stopWithoutFailure()
	l.check(c.nodes...)
	away.awaitLog(installed)
}

// without is all nodes of the cluster but these.
func (c *cluster) without(gone ...*node) []*node {
	var rest []*node
	for _, n := range c.nodes {
		keep := true
		for _, g := range gone {
			keep = keep && n != g
		}
		if keep {
			rest = append(rest, n)
		}
	}
	return rest
}

func TestAllThreeKilledAtOnceUnderLoadComeBackWithEverythingAcknowledged(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"FromTheLog": nil, "FromSnapshots": {"-snapshot-entries=200"}} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, flags...)
			l := startLoad(t, 16, c.nodes...)
			l.await(1500)
			var kills sync.WaitGroup
			for _, n := range c.nodes {
				kills.Go(n.kill)
			}
			kills.Wait()
			l.stop() // each writer has met its end, or has been told
			for _, n := range c.nodes {
				n.start()
			}
			c.awaitVoters(c.nodes...)
			l.check(c.nodes...)
			for i, n := range c.nodes {
				n.create("printers", fmt.Sprintf(`{"id":"after%d","company":"Prusa","model":"MK4"}`, i))
			}
		})
	}
}

func TestTwoHundredJobsOfTenGramsOnASpoolOfAThousandAreAHundred(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.nodes[0].create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
	c.nodes[1].create("filaments", `{"id":"s","type":"PLA","color":"black","total_weight_in_grams":1000}`)

	const jobs = 200
	replies := make([]reply, jobs)
	errs := make([]error, jobs)
	var calls sync.WaitGroup
	at := make(chan struct{})
	for i := range jobs {
		calls.Go(func() {
			<-at
			replies[i], errs[i] = c.nodes[i%3].try("POST", "/api/v1/print_jobs", fmt.Sprintf(
				`{"id":"j%d","printer_id":"p","filament_id":"s","filepath":"a.gcode","print_weight_in_grams":10}`, i))
		})
	}
	close(at) // all at once
	calls.Wait()

	created := map[string]bool{}
	for i, r := range replies {
		switch {
		case errs[i] != nil:
			t.Errorf("job %d: %v", i, errs[i])
		case r.status == http.StatusCreated:
			created[decode[job](t, r).ID] = true
		case r.status == http.StatusConflict:
			if left := decode[problem](t, r).Available; left == nil || *left >= 10 {
				t.Errorf("job %d of 10 g is refused, but does not say that less is available: %v", i, r)
			}
		default:
			t.Errorf("job %d: %v", i, r)
		}
	}
	if len(created) != 100 {
		t.Errorf("%d jobs of 10 g were created on a spool of 1000 g, want 100", len(created))
	}
	for _, n := range c.nodes {
		s := decode[spool](t, n.get("/api/v1/filaments/s"))
		if s.Reserved != 1000 || s.Available != 0 || s.Remaining != 1000 {
			t.Errorf("%s: the spool is %+v, want 1000 g reserved and 0 g available", n.name, s)
		}
		listed := decode[[]job](t, n.get("/api/v1/print_jobs"))
		if len(listed) != len(created) {
			t.Errorf("%s lists %d jobs, %d were created", n.name, len(listed), len(created))
		}
		for _, j := range listed {
			if !created[j.ID] {
				t.Errorf("%s lists job %s, which was refused", n.name, j.ID)
			}
		}
	}
}

func TestTheNodesAnswerEveryListWithTheSameBytesAtTheSameRevision(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := startLoad(t, 2, c.nodes...)

	// Under load: whoever shows the same revision shows the same bytes. The spool changes with every job.
	type shown struct {
		list     string
		revision uint64
	}
	var mu sync.Mutex
	bytes := map[shown]reply{}
	compare := func(n *node, list, query string) {
		r, err := n.try("GET", list+query, "")
		if err != nil || r.status != 200 {
			t.Errorf("%s: GET %s%s: %v %v", n.name, list, query, r, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		at := shown{list, r.revision(t)}
		if first, ok := bytes[at]; ok && first.body != r.body {
			t.Errorf("%s differs at revision %d: %s", list, at.revision, firstDifference(first.body, r.body))
		}
		bytes[at] = r
	}
	for range 20 {
		l.await(10)
		for _, list := range lists {
			var calls sync.WaitGroup
			for _, n := range c.nodes {
				calls.Go(func() { compare(n, list, "") })
				calls.Go(func() { compare(n, list, "?consistency=stale") })
			}
			calls.Wait()
		}
	}
	l.stopWithoutFailure()
	l.check(c.nodes...)
	for _, filter := range []string{"/api/v1/print_jobs?status=Queued", "/api/v1/filaments?type=pla", "/api/v1/printers?company=Prusa"} {
		first := c.nodes[0].get(filter)
		for _, n := range c.nodes[1:] {
			if r := n.get(filter); r.body != first.body || r.revision(t) != first.revision(t) {
				t.Errorf("%s differs at %s", filter, firstDifference(first.body, r.body))
			}
		}
	}
}
