package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
)

// revisions lists those of an NDJSON answer.
func revisions(a *answer) string {
	a.Helper()
	a.is(http.StatusOK).has("Content-Type", "application/x-ndjson")
	var all []string
	for line := range strings.Lines(a.body) {
		var e struct{ Revision uint64 }
		if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
			a.Fatalf("the line %q: %v", line, err)
		}
		all = append(all, fmt.Sprint(e.Revision))
	}
	return strings.Join(all, " ")
}

// A stocked world has 1 the printer, 2 the spool, 3 the job, 4 the spool's reservation.
func TestTheEventsThatThereAreComeAsLines(t *testing.T) {
	w := stocked(t)
	for query, want := range map[string]string{
		"": "1 2 3 4", "?since=0": "1 2 3 4", "?since=2": "3 4", "?since=4": "", "?since=99": "",
		"?kind=filament": "2 4", "?kind=filament&since=2": "4", "?id=j1": "3", "?kind=printer&id=j1": "", "?kind=print_job&id=j1": "3",
		"?min_revision=4&timeout=1s": "1 2 3 4",
	} {
		a := w.call("GET", "/api/v1/events"+query, "").has("Raft3D-Revision", "4").has("Vary", "Accept")
		if got := revisions(a); got != want {
			t.Errorf("%q: want %q, got %q", query, want, got)
		}
	}
	if got := revisions(w.call("GET", "/api/v1/events?since=1", "", "Last-Event-ID: 3")); got != "4" {
		t.Errorf("Last-Event-ID is newer than since: %q", got)
	}
	for query, field := range map[string]string{
		"?since=-1": "since", "?since=x": "since", "?since=": "since", "?kind=spool": "kind", "?kind=": "kind", "?id=a/b": "id", "?min_revision=x": "min_revision",
		"?limit=5": "limit", "?consistency=stale": "consistency", "?timeout=0": "timeout", "?since=1&since=2": "since",
	} {
		w.call("GET", "/api/v1/events"+query, "").faults(400, field)
	}
	w.call("GET", "/api/v1/events", "", "Last-Event-ID: abc").faults(400, headerLastEventID)
	w.call("GET", "/api/v1/events?min_revision=99&timeout=1ms", "").problem(504)
	for _, accept := range []string{"", "text/event-stream"} {
		head := w.call("HEAD", "/api/v1/events", "", "Accept: "+accept).is(200).has("Raft3D-Revision", "4")
		if head.body != "" || (head.Header.Get("Content-Type") == contentEvents) != (accept != "") {
			t.Errorf("HEAD: %q %v", head.body, head.Header)
		}
	}
}

// The feed is what is asked for when there is no leader: it must not ask for one.
func TestTheFeedAsksNothingOfTheCluster(t *testing.T) {
	w := stocked(t)
	w.farm.onView = func(_ context.Context, o farm.ReadOptions) error {
		if !o.Stale {
			return errUnavailable
		}
		return nil
	}
	if got := revisions(w.call("GET", "/api/v1/events", "")); got != "1 2 3 4" {
		t.Errorf("got %q", got)
	}
}

func TestHistoryThatWasTrimmedIsGone(t *testing.T) {
	w := stocked(t)
	w.farm.oldest = 3
	for _, accept := range []string{"*/*", "text/event-stream"} {
		for _, method := range []string{"GET", "HEAD"} {
			for _, ask := range []string{"?since=0", "?since=1"} {
				a := w.call(method, "/api/v1/events"+ask, "", "Accept: "+accept).is(http.StatusGone)
				if method == "GET" && a.faults(http.StatusGone, "since").Oldest != 3 || method == "GET" && !strings.Contains(a.body, `"oldest_revision":3`) {
					t.Errorf("%s", a.body)
				}
			}
		}
		w.call("GET", "/api/v1/events", "", "Accept: "+accept, "Last-Event-ID: 1").problem(http.StatusGone)
	}
	if got := revisions(w.call("GET", "/api/v1/events?since=2", "")); got != "3 4" {
		t.Errorf("got %q", got)
	}
	if got := revisions(w.call("GET", "/api/v1/events", "")); got != "3 4" {
		t.Errorf("without since: want all that is kept, got %q", got)
	}
}

func TestWhoAcceptsEventsGetsEvents(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "text/event-stream": true, "TEXT/Event-Stream": true, "text/event-stream;q=0": false,
		"application/json, text/event-stream;q=0.5": true, "text/event-streams": false, "text/event-stream;q=x": false,
	} {
		if got := acceptsEvents(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

// longHistory is a Farm with n events, which goes on growing with each View; open counts its Views.
type longHistory struct {
	*memoryFarm
	grows uint64
	open  atomic.Int64
	views int
}

func (l *longHistory) View(ctx context.Context, o farm.ReadOptions, fn func(farm.View) error) error {
	l.open.Add(1)
	defer l.open.Add(-1)
	l.mu.Lock()
	l.views++
	l.grow(l.grows)
	l.mu.Unlock()
	return l.memoryFarm.View(ctx, o, fn)
}

// grow adds n changes.
func (m *memoryFarm) grow(n uint64) {
	for range n {
		m.revision++
		m.events = append(m.events, event{m.revision, farm.KindPrinter, "p", fmt.Appendf(nil, `{"revision":%d,"kind":"printer","pad":"%s"}`, m.revision, strings.Repeat("x", 300))})
	}
	m.wake()
}

func withHistory(n uint64) *longHistory {
	l := &longHistory{memoryFarm: newMemoryFarm()}
	l.grow(n)
	return l
}

func TestALongHistoryIsReadInManyShortViews(t *testing.T) {
	l := withHistory(5000)
	l.grows = 100 // it is written to faster than it is read
	a := newWorld(t, func(c *Config) { c.Farm = l }).call("GET", "/api/v1/events?since=10", "").has("Raft3D-Revision", "5100")
	got := strings.Fields(revisions(a))
	for i, revision := range got {
		if revision != fmt.Sprint(i+11) {
			t.Fatalf("event %d is %s", i, revision)
		}
	}
	if len(got) != 5090 || l.views < 50 {
		t.Errorf("%d events in %d Views", len(got), l.views)
	}
}

func TestAReaderOfLinesHoldsNoView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withHistory(5000)
		conn := serveSlowly(t, newWorld(t, func(c *Config) { c.Farm = l }))()
		fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		if l.open.Load() != 0 {
			t.Errorf("%d Views are open while the client does not read", l.open.Load())
		}
		time.Sleep(writeTimeout - time.Second) // each part may take its time
		answers := bufio.NewReader(conn)
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, response.Body, 100<<10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		if n, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("want to be cut off, got %d bytes more, %v", n, err)
		}
	})
}

// Half the history must not be taken for all of it.
func TestLinesThatBreakOffBreakTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fault := range []error{errors.New("bbolt: page 9 is damaged"), &farm.Error{Kind: farm.Gone, Detail: "trimmed", Oldest: 4000}} {
			l := withHistory(5000)
			views := 0
			l.onView = func(context.Context, farm.ReadOptions) error {
				if views++; views > 3 {
					return fault
				}
				return nil
			}
			w := newWorld(t, func(c *Config) { c.Farm = l })
			conn := serveSlowly(t, w)()
			fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: want a broken body, got %v", fault, err)
			}
		}
	})
}
