package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"raft3d/farm"
	"raft3d/raftnode"
)

// epoch is when all tests happen.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

// world is a Server and what it sees.
type world struct {
	testing.TB
	server  *Server
	farm    *memoryFarm
	cluster *fakeCluster
	log     *bytes.Buffer
	madeUp  bool // the farm answers what none would, so that its answers need not be as documented
}

func newWorld(t testing.TB, adjust ...func(*Config)) *world {
	w := &world{TB: t, farm: newMemoryFarm(), cluster: newFakeCluster(), log: &bytes.Buffer{}}
	made := 0
	c := Config{
		Farm: w.farm, Cluster: w.cluster, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		Now:   func() time.Time { return epoch },
		NewID: func() string { made++; return fmt.Sprintf("made-%d", made) },
	}
	for _, f := range adjust {
		f(&c)
	}
	w.server = New(c)
	w.madeUp = c.Farm != w.farm
	return w
}

// answer is what came back.
type answer struct {
	testing.TB
	*http.Response
	request string
	body    string
}

// call sends one request; headers are "Name: value".
func (w *world) call(method, target, body string, headers ...string) *answer {
	w.Helper()
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, sent)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, r)
	w.asDocumented(r, body, recorder)
	return &answer{w.TB, recorder.Result(), strings.TrimSpace(method + " " + target + " " + body), recorder.Body.String()}
}

// curl sends body as curl -d does.
func (w *world) curl(method, target, body string) *answer {
	w.Helper()
	return w.call(method, target, body, "Content-Type: application/x-www-form-urlencoded")
}

// is asserts the status.
func (a *answer) is(status int) *answer {
	a.Helper()
	if a.StatusCode != status {
		a.Fatalf("%.300s: want %d, got %d %s\n%s", a.request, status, a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	return a
}

// has asserts a header.
func (a *answer) has(header, want string) *answer {
	a.Helper()
	if got := a.Header.Get(header); got != want {
		a.Fatalf("%.300s: want %s: %q, got %q", a.request, header, want, got)
	}
	return a
}

// problem asserts a problem of that status and returns it.
func (a *answer) problem(status int) problem {
	a.Helper()
	a.is(status).has("Content-Type", "application/problem+json")
	var p problem
	a.decode(&p)
	if p.Status != status || p.Title != http.StatusText(status) || p.Type == "" || p.Detail == "" {
		a.Fatalf("%.300s: not a whole problem: %s", a.request, a.body)
	}
	return p
}

// faults asserts a problem of that status that names the field, and says so.
func (a *answer) faults(status int, field string) problem {
	a.Helper()
	p := a.problem(status)
	for _, fault := range p.Errors {
		if fault.Field == field && fault.Detail != "" {
			return p
		}
	}
	a.Fatalf("%.300s: want a fault of %q, got %s", a.request, field, a.body)
	return p
}

func (a *answer) decode(v any) {
	a.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.Fatalf("%.300s: %v in %q", a.request, err, a.body)
	}
}

// ids returns the ids of a list.
func (a *answer) ids() string {
	a.Helper()
	var objects []struct{ ID string }
	a.is(http.StatusOK).has("Content-Type", "application/json").decode(&objects)
	ids := make([]string, 0, len(objects))
	for _, object := range objects {
		ids = append(ids, object.ID)
	}
	a.has("X-Total-Count", fmt.Sprint(len(ids)))
	return strings.Join(ids, " ")
}

// stocked is a world with one printer, one spool of 1000 g and one job of 100 g.
func stocked(t testing.TB, adjust ...func(*Config)) *world {
	w := newWorld(t, adjust...)
	w.stock()
	return w
}

func (w *world) stock() {
	w.Helper()
	w.call("POST", "/api/v1/printers", `{"id":"p1","company":"Prusa","model":"MK4"}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/filaments", `{"id":"f1","type":"pla","color":"red","total_weight_in_grams":1000}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs", `{"id":"j1","printer_id":"p1","filament_id":"f1","filepath":"a.gcode","print_weight_in_grams":100}`).is(http.StatusCreated)
}

// fakeCluster is three nodes of which this is the leader; its hooks, where they are set, come first.
type fakeCluster struct {
	status     raftnode.Status
	ask        func(context.Context) (raftnode.Status, error)
	onAdd      func(raftnode.Member) (raftnode.Member, error)
	onRemove   func(id string, force bool) error
	onPromote  func(id string) error
	onTransfer func(id string) (string, error)
	onSnapshot func() (index, term uint64, bytes int64, err error)
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{status: raftnode.Status{
		ClusterID: "00000000000000aa", Member: "node1", MemberID: 1, Role: "leader", Leader: "node1",
		Term: 3, CommitIndex: 90, Applied: 88, FirstIndex: 10, LastIndex: 91, Pending: 2,
		Members: []raftnode.Member{
			{ID: "node1", MemberID: 1, Role: "leader", Raft: "127.0.0.1:9001", HTTP: "127.0.0.1:8001", Version: "v1", MatchIndex: 91},
			{ID: "node2", MemberID: 2, Role: "voter", Raft: "127.0.0.1:9002", HTTP: "127.0.0.1:8002", MatchIndex: 89, LastContact: 12500 * time.Microsecond},
			{ID: "node3", MemberID: 3, Role: "learner", Raft: "127.0.0.1:9003", HTTP: "127.0.0.1:8003", LastContact: -1},
		},
	}}
}

func (f *fakeCluster) Status() raftnode.Status { return f.status }

func (f *fakeCluster) ClusterStatus(ctx context.Context) (raftnode.Status, error) {
	if f.ask != nil {
		return f.ask(ctx)
	}
	return f.status, nil
}

func (f *fakeCluster) AddMember(_ context.Context, m raftnode.Member) (raftnode.Member, error) {
	return f.onAdd(m)
}
func (f *fakeCluster) RemoveMember(_ context.Context, id string, force bool) error {
	return f.onRemove(id, force)
}
func (f *fakeCluster) Promote(_ context.Context, id string) error { return f.onPromote(id) }
func (f *fakeCluster) TransferLeader(_ context.Context, id string) (string, error) {
	return f.onTransfer(id)
}
func (f *fakeCluster) TakeSnapshot(context.Context) (index, term uint64, bytes int64, err error) {
	return f.onSnapshot()
}

var errUnavailable = &farm.Error{Kind: farm.Unavailable, Detail: "no quorum answered in time", Outcome: farm.Unknown}

func echoMember(m raftnode.Member) (raftnode.Member, error) { return m, nil }
