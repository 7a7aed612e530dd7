//go:build unix

package systemtest

import (
	"fmt"
	"strings"
	"testing"
)

func TestTheFeedKeepsAsManyChangesAsTheHistoryFlagSays(t *testing.T) {
	t.Parallel()
	n := emptyCluster(t, "-history=20").add()
	n.start()
	n.awaitReady()
	var newest uint64
	for range 50 {
		newest = n.create("printers", `{"company":"Prusa","model":"MK4"}`).revision(t)
	}
	kept := n.get(fmt.Sprintf("/api/v1/events?since=%d", newest-20)).body
	if lines := strings.Count(strings.TrimSpace(kept), "\n") + 1; lines != 20 {
		t.Errorf("of the newest 20 changes it has %d:\n%s", lines, kept)
	}
	gone := n.do(410, "GET", fmt.Sprintf("/api/v1/events?since=%d", newest-30), "")
	says(t, gone.body, fmt.Sprint(newest-19))
}
