package httpapi

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestReadinessFollowsTheNodesState(t *testing.T) {
	for _, test := range []struct {
		name   string
		adjust func(*world)
		failed string // the check that fails; empty: ready
	}{
		{"a voter with a leader", func(w *world) { w.cluster.status.Role = "voter" }, ""},
		{"a learner that has something", func(w *world) { w.cluster.status.Role = "learner" }, ""},
		{"an applied index ahead of the commit index known", func(w *world) { w.cluster.status.CommitIndex = 0 }, ""},
		{"999 entries behind", func(w *world) { w.cluster.status.CommitIndex = w.cluster.status.Applied + 999 }, ""},
		{"1000 entries behind", func(w *world) { w.cluster.status.CommitIndex = w.cluster.status.Applied + 1000 }, "applied"},
		{"no leader", func(w *world) { w.cluster.status.Leader = "" }, "leader"},
		{"a learner that has nothing", func(w *world) {
			w.cluster.status.Role, w.cluster.status.Applied, w.cluster.status.CommitIndex = "learner", 0, 0
		}, "member"},
		{"removed", func(w *world) { w.cluster.status.Role = "removed" }, "member"},
		{"draining", func(w *world) { w.server.Drain() }, "not-draining"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			test.adjust(w)
			got := w.call("GET", "/readyz", "")
			w.call("GET", "/livez", "").is(http.StatusOK)
			if test.failed == "" {
				if got.is(http.StatusOK); got.body != "ok\n" {
					t.Errorf("got %q", got.body)
				}
				return
			}
			got.is(http.StatusServiceUnavailable)
			if strings.Count(got.body, "[-]") != 1 || !strings.Contains(got.body, "[-]"+test.failed+" failed: ") || !strings.HasSuffix(got.body, "readyz check failed\n") {
				t.Errorf("want %s to fail, got %s", test.failed, got.body)
			}
		})
	}
}

func TestHealthIsVerboseWhenAsked(t *testing.T) {
	w := newWorld(t)
	want := "[+]serving ok\n[+]not-draining ok\n[+]member ok\n[+]leader ok\n[+]applied ok\nreadyz check passed\n"
	if got := w.call("GET", "/readyz?verbose", "").is(http.StatusOK); got.body != want {
		t.Errorf("got %s", got.body)
	}
	if got := w.call("GET", "/livez?verbose=true", "").is(http.StatusOK); got.body != "[+]serving ok\nlivez check passed\n" {
		t.Errorf("got %s", got.body)
	}
}

func TestANodeThatHasFailedIsNotAlive(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Failed = func() error { return errors.New("fsync: input/output error") } })
	if got := w.call("GET", "/livez", "").is(http.StatusServiceUnavailable); !strings.Contains(got.body, "[-]serving failed: fsync: input/output error") {
		t.Errorf("got %s", got.body)
	}
	w.call("GET", "/readyz", "").is(http.StatusServiceUnavailable)
}

// A node whose store does not answer must still be found alive, or an orchestrator kills what would mend.
func TestHealthAsksNothingOfTheStore(t *testing.T) {
	w := newWorld(t)
	w.farm.mu.Lock() // any View would wait
	defer w.farm.mu.Unlock()
	w.call("GET", "/livez", "").is(http.StatusOK)
	w.call("GET", "/readyz", "").is(http.StatusOK)
	w.call("GET", "/nothing", "").is(http.StatusNotFound)
}

func TestTheVersionSaysWhichProgramThisIs(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Build = Build{Version: "v1.2.3", Commit: "abc"} })
	if got := w.call("GET", "/version", "").is(http.StatusOK); got.body != `{"version":"v1.2.3","commit":"abc","go":"`+runtime.Version()+`"}`+"\n" {
		t.Errorf("got %s", got.body)
	}
}

func TestTheFirstPageSaysWhereToGo(t *testing.T) {
	got := newWorld(t).call("GET", "/", "").is(http.StatusOK).has("Content-Type", "text/plain; charset=utf-8")
	if !strings.Contains(got.body, "/api/v1/printers") {
		t.Errorf("got %s", got.body)
	}
}

func TestMetricsAreWellFormedAndComplete(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := stocked(t, func(c *Config) { c.Registry = registry })
	w.call("GET", "/api/v1/printers/somebody-else", "").is(404)
	w.call("BREW", "/api/v1/printers", "").is(405)
	w.call("GET", "/wp-admin.php", "").is(404)
	for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
		got := w.call("GET", "/metrics", "", "Accept: "+accept).is(http.StatusOK)
		if !strings.HasPrefix(got.Header.Get("Content-Type"), accept) {
			t.Errorf("want %s, got %s", accept, got.Header.Get("Content-Type"))
		}
		for _, want := range []string{
			"raft3d_is_leader 1", "raft3d_has_leader 1", "raft3d_term 3", "raft3d_commit_index 90", "raft3d_applied_index 88",
			"raft3d_log_first_index 10", "raft3d_log_last_index 91", "raft3d_proposals_pending 2", `raft3d_members{role="voter"} 1`,
			`raft3d_objects{kind="print_job"} 1`, `raft3d_print_jobs{status="Queued"} 1`, `raft3d_print_jobs{status="Done"} 0`,
			"raft3d_filament_remaining_grams 1000", "raft3d_filament_reserved_grams 100", "raft3d_revision 4",
			`raft3d_http_requests_total{code="404",method="GET",route="/api/v1/printers/{id}"} 1`,
			`raft3d_http_requests_total{code="404",method="GET",route="unmatched"} 1`,
			`raft3d_http_requests_total{code="405",method="other",route="/api/v1/printers"} 1`,
			`raft3d_http_request_duration_seconds_count{method="POST",route="/api/v1/print_jobs"} 1`,
			"raft3d_http_requests_in_flight 1", "raft3d_build_info{", "go_goroutines ", "process_cpu_seconds_total ",
		} {
			// OpenMetrics spells whole numbers with a decimal.
			if !strings.Contains("\n"+got.body, "\n"+want) {
				t.Errorf("%s: no line begins with %s", accept, want)
			}
		}
	}
	families := must(registry.Gather())
	if faults, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(faults) > 0 {
		t.Errorf("lint: %v %+v", err, faults)
	}
	for _, family := range families {
		name := family.GetName()
		if !strings.HasPrefix(name, "raft3d_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is none of ours", name)
		}
	}
}

func TestMetricsOfTheClusterSurviveAStoreThatFails(t *testing.T) {
	w := newWorld(t)
	w.farm.onView = refuseView(errors.New("store closed"))
	got := w.call("GET", "/metrics", "").is(http.StatusOK)
	if !strings.Contains(got.body, "raft3d_is_leader 1") || strings.Contains(got.body, "raft3d_objects") {
		t.Errorf("got %s", got.body)
	}
}

func TestTwoServersInOneProcessDoNotMeet(t *testing.T) {
	for range 2 {
		newWorld(t).call("GET", "/metrics", "").is(http.StatusOK)
	}
	for _, family := range must(prometheus.DefaultGatherer.Gather()) {
		if strings.HasPrefix(family.GetName(), "raft3d_") {
			t.Errorf("%s is on the default registry", family.GetName())
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
