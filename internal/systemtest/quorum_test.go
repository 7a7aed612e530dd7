//go:build unix

package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestWithoutAQuorumWritesSayWhetherTheyMayStillHappen(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	leader, others := c.leader()
	left := others[0]
	left.create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
	left.get("/api/v1/printers/p")
	leader.kill()
	others[1].kill()

	// What came of each write, by its id.
	outcomes := map[string]string{}
	write := func(id string) string {
		t.Helper()
		r := left.do(http.StatusServiceUnavailable, "POST", "/api/v1/printers?timeout=300ms",
			fmt.Sprintf(`{"id":%q,"company":"Prusa","model":"MK4"}`, id))
		p := decode[problem](t, r)
		if r.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After in %v", r)
		}
		switch p.Outcome {
		case "unknown":
			says(t, p.Detail, "may still take effect")
		case "not_applied":
			says(t, p.Detail, "did not take effect")
		default:
			t.Errorf("outcome %q in %v", p.Outcome, r)
		}
		outcomes[id] = p.Outcome
		return p.Outcome
	}
	write("at-once") // it may have gone to the leader that was dying

	eventually(t, left.name+" knows that there is no leader", func() error {
		v, err := left.view()
		if err == nil && v.Leader != "" {
			err = fmt.Errorf("%s leads", v.Leader)
		}
		return err
	})
	if got := write("without-a-leader"); got != "not_applied" {
		t.Errorf("a write that never left this node: outcome %q, want not_applied", got)
	}
	refused := left.do(http.StatusServiceUnavailable, "GET", "/api/v1/printers?timeout=300ms", "")
	if refused.header.Get("Retry-After") == "" || decode[problem](t, refused).Outcome != "" {
		t.Errorf("a read without a quorum: %v; want Retry-After and no outcome", refused)
	}
	says(t, left.get("/api/v1/printers?consistency=stale").body, `"id":"p"`)
	says(t, left.get("/api/v1/printers/p?consistency=stale").body, `"id":"p"`)
	left.get("/livez")
	left.do(http.StatusServiceUnavailable, "GET", "/readyz", "")

	// A leader that has lost its followers has the writes in its log; whether they count is open.
	others[1].start()
	c.leader()
	left.create("printers", `{"id":"again","company":"Prusa","model":"MK4"}`)
	lone, rest := c.leader()
	rest[0].kill()
	left = lone
	write("at-a-lone-leader")

	leader.start()
	rest[0].start()
	c.awaitVoters(c.nodes...)
	c.nodes[0].create("printers", `{"id":"at-last","company":"Prusa","model":"MK4"}`)
	for _, n := range c.nodes {
		printers := n.get("/api/v1/printers").body
		for id, outcome := range outcomes {
			if outcome == "not_applied" && strings.Contains(printers, fmt.Sprintf("%q", id)) {
				t.Errorf("printer %s was given up as not_applied, and is there:\n%s", id, printers)
			}
		}
		says(t, printers, `"id":"p"`, `"id":"again"`, `"id":"at-last"`)
	}
}
