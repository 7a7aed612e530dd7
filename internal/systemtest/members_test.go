//go:build unix

package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestMembersGoFromThreeToFiveAndBackUnderLoadWithoutAFailedWrite(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	stay := c.nodes[1:3]
	l := startLoad(t, 8, stay...)
	l.await(100)
	c.add().start()
	c.add().start()
	c.awaitVoters(c.nodes...)
	l.await(100)

	leaving := []*node{c.nodes[0], c.nodes[4]}
	c.lead(leaving[0]) // a leader that removes itself
	for _, n := range leaving {
		stay[0].do(200, "DELETE", "/api/v1/cluster/members/"+n.name, "")
		if status := n.exit(); status != 0 {
			t.Errorf("%s ended with status %d after its removal, want 0", n.name, status)
		}
		says(t, n.log(), "this node was removed from its cluster")
		l.await(100)
	}
	stay = c.nodes[1:4]
	c.awaitVoters(stay...)
	l.stopWithoutFailure()
	l.check(stay...)

	// Those who were removed find out, whatever their command line says, and nobody else notices.
	before := stay[0].mustView()
	for _, n := range leaving {
		n.start()
		n.exit()
		says(t, n.log(), "removed from its cluster", "empty data directory")
	}
	after := stay[0].mustView()
	if after.Term != before.Term || after.Leader != before.Leader || after.identities() != before.identities() {
		t.Errorf("removed members that came back disturbed the cluster:\nbefore %+v\nafter  %+v", before, after)
	}
	for i, n := range stay {
		n.create("printers", fmt.Sprintf(`{"id":"after%d","company":"Prusa","model":"MK4"}`, i))
	}
}

// advice is the command that a refused node says to run.
var advice = regexp.MustCompile(`curl -X DELETE http://(127\.0\.0\.1:\d+)(/api/v1/cluster/members/\S+?)[,;" ]`)

func TestAnEmptiedDirectoryUnderAVotersNameIsRefusedUntilOneDoesWhatTheMessageSays(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := startLoad(t, 4, c.nodes[:2]...)
	lost := c.nodes[2]
	lost.kill()
	if err := os.RemoveAll(lost.dir); err != nil {
		t.Fatal(err)
	}

	lost.start() // refused by itself
	if status := lost.exit(); status != 1 {
		t.Errorf("%s ended with status %d with an emptied directory, want 1", lost.name, status)
	}
	says(t, lost.log(), lost.name, lost.dir, "remove it", "then join again")
	command := advice.FindStringSubmatch(lost.log())
	if command == nil {
		t.Fatalf("it names no command to run:\n%s", lost.log())
	}
	if _, err := os.Stat(filepath.Join(lost.dir, "wal")); err == nil {
		t.Errorf("a refused node has begun a log in %s", lost.dir)
	}

	// And by its peers, had it asked them.
	asked := fmt.Sprintf(`{"id":%q,"raft":%q,"http":%q}`, lost.name, lost.raft, lost.http)
	for _, n := range c.nodes[:2] {
		refused := decode[problem](t, n.do(409, "POST", "/api/v1/cluster/members", asked))
		says(t, refused.Detail, lost.name, "removed", "join again", "DELETE /api/v1/cluster/members/"+lost.name)
	}

	r, err := call(c.client, "DELETE", "http://"+command[1]+command[2], "")
	if err != nil || r.status != 200 {
		t.Fatalf("DELETE http://%s%s, as it said: %v %v", command[1], command[2], r, err)
	}
	lost.start()
	c.awaitVoters(c.nodes...)
	l.stopWithoutFailure()
	l.check(c.nodes...)
}

func TestADirectoryThatLostItsLogIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	c := emptyCluster(t)
	n := c.add()
	n.start()
	n.awaitReady()
	n.create("printers", `{"company":"Prusa","model":"MK4"}`)
	n.stop()
	if err := os.RemoveAll(filepath.Join(n.dir, "wal")); err != nil {
		t.Fatal(err)
	}
	n.start() // its line says -bootstrap: it must not start a farm anew over what is left of the old one
	if status := n.exit(); status != 1 {
		t.Errorf("it ended with status %d, want 1", status)
	}
	says(t, n.log(), n.dir, "no log", "remove this member")
	if _, err := os.Stat(filepath.Join(n.dir, "state.db")); err != nil {
		t.Errorf("what was left is gone: %v", err)
	}
}

// The founder's line says -bootstrap for ever. With an emptied directory that would be a second farm at an address where
// the others expect a member.
func TestAnEmptiedFounderBeginsNoSecondFarm(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	founder, stay := c.nodes[0], c.nodes[1:]
	c.lead(founder)
	l := startLoad(t, 4, stay...)
	l.await(50)
	founder.kill()
	if err := os.RemoveAll(founder.dir); err != nil {
		t.Fatal(err)
	}
	before := stay[0].mustView().identities()
	founder.start()
	if status := founder.exit(); status != 1 {
		t.Errorf("it ended with status %d, want 1", status)
	}
	says(t, founder.log(), "another cluster expects a member", "-X DELETE", "-join")
	if after := stay[0].mustView().identities(); after != before {
		t.Errorf("the members were\n%sand are\n%s", before, after)
	}

	// It comes back as everybody does who lost a disk.
	stay[0].do(200, "DELETE", "/api/v1/cluster/members/"+founder.name, "")
	if err := os.RemoveAll(founder.dir); err != nil {
		t.Fatal(err)
	}
	founder.args = append(founder.args[:4:4], "-join="+stay[0].http+","+stay[1].http)
	founder.start()
	c.awaitVoters(c.nodes...)
	l.stopWithoutFailure()
	l.check(c.nodes...)
}
