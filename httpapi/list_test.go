package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"raft3d/farm"
)

// longList is a Farm whose lists have n objects of 1 KiB, or end with an error after n; open counts its Views.
type longList struct {
	*memoryFarm
	n    int
	err  error
	open atomic.Int64
}

func (l *longList) View(_ context.Context, _ farm.ReadOptions, fn func(farm.View) error) error {
	l.open.Add(1)
	defer l.open.Add(-1)
	return fn(longView{memoryView{l.memoryFarm, new([][]byte)}, l})
}

type longView struct {
	memoryView
	l *longList
}

func (v longView) Count(farm.Query) (int, error) { return v.l.n, nil }

func (v longView) List(q farm.Query, fn func(uint64, []byte) error) error {
	for i := range v.l.n {
		if q.Limit > 0 && i == q.Limit {
			break
		}
		if err := fn(uint64(i+1), fmt.Appendf(nil, `{"id":"%04d","pad":"%s"}`, i, strings.Repeat("x", 1000))); err != nil {
			return err
		}
	}
	return v.l.err
}

func withList(t testing.TB, n int, err error) *longList {
	return &longList{memoryFarm: newMemoryFarm(), n: n, err: err}
}

func TestAListArrivesWholeHoweverLongItIs(t *testing.T) {
	for _, n := range []int{0, 1, 2, 63, 64, 65, 5000} {
		l := withList(t, n, nil)
		server := httptest.NewServer(newWorld(t, func(c *Config) { c.Farm = l }).server.Handler())
		response, err := http.Get(server.URL + "/api/v1/print_jobs")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatalf("%d objects: %v after %d bytes", n, err, len(body))
		}
		response.Body.Close()
		server.Close()
		var objects []struct{ ID string }
		if err := json.Unmarshal(body, &objects); err != nil || len(objects) != n {
			t.Fatalf("want %d objects, got %d: %v", n, len(objects), err)
		}
		for i, object := range objects {
			if object.ID != fmt.Sprintf("%04d", i) {
				t.Fatalf("%d objects: number %d is %s", n, i, object.ID)
			}
		}
		if total := response.Header.Get("X-Total-Count"); total != fmt.Sprint(n) {
			t.Errorf("X-Total-Count %s for %d objects", total, n)
		}
		if whole := response.ContentLength >= 0; whole != (len(body) <= listBuffer+len("]\n")) {
			t.Errorf("%d objects: Content-Length %d", n, response.ContentLength)
		}
	}
}

// countedLists counts how often a list was walked.
type countedLists struct {
	*memoryFarm
	walked atomic.Int64
}

func (l *countedLists) View(ctx context.Context, o farm.ReadOptions, fn func(farm.View) error) error {
	return l.memoryFarm.View(ctx, o, func(v farm.View) error { return fn(countedView{v, l}) })
}

type countedView struct {
	farm.View
	l *countedLists
}

func (v countedView) List(q farm.Query, fn func(uint64, []byte) error) error {
	v.l.walked.Add(1)
	return v.View.List(q, fn)
}

// A list that is asked for again and again while nothing changes is walked twice, and each change is in the next one.
func TestAListIsKeptUntilSomethingChanges(t *testing.T) {
	l := &countedLists{memoryFarm: newMemoryFarm()}
	w := newWorld(t, func(c *Config) { c.Farm = l })
	for n := 1; n <= 3; n++ {
		w.call("POST", "/api/v1/printers", aPrinter).is(http.StatusCreated)
		l.walked.Store(0)
		var first *answer
		for i := range 5 {
			a := w.call("GET", "/api/v1/printers", "").is(http.StatusOK)
			a.has("X-Total-Count", fmt.Sprint(n)).has("Content-Type", "application/json")
			if first == nil {
				first = a
			}
			if a.body != first.body || strings.Count(a.body, `"company"`) != n || a.Header.Get("ETag") != first.Header.Get("ETag") || a.Header.Get("Raft3D-Revision") != first.Header.Get("Raft3D-Revision") {
				t.Fatalf("%d printers, call %d: %v %s, first %v %s", n, i, a.Header, a.body, first.Header, first.body)
			}
		}
		if walked := l.walked.Load(); walked != 2 {
			t.Errorf("%d printers: walked %d times", n, walked)
		}
		for _, other := range []string{"/api/v1/filaments", "/api/v1/printers?company=Prusa", "/api/v1/printers?limit=1"} {
			before := l.walked.Load()
			for range 3 {
				w.call("GET", other, "").is(http.StatusOK)
			}
			if walked := l.walked.Load() - before; walked < 2 {
				t.Errorf("%s: walked %d times", other, walked)
			}
		}
	}
	w.call("GET", "/api/v1/printers?consistency=stale", "").is(http.StatusOK).has("X-Total-Count", "3")
	if a := w.call("HEAD", "/api/v1/printers", "").is(http.StatusOK).has("X-Total-Count", "3"); a.body != "" {
		t.Errorf("HEAD: %q", a.body)
	}
}

// What is too long to be kept is sent as it is walked, each time.
func TestAListThatIsTooLongIsNotKept(t *testing.T) {
	l := withList(t, 2*keptListBytes/1000, nil)
	w := newWorld(t, func(c *Config) { c.Farm = l })
	server := httptest.NewServer(w.server.Handler())
	defer server.Close()
	for range 3 {
		response, err := http.Get(server.URL + "/api/v1/print_jobs")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || strings.Count(string(body), `"id"`) != l.n || response.ContentLength != -1 {
			t.Fatalf("%v, %d bytes, Content-Length %d", err, len(body), response.ContentLength)
		}
	}
	if kept := w.server.lists.byKind[farm.KindJob]; kept == nil || kept.body != nil {
		t.Errorf("kept %+v", kept)
	}
}

// A client must never take half a list for a whole one.
func TestAListThatBreaksOffBreaksTheConnection(t *testing.T) {
	l := withList(t, 500, errors.New("bbolt: page 9 is damaged"))
	w := newWorld(t, func(c *Config) { c.Farm = l })
	server := httptest.NewServer(w.server.Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/api/v1/print_jobs")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("want a broken body, got %v after %d bytes", err, len(body))
	}
	if !strings.Contains(w.log.String(), "page 9") {
		t.Errorf("not logged: %s", w.log)
	}
}

func TestAListThatFailsBeforeItIsSentIsAProblem(t *testing.T) {
	l := withList(t, 5, errors.New("bbolt: page 9 is damaged"))
	a := newWorld(t, func(c *Config) { c.Farm = l }).call("GET", "/api/v1/print_jobs", "")
	if a.problem(500); a.Header.Get("X-Total-Count") != "" {
		t.Errorf("a problem with X-Total-Count")
	}
}

func TestAListStopsWhenItsClientHasGone(t *testing.T) {
	visited := 0
	l := &listWriter{w: &response{ResponseWriter: goneWriter{httptest.NewRecorder()}, server: newWorld(t).server, request: t.Context()}, most: listBuffer}
	err := longView{l: withList(t, 5000, nil)}.List(farm.Query{}, func(_ uint64, object []byte) error {
		visited++
		return l.add(object)
	})
	if err == nil || !l.lost || visited > 400 {
		t.Errorf("visited %d objects: %v", visited, err)
	}
}

type goneWriter struct{ *httptest.ResponseRecorder }

func (goneWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
