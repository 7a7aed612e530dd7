package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"raft3d/farm"
	"raft3d/raftnode"
)

func TestTheClusterIsShownWithWhatIsKnown(t *testing.T) {
	w := stocked(t)
	got := w.call("GET", "/api/v1/cluster", "").is(http.StatusOK).has("Content-Type", "application/json")
	want := `{"cluster_id":"00000000000000aa","member":"node1","leader":"node1","term":3,"commit_index":90,"applied_index":88,"revision":4,"members":[` +
		`{"id":"node1","member_id":"0000000000000001","role":"leader","raft":"127.0.0.1:9001","http":"127.0.0.1:8001","version":"v1","match_index":91,"last_contact_ms":0},` +
		`{"id":"node2","member_id":"0000000000000002","role":"voter","raft":"127.0.0.1:9002","http":"127.0.0.1:8002","version":null,"match_index":89,"last_contact_ms":12.5},` +
		`{"id":"node3","member_id":"0000000000000003","role":"learner","raft":"127.0.0.1:9003","http":"127.0.0.1:8003","version":null,"match_index":null,"last_contact_ms":null}]}` + "\n"
	if got.body != want {
		t.Errorf("want %s\ngot  %s", want, got.body)
	}
}

func TestTheClusterIsShownWithoutALeader(t *testing.T) {
	w := newWorld(t)
	w.cluster.status.Leader, w.cluster.status.Members = "", nil
	w.cluster.ask = func(context.Context) (raftnode.Status, error) { return raftnode.Status{}, errUnavailable }
	got := w.call("GET", "/api/v1/cluster", "").is(http.StatusOK)
	if !strings.Contains(got.body, `"leader":null`) || !strings.Contains(got.body, `"members":[]`) {
		t.Errorf("got %s", got.body)
	}
}

func TestANodeJoinsUnderTheIDThatItDrew(t *testing.T) {
	w := newWorld(t)
	var asked raftnode.Member
	w.cluster.onAdd = func(m raftnode.Member) (raftnode.Member, error) {
		asked = m
		m.Role = "learner"
		return m, nil
	}
	const body = `{"id":"node4","raft":"node4.farm:9004","http":"[2001:db8::4]:8004","member_id":"00000000000000ff"}`
	got := w.call("POST", "/api/v1/cluster/members", body).is(http.StatusCreated).has("Location", "/api/v1/cluster/members/node4")
	want := `{"id":"node4","member_id":"00000000000000ff","role":"learner","raft":"node4.farm:9004","http":"[2001:db8::4]:8004","version":null,"match_index":null,"last_contact_ms":null,"cluster_id":"00000000000000aa"}` + "\n"
	if got.body != want {
		t.Errorf("want %s\ngot  %s", want, got.body)
	}
	if asked.MemberID != 0xff || asked.Learner {
		t.Errorf("asked for %+v", asked)
	}
	w.call("POST", "/api/v1/cluster/members", `{"id":"node4","raft":"a:1","http":"a:2","voter":false}`).is(http.StatusCreated)
	if asked.MemberID != 0 || !asked.Learner {
		t.Errorf("asked for %+v", asked)
	}
	w.cluster.onAdd = func(raftnode.Member) (raftnode.Member, error) {
		return raftnode.Member{}, &farm.Error{Kind: farm.Conflict, Field: "id", Detail: "node4 is a member already: remove it first"}
	}
	w.call("POST", "/api/v1/cluster/members", body).faults(409, "id")
}

func TestAMemberThatCannotBeIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		status      int
		field, body string
	}{
		{422, "http", `{"id":"n","raft":"a:1"}`},
		{422, "raft", `{}`},
		{422, "id", `{"raft":"a:1","http":"a:1"}`},
		{422, "id", `{"id":"a b","raft":"a:1","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"a","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":":9001","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"a:0","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"[3Ce]:1","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"a:65536","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"a:http","http":"a:1"}`},
		{422, "raft", `{"id":"n","raft":"a:+1","http":"a:1"}`},
		{422, "http", `{"id":"n","raft":"a:1","http":"http://a:1"}`},
		{422, "http", `{"id":"n","raft":"a:1","http":"a:1/x"}`},
		{422, "http", `{"id":"n","raft":"a:1","http":"a/b:1"}`},
		{422, "http", `{"id":"n","raft":"a:1","http":"u@a:1"}`},
		{422, "http", `{"id":"n","raft":"a:1","http":"[a:b]:1"}`},
		{422, "member_id", `{"id":"n","raft":"a:1","http":"a:1","member_id":"ff"}`},
		{422, "member_id", `{"id":"n","raft":"a:1","http":"a:1","member_id":"0000000000000000"}`},
		{422, "member_id", `{"id":"n","raft":"a:1","http":"a:1","member_id":"+00000000000000f"}`},
		{400, "member_id", `{"id":"n","raft":"a:1","http":"a:1","member_id":255}`},
		{400, "voter", `{"id":"n","raft":"a:1","http":"a:1","voter":"yes"}`},
		{400, "role", `{"id":"n","raft":"a:1","http":"a:1","role":"voter"}`},
	} {
		w.call("POST", "/api/v1/cluster/members", test.body).faults(test.status, test.field)
	}
}

func TestAMemberIsRemovedAndShownAsItWas(t *testing.T) {
	w := newWorld(t)
	var forced bool
	w.cluster.onRemove = func(id string, force bool) error {
		forced = force
		switch {
		case id == "nobody":
			return &farm.Error{Kind: farm.NotFound, Detail: "there is no member nobody"}
		case id == "node2" && !force:
			return &farm.Error{Kind: farm.Conflict, Detail: "no live quorum would be left; ?force=true overrides"}
		}
		w.cluster.status.Members = w.cluster.status.Members[:1]
		return nil
	}
	w.call("DELETE", "/api/v1/cluster/members/nobody", "").problem(404)
	w.call("DELETE", "/api/v1/cluster/members/node2", "").problem(409)
	got := w.call("DELETE", "/api/v1/cluster/members/node2?force=true", "").is(http.StatusOK)
	if !forced || !strings.Contains(got.body, `"id":"node2","member_id":"0000000000000002"`) {
		t.Errorf("forced %v: %s", forced, got.body)
	}
	w.call("GET", "/api/v1/cluster/members/node2", "").has("Allow", "DELETE, OPTIONS").problem(405)
}

func TestALearnerIsPromotedOnceItHasCaughtUp(t *testing.T) {
	w := newWorld(t)
	w.cluster.onPromote = func(string) error { return &farm.Error{Kind: farm.Conflict, Detail: "node3 is 5 entries behind"} }
	w.call("POST", "/api/v1/cluster/members/node3/promote", "").problem(409)
	w.cluster.onPromote = func(string) error { return nil }
	got := w.call("POST", "/api/v1/cluster/members/node3/promote", "").is(http.StatusOK)
	if !strings.Contains(got.body, `"id":"node3"`) || !strings.Contains(got.body, `"role":"voter"`) {
		t.Errorf("got %s", got.body)
	}
}

func TestTheLeadershipMovesToWhomeverIsNamedOrToTheBest(t *testing.T) {
	w := newWorld(t)
	w.cluster.onTransfer = func(id string) (string, error) {
		if id == "" {
			return "best", nil
		}
		return id, nil
	}
	for body, want := range map[string]string{"": "best", `{}`: "best", `{"id":"node2"}`: "node2"} {
		if got := w.call("POST", "/api/v1/cluster/leader", body).is(http.StatusOK); got.body != `{"leader":"`+want+`"}`+"\n" {
			t.Errorf("%q: want %s, got %s", body, want, got.body)
		}
	}
	w.call("POST", "/api/v1/cluster/leader", `{"id":""}`).faults(422, "id")
	w.cluster.onTransfer = func(string) (string, error) { return "", errUnavailable }
	w.call("POST", "/api/v1/cluster/leader", "").problem(503)
}

func TestASnapshotSaysWhatItHolds(t *testing.T) {
	w := stocked(t)
	w.cluster.onSnapshot = func() (uint64, uint64, int64, error) { return 88, 3, 4096, nil }
	if got := w.call("POST", "/debug/snapshot", "").is(http.StatusOK); got.body != `{"index":88,"term":3,"revision":4,"bytes":4096}`+"\n" {
		t.Errorf("got %s", got.body)
	}
	w.cluster.onSnapshot = func() (uint64, uint64, int64, error) { return 0, 0, 0, errors.New("write snapshot: disk on fire") }
	a := w.call("POST", "/debug/snapshot", "")
	a.problem(500)
	if strings.Contains(a.body, "fire") || strings.Count(w.log.String(), "disk on fire") != 1 || !strings.Contains(w.log.String(), "route=/debug/snapshot") {
		t.Errorf("answer %s\nlog %s", a.body, w.log)
	}
}
