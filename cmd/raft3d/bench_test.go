package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// smallFarm is as much of a node as a bench needs.
type smallFarm struct {
	mu       sync.Mutex
	there    map[string]bool // by path; guarded by mu
	created  map[string]int  // by collection; guarded by mu
	broken   int             // guarded by mu: every so many-th call ends without an answer; 0: none
	calls    int             // guarded by mu
	longest  int             // guarded by mu: bytes of a body
	shortest int             // guarded by mu
}

func (f *smallFarm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls++; f.broken > 0 && f.calls%f.broken == 0 {
		panic(http.ErrAbortHandler)
	}
	collection := strings.Split(r.URL.Path, "/")[3]
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/status"):
		fmt.Fprintln(w, "{}")
	case r.Method == http.MethodPost:
		var object struct{ ID string }
		if err := json.Unmarshal(body, &object); err != nil || object.ID == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if !strings.HasSuffix(object.ID, "-own") {
			f.longest, f.shortest = max(f.longest, len(body)), min(f.shortest, len(body))
			f.created[collection]++
		}
		f.there[r.URL.Path+"/"+object.ID] = true
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodDelete:
		if !f.there[r.URL.Path] {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		delete(f.there, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Query().Get("limit") == "1":
		w.Header().Set("X-Total-Count", fmt.Sprint(len(f.there)))
		fmt.Fprintln(w, "[]")
	default: // a read, or a list, in pieces
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}
}

func newSmallFarm(t *testing.T) *smallFarm {
	f := &smallFarm{there: map[string]bool{}, created: map[string]int{}, shortest: 1 << 30}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Setenv("RAFT3D_SERVER", server.URL)
	return f
}

func TestABenchMeasuresAndTidiesUp(t *testing.T) {
	f := newSmallFarm(t)
	plot := filepath.Join(t.TempDir(), "plot.svg")
	status, stdout, stderr := run(strings.Fields("bench writes,jobs,reads,mixed,lists -clients=3 -duration=1s -warmup=0s -records=7 -o=json -plot=" + plot)...)
	if status != exitDone {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var report benchReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	var order []string
	for _, w := range report.Workloads {
		order = append(order, w.Workload)
	}
	if got := strings.Join(order, ","); got != "lists,writes,jobs,reads,mixed" { // lists before there is more than they are of
		t.Fatalf("measured %s", got)
	}
	calls := int64(0)
	for _, w := range report.Workloads {
		calls += w.Calls
		if w.Calls == 0 || len(w.Errors) != 0 || w.P50 <= 0 || w.P50 > w.P99 || w.P99 > w.Max || len(w.Seconds) == 0 || w.Clients != 3 {
			t.Errorf("%+v", w)
		}
	}
	if made := int64(f.created["printers"] + f.created["print_jobs"]); made == 0 || made > calls+10_000+4*3 {
		t.Errorf("%d objects in %d calls", made, calls)
	}
	if len(f.there) != 0 || f.shortest < 290 || f.longest > 300 {
		t.Errorf("%d objects are left; bodies of %d to %d bytes", len(f.there), f.shortest, f.longest)
	}
	b, err := os.ReadFile(plot)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b, new(struct{})); err != nil || strings.Count(string(b), "<polyline") != 5*3 {
		t.Errorf("%v in the plot\n%s", err, b)
	}
}

func TestABenchCountsWhatFailsAndGoesOn(t *testing.T) {
	f := newSmallFarm(t)
	f.broken = 10
	status, stdout, stderr := run(strings.Fields("bench writes -clients=2 -duration=1s -warmup=0s")...)
	if status != exitDone || !strings.Contains(stdout, "times connection") {
		t.Fatalf("status %d: %s\n%s", status, stdout, stderr)
	}
	if len(f.there) != 0 {
		t.Errorf("left: %v", maps.Keys(f.there))
	}
}

func TestABenchLeavesAFarmInUseAlone(t *testing.T) {
	f := newSmallFarm(t)
	f.there["/api/v1/printers/mk4"] = true
	for line, want := range map[string]string{
		"bench writes":        "-force",
		"bench write":         `"write" is not a workload: writes, jobs, reads, stale, mixed, lists`,
		"bench -clients=0":    "-clients=0: it is 1 to 10000",
		"bench -duration=1ms": "it is 1s at least",
		"bench -rate=-1":      "it is over 0",
		"bench -server=https://127.0.0.1:1 -force":   "http:// only",
		"bench -server=127.0.0.1:1 -timeout=200ms":   "gave up",
		"bench reads -records=10000000 -duration=1s": "-records=10000000: it is 1 to 1000000",
	} {
		if status, _, stderr := run(strings.Fields(line)...); status == exitDone || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %s", line, status, stderr)
		}
	}
	if len(f.created) != 0 {
		t.Errorf("created %v", f.created)
	}
}
