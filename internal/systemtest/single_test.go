//go:build unix

package systemtest

import (
	"fmt"
	"path/filepath"
	"testing"
)

func TestASingleNodeIsAFullInstallationAndGrowsToThree(t *testing.T) {
	t.Parallel()
	c := emptyCluster(t)
	one := c.add()
	alone := func() { // nothing but -bootstrap; the test's free ports come from the environment
		one.process = startProcess(t, one.name, c.dir, []string{"RAFT3D_HTTP=" + one.http, "RAFT3D_RAFT=" + one.raft}, binary, "-bootstrap")
	}
	one.dir = filepath.Join(c.dir, "data", "node1") // the default
	alone()
	one.awaitReady()

	// The seed's calls.
	printer := decode[job](t, one.create("printers", `{"company":"Creality","model":"Ender 3"}`))
	filament := decode[spool](t, one.create("filaments", `{"type":"PLA","color":"black","total_weight_in_grams":1000}`))
	made := decode[job](t, one.create("print_jobs", fmt.Sprintf(
		`{"printer_id":%q,"filament_id":%q,"filepath":"prints/gear.gcode","print_weight_in_grams":120.5}`, printer.ID, filament.ID)))
	one.do(200, "POST", "/api/v1/print_jobs/"+made.ID+"/status?status=Running", "")
	one.do(200, "POST", "/api/v1/print_jobs/"+made.ID+"/status?status=Done", "")
	if s := decode[spool](t, one.get("/api/v1/filaments/"+filament.ID)); s.Remaining != 879.5 || s.Reserved != 0 {
		t.Errorf("after a job of 120.5 g the spool is %+v, want 879.5 g remaining", s)
	}
	one.do(200, "POST", "/debug/snapshot", "")
	says(t, one.get("/metrics").body, "raft3d_is_leader 1")

	var before [3]string
	for i, list := range lists {
		before[i] = one.get(list).body
	}
	keepsAll := func(n *node, when string) {
		for i, list := range lists {
			if now := n.get(list).body; now != before[i] {
				t.Errorf("%s is another one %s: %s", list, when, firstDifference(before[i], now))
			}
		}
	}
	one.stop()
	alone()
	one.awaitReady()
	keepsAll(one, "after a restart")
	one.kill()
	alone()
	one.awaitReady()
	keepsAll(one, "after kill -9")

	c.add().start()
	c.add().start()
	c.awaitVoters(c.nodes...)
	for _, n := range c.nodes {
		keepsAll(n, "at "+n.name+" of three")
	}
	one.kill()
	c.nodes[1].create("printers", `{"id":"later","company":"Prusa","model":"MK4"}`)
	c.nodes[2].get("/api/v1/printers/later")
}
