package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const someCluster = `{"cluster_id":"00000000000000c1","members":[
	{"id":"node1","role":"leader"},{"id":"node3","role":"learner"}]}`

// seed is a member to join at: it answers each call with the next of answers, the last one again and again.
type seed struct {
	*httptest.Server
	calls   []string
	bodies  []string
	answers []answer
}

type answer struct {
	status int
	body   string
}

func newSeed(t *testing.T, answers ...answer) *seed {
	s := &seed{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the call: %v", err)
		}
		s.calls, s.bodies = append(s.calls, r.Method+" "+r.URL.Path), append(s.bodies, string(body))
		a := s.answers[min(len(s.calls), len(s.answers))-1]
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *seed) address() string { return strings.TrimPrefix(s.URL, "http://") }

// joinerTo is one that does not wait between rounds, and gives up after twenty.
func joinerTo(logs io.Writer, addresses ...string) *joiner {
	j := newJoiner(options{id: "node2", join: addresses}, "127.0.0.1:8002", slog.New(slog.NewTextHandler(logs, nil)))
	j.pause = func(ctx context.Context, attempt int) error {
		if attempt == 20 {
			return errors.New("still waiting after 20 rounds")
		}
		return ctx.Err()
	}
	return j
}

func TestAJoinerTriesItsAddressesUntilOneAnswers(t *testing.T) {
	starting := newSeed(t, answer{503, `{"detail":"this node is starting"}`})
	there := newSeed(t, answer{503, `{"detail":"no leader"}`}, answer{200, someCluster})
	found, err := joinerTo(io.Discard, "127.0.0.1:1", starting.address(), there.address()).cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.id != 0xc1 || found.address != there.address() {
		t.Errorf("found cluster %x at %s", found.id, found.address)
	}
}

func TestAJoinerLogsEachObstacleOnce(t *testing.T) {
	s := newSeed(t, answer{503, `{"detail":"is starting"}`}, answer{503, `{"detail":"is starting"}`},
		answer{503, `{"detail":"is starting"}`}, answer{503, `{"detail":"no leader"}`}, answer{503, `{"detail":"no leader"}`},
		answer{200, someCluster})
	var logs bytes.Buffer
	if _, err := joinerTo(&logs, s.address()).cluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(logs.String(), "\n"); lines != 2 {
		t.Errorf("want one line for each of two obstacles, got %d:\n%s", lines, &logs)
	}
}

func TestAJoinerDoesNotAskItself(t *testing.T) {
	_, err := joinerTo(io.Discard, "127.0.0.1:8002").cluster(t.Context())
	var wrong *usageError
	if !errors.As(err, &wrong) {
		t.Errorf("want it called wrong use, got %v", err)
	}
}

func TestAJoinerGoesOnToAMemberThatHasJoinedItself(t *testing.T) {
	stillJoining := newSeed(t, answer{200, `{"cluster_id":"00000000000000c1","members":[]}`})
	there := newSeed(t, answer{200, someCluster})
	found, err := joinerTo(io.Discard, stillJoining.address(), there.address()).cluster(t.Context())
	if err != nil || found.address != there.address() {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestSomethingElseThanANodeIsToldSo(t *testing.T) {
	for _, body := range []string{"<html>", "[]", `{}`, `{"cluster_id":"zz"}`, `{"cluster_id":"0000000000000000"}`} {
		_, err := joinerTo(io.Discard, newSeed(t, answer{200, body}).address()).cluster(t.Context())
		if err == nil || !strings.Contains(err.Error(), "does not answer like a Raft3D node") {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestAnEmptyDirectoryUnderAVotersNameIsRefused(t *testing.T) {
	found, err := decodeCluster([]byte(someCluster))
	if err != nil {
		t.Fatal(err)
	}
	found.address = "127.0.0.1:8001"
	err = found.refuseVoter(options{id: "node1", dataDir: "./data/node1"})
	want := "curl -X DELETE http://127.0.0.1:8001/api/v1/cluster/members/node1"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "./data/node1 is empty") {
		t.Errorf("want %q in it, got %v", want, err)
	}
	for _, id := range []string{"node2", "node3"} { // a stranger, and a learner, which never voted
		if err := found.refuseVoter(options{id: id}); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestAJoinerAsksUntilItIsAMember(t *testing.T) {
	s := newSeed(t, answer{503, `{"detail":"no leader"}`}, answer{429, `{}`}, answer{201, `{}`})
	err := joinerTo(io.Discard, s.address()).become(t.Context(),
		membership{ID: "node2", Raft: "127.0.0.1:9002", HTTP: "127.0.0.1:8002", MemberID: "000000000000002a"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"node2","raft":"127.0.0.1:9002","http":"127.0.0.1:8002","member_id":"000000000000002a"}`
	if !slices.Equal(s.calls, slices.Repeat([]string{"POST /api/v1/cluster/members"}, 3)) || s.bodies[2] != want {
		t.Errorf("calls %v, last body %s", s.calls, s.bodies[2])
	}
}

func TestARefusalIsFinalAndToldInTheClustersWords(t *testing.T) {
	s := newSeed(t, answer{409, `{"title":"Conflict","detail":"node2 is a member of this cluster already"}`})
	err := joinerTo(io.Discard, s.address()).become(t.Context(), membership{ID: "node2"})
	var final *refused
	if !errors.As(err, &final) || !strings.Contains(err.Error(), "node2 is a member of this cluster already") {
		t.Errorf("got %v", err)
	}
	if len(s.calls) != 1 {
		t.Errorf("asked %d times", len(s.calls))
	}
}

func TestAJoinerStopsWhenItIsAskedTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	j := joinerTo(io.Discard, "127.0.0.1:1")
	j.pause = func(ctx context.Context, _ int) error { cancel(); return backOff(ctx, 10) }
	if _, err := j.cluster(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
