package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"raft3d/farm"
)

const aPrinter = `{"company":"Prusa","model":"MK4"}`

func TestACommandCarriesItsStamp(t *testing.T) {
	var got farm.Stamp
	w := newWorld(t, func(c *Config) { c.NewID = nil })
	w.madeUp = true
	w.farm.onDo = func(_ context.Context, _ farm.Command, s farm.Stamp) (farm.Result, error) {
		got = s
		return farm.Result{ID: s.NewID, Revision: 9, Object: []byte(`{"revision":7}`)}, nil
	}
	w.call("POST", "/api/v1/printers", aPrinter).is(http.StatusCreated).has("Raft3D-Revision", "9").has("ETag", `"7"`)
	if id, err := uuid.Parse(string(got.NewID)); err != nil || id.Version() != 7 || got.At != farm.TimeOf(epoch) || got.Actor != "" {
		t.Errorf("stamp %+v: %v", got, err)
	}
}

func TestACallHasADeadlineThatItMayChoose(t *testing.T) {
	w := newWorld(t)
	for query, want := range map[string]time.Duration{"": 5 * time.Second, "?timeout=60s": time.Minute, "?timeout=2": 2 * time.Second} {
		var left time.Duration
		look := func(ctx context.Context) {
			if deadline, has := ctx.Deadline(); has && left == 0 { // what comes later is for the header of a refusal
				left = time.Until(deadline)
			}
		}
		w.farm.onView = func(ctx context.Context, _ farm.ReadOptions) error { look(ctx); return nil }
		w.farm.onDo = func(ctx context.Context, _ farm.Command, _ farm.Stamp) (farm.Result, error) {
			look(ctx)
			return farm.Result{}, errUnavailable
		}
		for _, call := range []func(){
			func() { w.call("GET", "/api/v1/printers"+query, "") },
			func() { w.call("POST", "/api/v1/printers"+query, aPrinter) },
		} {
			left = 0
			call()
			// Up to a minute of slowness is no fault of the deadline, which may never be later.
			if left <= want-time.Minute || left > want {
				t.Errorf("%q: want a deadline in %v, got one in %v", query, want, left)
			}
		}
	}
}

func TestAReadIsAsFreshAsItAsks(t *testing.T) {
	w := stocked(t)
	for query, want := range map[string]farm.ReadOptions{
		"":                                  {},
		"?consistency=linearizable":         {},
		"?consistency=stale":                {Stale: true},
		"?consistency=stale&min_revision=3": {Stale: true, MinRevision: 3},
	} {
		for _, path := range []string{"/api/v1/printers", "/api/v1/printers/p1"} {
			var got []farm.ReadOptions
			w.farm.onView = func(_ context.Context, o farm.ReadOptions) error { got = append(got, o); return nil }
			w.call("GET", path+query, "").is(http.StatusOK)
			if len(got) != 1 || got[0] != want {
				t.Errorf("%s%s: want one View with %+v, got %+v", path, query, want, got)
			}
		}
	}
	w.farm.onView = nil
	w.call("GET", "/api/v1/printers?consistency=stale&min_revision=99&timeout=1ms", "").problem(504)
}

func TestWithoutAQuorumAWriteSaysWhatBecameOfIt(t *testing.T) {
	w := newWorld(t)
	w.farm.onDo = refuse(&farm.Error{Kind: farm.Unavailable, Detail: "no quorum", Outcome: farm.NotApplied})
	a := w.call("POST", "/api/v1/printers", aPrinter).has("Retry-After", "1")
	if p := a.problem(503); p.Outcome != farm.NotApplied || !strings.Contains(p.Detail, "did not take effect") {
		t.Errorf("got %+v", p)
	}
	w.farm.onDo = refuse(context.DeadlineExceeded)
	a = w.call("POST", "/api/v1/printers", aPrinter).has("Retry-After", "1")
	if p := a.problem(503); p.Outcome != farm.Unknown || !strings.Contains(p.Detail, "may still take effect") {
		t.Errorf("got %+v", p)
	}
	w.farm.onView = refuseView(errUnavailable)
	if p := w.call("GET", "/api/v1/printers", "").problem(503); p.Outcome != "" {
		t.Errorf("a read has no outcome: %+v", p)
	}
	if w.log.Len() > 0 {
		t.Errorf("logged: %s", w.log)
	}
}

// The client's leaving, or the server's closing, ends the call's context: whoever is still there is told the truth.
func TestACallThatIsCutOffIsNotAnsweredAsDone(t *testing.T) {
	w := newWorld(t)
	w.farm.onDo = func(ctx context.Context, _ farm.Command, _ farm.Stamp) (farm.Result, error) {
		return farm.Result{}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, "POST", "/api/v1/printers", strings.NewReader(aPrinter)))
	if recorder.Code != 503 || !strings.Contains(recorder.Body.String(), `"outcome":"unknown"`) {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
	if got := w.call("GET", "/metrics", ""); !strings.Contains(got.body, `raft3d_http_requests_total{code="499",method="POST",route="/api/v1/printers"} 1`) {
		t.Errorf("not counted as the client's leaving")
	}
}

func TestAnInternalFaultIsLoggedOnceAndNotTold(t *testing.T) {
	w := newWorld(t)
	w.farm.onDo = refuse(errors.New("bbolt: page 7 already freed"))
	a := w.call("POST", "/api/v1/printers", aPrinter)
	a.problem(500)
	if strings.Contains(a.body, "page 7") || strings.Count(w.log.String(), "page 7") != 1 || !strings.Contains(w.log.String(), "route=/api/v1/printers ") {
		t.Errorf("answer %s\nlog %s", a.body, w.log)
	}
}

func TestAPanicIsAnInternalFaultOfOneCall(t *testing.T) {
	w := newWorld(t)
	w.farm.onDo = func(context.Context, farm.Command, farm.Stamp) (farm.Result, error) { panic("boom") }
	a := w.call("POST", "/api/v1/printers", aPrinter)
	a.problem(500)
	if strings.Contains(a.body, "boom") || strings.Count(w.log.String(), "boom") != 1 || !strings.Contains(w.log.String(), "serve_test.go") {
		t.Errorf("answer %s\nlog %s", a.body, w.log)
	}
	if w.server.inFlight.Load() != 0 {
		t.Errorf("%d calls are still counted", w.server.inFlight.Load())
	}
	w.farm.onDo = nil
	w.call("POST", "/api/v1/printers", aPrinter).is(http.StatusCreated)
}

func TestWithTheDiskNearlyFullOnlyCreationsAreRefused(t *testing.T) {
	full := false
	w := stocked(t, func(c *Config) { c.DiskNearlyFull = func() bool { return full } })
	full = true
	for path, body := range map[string]string{
		"printers":   aPrinter,
		"filaments":  `{"type":"PLA","color":"red","total_weight_in_grams":1}`,
		"print_jobs": `{"printer_id":"p1","filament_id":"f1","filepath":"a","print_weight_in_grams":1}`,
	} {
		w.call("POST", "/api/v1/"+path, body).problem(507)
	}
	w.call("GET", "/api/v1/printers", "").is(http.StatusOK)
	w.call("PATCH", "/api/v1/printers/p1", `{"name":"x"}`).is(http.StatusOK)
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Canceled", "").is(http.StatusOK)
	w.call("DELETE", "/api/v1/print_jobs/j1", "").is(http.StatusNoContent)
}

func TestPastTheBoundCallsAreRefusedAtOnce(t *testing.T) {
	const bound = 3
	w := newWorld(t, func(c *Config) { c.MaxInFlight = bound })
	w.cluster.onSnapshot = func() (uint64, uint64, int64, error) { return 1, 1, 1, nil }
	inside, release := make(chan struct{}), make(chan struct{})
	w.cluster.onTransfer = func(string) (string, error) {
		inside <- struct{}{}
		<-release
		return "node2", nil
	}
	var calls sync.WaitGroup
	for range bound {
		calls.Go(func() { w.call("POST", "/api/v1/cluster/leader", "") })
	}
	for range bound {
		<-inside
	}
	w.farm.mu.Lock() // a refusal asks nothing of the store
	w.call("GET", "/api/v1/printers", "").has("Retry-After", "1").problem(429)
	w.farm.mu.Unlock()
	w.call("POST", "/debug/snapshot", "").problem(429)
	for _, exempt := range []string{"/livez", "/readyz", "/metrics"} {
		w.call("GET", exempt, "").is(http.StatusOK)
	}
	close(release)
	calls.Wait()
	w.call("GET", "/api/v1/printers", "").is(http.StatusOK)
}

// What API.md promises of a method must hold for every route of the table.
func TestEveryRouteIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, rt := range routes {
		name := rt.method + " " + rt.path
		if seen[name] {
			t.Errorf("%s stands twice", name)
		}
		seen[name] = true
		if rt.handle == nil {
			t.Errorf("%s has no handler", name)
		}
		if (rt.method == http.MethodGet) != (rt.kind == read || rt.kind == inspect || rt.kind == stream || rt.kind == exempted) {
			t.Errorf("%s: its kind does not go with its method", name)
		}
		if (rt.method == http.MethodGet || rt.method == http.MethodDelete) && rt.body != noBody {
			t.Errorf("%s takes a body", name)
		}
	}
}

// A call that is streamed, or looks at its connection, must be left to net/http: front.Server has the others.
func TestShortCallsAreThoseAnsweredWithOnePiece(t *testing.T) {
	for _, rt := range routes {
		want := strings.HasPrefix(rt.path, "/api/v1/") && (rt.kind.changes() || rt.kind == read && strings.HasSuffix(rt.path, "/{id}"))
		r := httptest.NewRequest(rt.method, strings.ReplaceAll(rt.path, "{id}", "mk4"), nil)
		if got := Short(r); got != want {
			t.Errorf("%s %s: short is %v, want %v", rt.method, rt.path, got, want)
		}
	}
}
