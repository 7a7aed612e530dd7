package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// eventLine is the event of a revision as nodes send it.
func eventLine(revision int) string {
	return fmt.Sprintf(`{"revision":%d,"time":"2026-01-02T03:04:05.678Z","kind":"printer","id":"p%[1]d","action":"created","actor":"","object":{"id":"p%[1]d"}}`, revision)
}

// feed is a node that has the events up to last, and ends each answer after as many as batch says.
func feed(last, batch int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		since, err := strconv.Atoi(r.URL.Query().Get("since"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		stream := r.Header.Get("Accept") == "text/event-stream"
		w.Header().Set("Content-Type", map[bool]string{true: "text/event-stream", false: "application/x-ndjson"}[stream])
		if stream {
			_, _ = io.WriteString(w, ": hello\nretry: 1\n\n")
		}
		for revision := since + 1; revision <= min(last, since+batch); revision++ {
			if stream {
				fmt.Fprintf(w, "id: %d\nevent: printer\ndata: ", revision)
			}
			fmt.Fprintln(w, eventLine(revision))
			if stream {
				fmt.Fprintln(w)
			}
		}
	}
}

func TestAFeedThatIsCutOffAtAnyByteShowsEachEventOnce(t *testing.T) {
	// The second node is there twice so that it takes no pauses to go round.
	first, second := serveBrittle(t, feed(4, 4)), serveBrittle(t, feed(4, 2))
	length := 0
	for cut := 0; cut <= length+1; cut++ {
		first.cutAt(func(answer []byte) int { length = max(length, len(answer)); return cut })
		want := uint64(1)
		for e, err := range newClient(t, first.url, second.url, second.url).Watch(within(t, 10*time.Second), Feed{}) {
			if err != nil {
				t.Fatalf("cut after %d bytes, at event %d: %v", cut, want, err)
			}
			if e.Revision != want || e.ID != fmt.Sprintf("p%d", want) || string(e.Raw) != eventLine(int(want)) {
				t.Fatalf("cut after %d bytes: want event %d, got %+v", cut, want, e)
			}
			if want++; want > 4 {
				break
			}
		}
	}
	if length < 4*len(eventLine(1)) {
		t.Errorf("the longest answer had %d bytes", length)
	}
}

func TestWhatThereIsOfAFeedIsReadToItsEnd(t *testing.T) {
	node := serveBrittle(t, feed(3, 9))
	for cut := 0; cut < 800; cut += 7 {
		node.cutAt(func([]byte) int {
			at := cut
			cut = -1 // the next answer is whole
			return at
		})
		began, want := cut, uint64(2)
		for e, err := range newClient(t, node.url).Events(within(t, 10*time.Second), Feed{Since: 1}) {
			if err != nil || e.Revision != want {
				t.Fatalf("cut after %d bytes: want event %d, got %+v, %v", began, want, e, err)
			}
			want++
		}
		if want != 4 {
			t.Fatalf("cut after %d bytes: it ended before event %d", began, want)
		}
		cut = began
	}
}

func TestAFeedEndsWhenHistoryIsLost(t *testing.T) {
	c := scripted(t, func(*http.Request) (*http.Response, error) {
		return problem(http.StatusGone, `,"oldest_revision":100`)
	}, "a", "b")
	n := 0
	for _, err := range c.Watch(t.Context(), Feed{Since: 7}) {
		var lost *HistoryLostError
		if n++; !errors.As(err, &lost) || lost.Since != 7 || lost.Oldest != 100 {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d results", n)
	}
}

func TestAFeedEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	node := serveBrittle(t, feed(2, 2))
	var last error
	for e, err := range newClient(t, node.url).Watch(ctx, Feed{}) {
		if last = err; e.Revision == 2 {
			cancel()
		}
	}
	cancel()
	var gaveUp *GaveUpError
	if !errors.As(last, &gaveUp) || !errors.Is(last, context.Canceled) || gaveUp.Outcome != "" {
		t.Errorf("got %v", last)
	}
}

// drip is a body whose parts come after pauses; it ends with its context, or io.EOF after the last.
type drip struct {
	ctx   context.Context
	parts []string
	every time.Duration
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.parts) == 0 {
		<-d.ctx.Done()
		return 0, d.ctx.Err()
	}
	select {
	case <-time.After(d.every):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	n := copy(p, d.parts[0])
	d.parts = d.parts[1:]
	return n, nil
}

func (d *drip) Close() error { return nil }

func streams(r *http.Request, every time.Duration, parts ...string) (*http.Response, error) {
	answer, err := says(http.StatusOK, "")
	answer.ContentLength, answer.TransferEncoding = -1, []string{"chunked"}
	answer.Body = &drip{r.Context(), parts, every}
	return answer, err
}

func sse(revision int) string {
	return fmt.Sprintf("id: %d\ndata: %s\n\n", revision, eventLine(revision))
}

func TestAFeedThatFallsSilentGoesOnThroughAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []string
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			asked = append(asked, fmt.Sprintf("%s since %s at %.0f", r.URL.Host, r.URL.Query().Get("since"), time.Since(began).Seconds()))
			if r.URL.Host == "a" {
				return streams(r, 15*time.Second, sse(1), ": still here\n\n", ": and here\n\n")
			}
			return streams(r, 0, sse(2))
		}, "a", "b")
		for e, err := range c.Watch(t.Context(), Feed{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Revision == 2 {
				break
			}
		}
		if got := strings.Join(asked, ", "); got != "a since 0 at 0, b since 1 at 90" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestAReaderMayTakeItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			asked++
			return streams(r, time.Second, sse(1), sse(2), sse(3))
		}, "a")
		for e, err := range c.Watch(t.Context(), Feed{}) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * maxSilence)
			if e.Revision == 3 {
				break
			}
		}
		if asked != 1 {
			t.Errorf("the node was asked %d times", asked)
		}
	})
}

func TestANodeThatHangsUpOverAndOverIsAskedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			asked++
			answer, err := streams(r, 0)
			answer.Body = io.NopCloser(strings.NewReader(": hello\n\n"))
			return answer, err
		}, "a", "b", "c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range c.Watch(ctx, Feed{}) {
		}
		if asked > 200 {
			t.Errorf("the nodes were asked %d times in a minute", asked)
		}
	})
}

func TestAPositionWithoutAnEventCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var since []string
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			since = append(since, r.URL.Query().Get("since")+"/"+r.Header.Get("Last-Event-ID")+"/"+r.URL.Query().Get("kind"))
			if len(since) == 1 {
				return streams(r, 0, "id: 5000\n\n", "id: 6000\n") // the second one is not whole
			}
			return streams(r, 0, sse(5001), sse(5001), "data: {\"revision\":5003,\ndata: \"id\":\"in two lines\"}\r\n\r\n")
		}, "a")
		var ids []string
		for e, err := range c.Watch(t.Context(), Feed{Since: 3, Kind: "printer"}) {
			if err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, e.ID); len(ids) == 2 {
				break
			}
		}
		if fmt.Sprint(since) != "[3//printer 5000/5000/printer]" || fmt.Sprint(ids) != "[p5001 in two lines]" {
			t.Errorf("asked since %q, got %q", since, ids)
		}
	})
}

func TestWhatMakesNoSenseEndsAFeed(t *testing.T) {
	for _, text := range []string{"data: nonsense\n\n", "data: " + strings.Repeat("x", maxEventBytes+1) + "\n\n",
		strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 5)} {
		c := scripted(t, func(*http.Request) (*http.Response, error) { return says(http.StatusOK, text) }, "a")
		for _, err := range c.Watch(t.Context(), Feed{}) {
			if err == nil {
				t.Errorf("%.40q was taken", text)
			}
		}
	}
}
