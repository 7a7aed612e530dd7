package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
	"raft3d/raftnode"
)

// again asserts that two answers are the same to a client, and that only the second says that it is a repeat.
func again(t *testing.T, first, second *answer) {
	t.Helper()
	first.has(headerReplayed, "")
	second.is(first.StatusCode).has(headerReplayed, "true")
	for _, name := range []string{"Location", "ETag", "Content-Type", "Content-Length"} {
		second.has(name, first.Header.Get(name))
	}
	if first.body != second.body {
		t.Errorf("%s: first %q, then %q", first.request, first.body, second.body)
	}
}

func TestAKeyedChangeHappensOnceAndIsAnsweredAlike(t *testing.T) {
	for _, test := range []struct {
		method, target, body string
		status               int
	}{
		{"POST", "/api/v1/printers", aPrinter, 201},
		{"POST", "/api/v1/filaments", `{"type":"PLA","color":"x","total_weight_in_grams":1}`, 201},
		{"POST", "/api/v1/print_jobs", `{"printer_id":"p1","filament_id":"f1","filepath":"a","print_weight_in_grams":1}`, 201},
		{"PATCH", "/api/v1/printers/p1", `{"name":"x"}`, 200},
		{"PATCH", "/api/v1/filaments/f1", `{"name":"x"}`, 200},
		{"PATCH", "/api/v1/print_jobs/j1", `{"name":"x"}`, 200},
		{"POST", "/api/v1/print_jobs/j1/status?status=Running", "", 200},
		{"POST", "/api/v1/print_jobs/j1/status", `{"status":"Canceled"}`, 200},

		{"POST", "/api/v1/printers", `{"id":"p1","company":"a","model":"b"}`, 409},
		{"POST", "/api/v1/print_jobs", `{"printer_id":"nobody","filament_id":"f1","filepath":"a","print_weight_in_grams":1}`, 422},
		{"POST", "/api/v1/print_jobs", `{"printer_id":"p1","filament_id":"f1","filepath":"a","print_weight_in_grams":5000}`, 409},
		{"POST", "/api/v1/print_jobs/j1/status?status=Done", "", 409},
		{"PATCH", "/api/v1/printers/nobody", `{"name":"x"}`, 404},
		{"DELETE", "/api/v1/printers/p1", "", 409},
		{"DELETE", "/api/v1/printers/nobody", "", 404},
	} {
		w := stocked(t)
		first := w.call(test.method, test.target, test.body, headerKey+": k1").is(test.status)
		revision := w.farm.revision
		// What would be decided now is something else.
		w.call("POST", "/api/v1/printers", `{"id":"nobody","company":"a","model":"b"}`).is(201)
		w.call("POST", "/api/v1/print_jobs/j1/status?status=Canceled", "")
		between := w.farm.revision
		again(t, first, w.call(test.method, test.target, test.body, headerKey+": k1"))
		if w.farm.revision != between {
			t.Errorf("%s %s happened again: revision %d after %d", test.method, test.target, w.farm.revision, revision)
		}
	}
}

func TestADeletionIsReplayed(t *testing.T) {
	w := stocked(t)
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Canceled", "").is(200)
	first := w.call("DELETE", "/api/v1/print_jobs/j1", "", headerKey+": k").is(http.StatusNoContent)
	again(t, first, w.call("DELETE", "/api/v1/print_jobs/j1", "", headerKey+": k"))
	w.call("DELETE", "/api/v1/print_jobs/j1", "").is(404)
}

func TestAKeyIsForOneRequestOnly(t *testing.T) {
	w := stocked(t)
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Running", `{"status":"Running"}`, headerKey+": k").is(200)
	revision := w.farm.revision
	for _, other := range []string{
		`POST /api/v1/print_jobs/j1/status?status=Running {"status":"running"}`, // the raw body counts, byte by byte
		`POST /api/v1/print_jobs/j1/status?status=Running {"status":"Running"} `,
		`POST /api/v1/print_jobs/j1/status?status=running {"status":"Running"}`,
		`POST /api/v1/print_jobs/j1/status {"status":"Running"}`,
		`POST /api/v1/print_jobs/j2/status?status=Running {"status":"Running"}`,
		`DELETE /api/v1/print_jobs/j1 `,
		`POST /api/v1/printers ` + aPrinter,
	} {
		method, rest, _ := strings.Cut(other, " ")
		target, body, _ := strings.Cut(rest, " ")
		w.call(method, target, body, headerKey+": k").faults(422, headerKey)
	}
	if w.farm.revision != revision {
		t.Errorf("something happened")
	}
	for _, same := range []string{"/api/v1/print_jobs/j1/status?status=Running&timeout=9s", "/api/v1/print_jobs/j%31/status?timeout=1s&status=%52unning"} {
		w.call("POST", same, `{"status":"Running"}`, headerKey+": k").is(200).has(headerReplayed, "true")
	}
}

// The parts of a request must not run into each other.
func TestFingerprintsTellRequestsApart(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, c := range []*call{
		{route: &route{path: "/a"}}, {route: &route{path: "/a"}, id: "b"}, {route: &route{path: "/ab"}}, {route: &route{path: "/a"}, body: []byte("b")},
		{route: &route{path: "/a"}, query: query{"b": {""}}}, {route: &route{path: "/a"}, body: []byte("b=")}, {route: &route{path: "/a"}, query: query{"b": {"1", "2"}}},
	} {
		c.r = httptest.NewRequest("POST", "/", nil)
		name := fmt.Sprintf("%+v", c)
		sum := c.fingerprintOf()
		if before, taken := seen[sum]; taken {
			t.Errorf("%s is the same as %s", name, before)
		}
		seen[sum] = name
	}
}

func TestAFaultOfFormLeavesItsKeyFree(t *testing.T) {
	w := newWorld(t)
	key := headerKey + ": k"
	for range 2 {
		w.call("POST", "/api/v1/printers", `{"company":"Prusa"}`, key).has(headerReplayed, "").faults(422, "model")
		w.call("POST", "/api/v1/printers", `{"company":`, key).has(headerReplayed, "").problem(400)
		w.call("POST", "/api/v1/printers", aPrinter, key, "Content-Type: text/plain").problem(415)
		w.call("POST", "/api/v1/printers", strings.Repeat(" ", maxBodyBytes+1), key).problem(413)
	}
	if len(w.farm.commands) > 0 {
		t.Errorf("they reached the farm: %v", w.farm.commands)
	}
	w.call("POST", "/api/v1/printers", aPrinter, key).is(201).has(headerReplayed, "")
}

func TestAKeyMustBeVisibleAndSingle(t *testing.T) {
	w := stocked(t)
	for _, bad := range []string{"", "a b", "ä", "a\x7f", "a\tb", strings.Repeat("x", 129)} {
		for _, call := range []string{"POST /api/v1/printers", "PATCH /api/v1/printers/p1", "DELETE /api/v1/print_jobs/j1", "POST /debug/snapshot", "DELETE /api/v1/cluster/members/node2"} {
			method, target, _ := strings.Cut(call, " ")
			w.call(method, target, "", headerKey+": "+bad).faults(400, headerKey)
		}
	}
	w.call("POST", "/api/v1/printers", aPrinter, headerKey+": a", headerKey+": a").faults(400, headerKey)
	for _, good := range []string{"!", "~", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`, strings.Repeat("x", 128)} {
		w.call("POST", "/api/v1/printers", aPrinter, headerKey+": "+good).is(201)
	}
	w.call("GET", "/api/v1/printers", "", headerKey+": a b").is(200) // a read needs none
}

func TestWithoutAKeyNothingIsKept(t *testing.T) {
	w := newWorld(t)
	w.cluster.onPromote = func(string) error { return nil }
	w.call("POST", "/api/v1/printers", aPrinter).is(201)
	w.call("POST", "/api/v1/cluster/members/node2/promote", "").is(200)
	if len(w.farm.keys) != 0 || len(w.farm.commands) != 1 || w.farm.stamps[0].Key != "" || w.farm.stamps[0].Fingerprint != [32]byte{} {
		t.Errorf("keys %v, commands %v", w.farm.keys, w.farm.commands)
	}
}

func TestAKeyedCallToTheClusterIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	done := map[string]int{}
	w.cluster.onAdd = func(m raftnode.Member) (raftnode.Member, error) { done["add"]++; return m, nil }
	w.cluster.onRemove = func(id string, _ bool) error {
		if done["remove"]++; id == "nobody" {
			return &farm.Error{Kind: farm.NotFound, Detail: "no such member"}
		}
		return nil
	}
	w.cluster.onPromote = func(string) error {
		done["promote"]++
		return &farm.Error{Kind: farm.Conflict, Detail: "it is behind"}
	}
	w.cluster.onTransfer = func(string) (string, error) { done["transfer"]++; return "node2", nil }
	w.cluster.onSnapshot = func() (uint64, uint64, int64, error) {
		done["snapshot"]++
		return uint64(done["snapshot"]), 1, 1, nil
	}
	for i, test := range []struct {
		call, body string
		status     int
	}{
		{"POST /api/v1/cluster/members", `{"id":"node4","raft":"a:1","http":"b:2"}`, 201},
		{"POST /api/v1/cluster/members", `{"id":"node4"}`, 422},
		{"DELETE /api/v1/cluster/members/node2", "", 200},
		{"DELETE /api/v1/cluster/members/nobody", "", 404},
		{"POST /api/v1/cluster/members/node3/promote", "", 409},
		{"POST /api/v1/cluster/leader", "", 200},
		{"POST /debug/snapshot", "", 200},
	} {
		method, target, _ := strings.Cut(test.call, " ")
		key := fmt.Sprintf("%s: k%d", headerKey, i)
		clear(done)
		first := w.call(method, target, test.body, key).is(test.status)
		again(t, first, w.call(method, target, test.body, key))
		for name, n := range done {
			if n != 1 {
				t.Errorf("%s: %s was done %d times", test.call, name, n)
			}
		}
		w.call(method, target+"?timeout=1s", test.body, key).is(test.status).has(headerReplayed, "true")
		w.call("DELETE", "/api/v1/cluster/members/node3?force", "", key).has(headerReplayed, "").faults(422, headerKey)
	}
}

func TestWhatMayPassIsNotKeptUnderAKey(t *testing.T) {
	w := newWorld(t)
	key := headerKey + ": k"
	for _, passing := range []error{
		errUnavailable, &farm.Error{Kind: farm.Overloaded, Detail: "busy"}, errors.New("bbolt: page 9 is damaged"), context.DeadlineExceeded,
	} {
		w.cluster.onTransfer = func(string) (string, error) { return "", passing }
		if a := w.call("POST", "/api/v1/cluster/leader", "", key); a.StatusCode < 429 || a.Header.Get(headerReplayed) != "" {
			t.Errorf("%v: %d", passing, a.StatusCode)
		}
	}
	w.call("POST", "/api/v1/cluster/leader", `{"id":5}`, key).problem(400)
	if len(w.farm.keys) > 0 {
		t.Errorf("kept: %v", w.farm.keys)
	}
	w.cluster.onTransfer = func(string) (string, error) { return "node2", nil }
	w.call("POST", "/api/v1/cluster/leader", "", key).is(200).has(headerReplayed, "")
}

func TestASecondCopyWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		done, release := 0, make(chan struct{})
		w.cluster.onTransfer = func(string) (string, error) {
			done++
			<-release
			return "node2", nil
		}
		answers := make(chan *answer)
		for range 3 {
			go func() { answers <- w.call("POST", "/api/v1/cluster/leader?timeout=30s", "", headerKey+": k") }()
		}
		synctest.Wait()
		// One that cannot wait that long says so, and is no replay.
		if p := w.call("POST", "/api/v1/cluster/leader?timeout=1s", "", headerKey+": k").problem(503); p.Outcome != farm.Unknown {
			t.Errorf("outcome %q", p.Outcome)
		}
		close(release)
		replayed := 0
		for range 3 {
			if a := (<-answers).is(200); a.Header.Get(headerReplayed) == "true" {
				replayed++
			}
		}
		if done != 1 || replayed != 2 || len(w.server.keys.busy) != 0 {
			t.Errorf("done %d times, %d replays, still busy: %v", done, replayed, w.server.keys.busy)
		}
	})
}

func TestASecondCopyTakesOverWhereTheFirstFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		calls, release := 0, make(chan struct{})
		w.cluster.onTransfer = func(string) (string, error) {
			if calls++; calls == 1 {
				<-release
				return "", errUnavailable
			}
			return "node2", nil
		}
		first, second := make(chan *answer), make(chan *answer)
		go func() { first <- w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k") }()
		synctest.Wait()
		go func() { second <- w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k") }()
		synctest.Wait()
		close(release)
		(<-first).problem(503)
		(<-second).is(200).has(headerReplayed, "")
	})
}

func TestAHandlerThatPanicsFreesItsKey(t *testing.T) {
	w := newWorld(t)
	w.cluster.onTransfer = func(string) (string, error) { panic("boom") }
	w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").problem(500)
	w.cluster.onTransfer = func(string) (string, error) { return "node2", nil }
	w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").is(200)
}

func TestTheDeedIsRecordedAlsoWhenItsClientHasGone(t *testing.T) {
	w := newWorld(t)
	ctx, leave := context.WithCancel(t.Context())
	done := 0
	w.cluster.onTransfer = func(string) (string, error) { done++; leave(); return "node2", nil }
	r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/cluster/leader", nil)
	r.Header.Set(headerKey, "k")
	w.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
	w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").is(200).has(headerReplayed, "true")
	if done != 1 {
		t.Errorf("done %d times", done)
	}
}

func TestADeedThatCouldNotBeRecordedIsAnsweredAsDone(t *testing.T) {
	w := newWorld(t)
	w.cluster.onTransfer = func(string) (string, error) { return "node2", nil }
	w.farm.onDo = refuse(errUnavailable)
	w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").is(200).has(headerReplayed, "")
}

func TestARepeatIsAnsweredAlsoWithTheDiskNearlyFull(t *testing.T) {
	full := false
	w := newWorld(t, func(c *Config) { c.DiskNearlyFull = func() bool { return full } })
	first := w.call("POST", "/api/v1/printers", aPrinter, headerKey+": k").is(201)
	full = true
	again(t, first, w.call("POST", "/api/v1/printers", aPrinter, headerKey+": k"))
	w.call("POST", "/api/v1/printers", aPrinter, headerKey+": k2").problem(507)
	w.farm.onView = refuseView(errUnavailable)
	w.call("POST", "/api/v1/printers", aPrinter, headerKey+": k").problem(507)
}

func TestOfTwoNodesTheFirstToRecordAnswersForBoth(t *testing.T) {
	w := newWorld(t)
	w.cluster.onTransfer = func(string) (string, error) { return "node2", nil }
	w.farm.onDo = func(_ context.Context, _ farm.Command, s farm.Stamp) (farm.Result, error) {
		w.farm.keys[s.Key] = kept{fingerprint: s.Fingerprint, answer: farm.Answer{
			Status: 200, Header: map[string]string{"Content-Type": contentJSON}, Body: []byte(`{"leader":"node3"}` + "\n"),
		}}
		return farm.Result{Replayed: true}, nil
	}
	a := w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").is(200).has(headerReplayed, "true")
	if !strings.Contains(a.body, "node3") {
		t.Errorf("got %s", a.body)
	}
}

func TestWithoutAQuorumAKeyedCallIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cluster.onTransfer = func(string) (string, error) { t.Error("it was done"); return "", nil }
		w.farm.onView = func(ctx context.Context, o farm.ReadOptions) error {
			if o.Stale {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}
		began := time.Now()
		p := w.call("POST", "/api/v1/cluster/leader", "", headerKey+": k").problem(503)
		if p.Outcome != farm.NotApplied || time.Since(began) != defaultTimeout {
			t.Errorf("outcome %q after %v", p.Outcome, time.Since(began))
		}
	})
}

// Nodes of different versions meet the same key, before and after a release.
func TestAFingerprintIsTheSameInEveryVersion(t *testing.T) {
	for _, of := range []struct{ method, target, body, want string }{
		{"POST", "/api/v1/printers?timeout=2s", `{"company":"Prusa","model":"MK4"}`, "d58f9b6ccec844e178666ba086cabdf035b2d84626e672ca4a9ea5449d5aef89"},
		{"POST", "/api/v1/print_jobs/j%31/status?timeout=1s&status=Running", "", "1b242b165f45a6576c8fa7bb9273ce75cd53c456859fcfac52c8cb5390b15a54"},
		{"DELETE", "/api/v1/printers/p1", "", "b60eeed7f2e37ebfb5466b6ae05ef55c2a7d18d2ffbb4d051ee2a852842004f3"},
	} {
		var got farm.Stamp
		w := newWorld(t)
		w.madeUp = true
		w.farm.onDo = func(_ context.Context, _ farm.Command, s farm.Stamp) (farm.Result, error) {
			got = s
			return farm.Result{}, errUnavailable
		}
		w.call(of.method, of.target, of.body, "Idempotency-Key: k").is(503)
		if fingerprint := fmt.Sprintf("%x", got.Fingerprint); fingerprint != of.want {
			t.Errorf("%s %s: want the fingerprint %s, got %s", of.method, of.target, of.want, fingerprint)
		}
	}
}
