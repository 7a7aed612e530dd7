package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
)

// These tests run in virtual time (testing/synctest), over connections in memory.

// reader is a client of server-sent events, as the specification of EventSource has it.
type reader struct {
	testing.TB
	conn     net.Conn
	response *http.Response
	lines    *bufio.Reader

	id       string // the last event id
	retry    int    // ms; 0: never told
	comments int
}

// listen opens a stream; headers are "Name: value".
func listen(t testing.TB, conn net.Conn, query string, headers ...string) *reader {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Hour)) // heartbeats keep virtual time going: a test that waits in vain must end
	fmt.Fprintf(conn, "GET /api/v1/events%s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n%s\r\n", query, strings.Join(append(headers, ""), "\r\n"))
	answers := bufio.NewReader(conn)
	response, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != contentEvents || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s %v", response.Status, response.Header)
	}
	return &reader{TB: t, conn: conn, response: response, lines: bufio.NewReader(response.Body)}
}

// next returns the next event's data, or the error that ended the stream.
func (r *reader) next() (data string, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "":
			if value != "" {
				r.comments++
			} else if data != "" {
				return data, nil
			}
		case "id":
			r.id = value
		case "retry":
			r.retry, _ = strconv.Atoi(value)
		case "data":
			data += value
		default:
			r.Fatalf("a field that EventSource does not hand to onmessage: %q", line)
		}
	}
}

// take reads n events and fails unless they are the revisions from first on.
func (r *reader) take(first, n int) {
	r.Helper()
	for want := first; want < first+n; want++ {
		data, err := r.next()
		if err != nil || r.id != fmt.Sprint(want) || !strings.HasPrefix(data, fmt.Sprintf(`{"revision":%d,`, want)) {
			r.Fatalf("want event %d, got id %s, %.60q, %v", want, r.id, data, err)
		}
	}
}

// idle reads until the stream ends, in the background, and returns how to wait for that.
func (r *reader) idle() (ended func() error) {
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := r.next(); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() error { return <-done }
}

func TestAStreamTellsWhatThereIsAndThenWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		r := listen(t, serveSlowly(t, w)(), "?since=1")
		if got := r.response.Header.Get("Raft3D-Revision"); got != "4" {
			t.Errorf("Raft3D-Revision: %s", got)
		}
		r.take(2, 3)
		for i := 5; i < 50; i++ {
			w.call("POST", "/api/v1/printers", aPrinter).is(201)
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		r.take(5, 45)
		if r.retry == 0 {
			t.Errorf("not told when to come again")
		}
	})
}

// On any node, after any cut: what one stream did not bring, the next one does, and nothing comes twice.
func TestAStreamResumesWithoutAGapOrARepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withHistory(400)
		w := newWorld(t, func(c *Config) { c.Farm = l })
		dial := serveSlowly(t, w)
		told := 0
		for cut := range 40 {
			var headers []string
			if told > 0 {
				headers = []string{fmt.Sprintf("Last-Event-ID: %d", told)}
			}
			r := listen(t, dial(), "?since=0", headers...) // EventSource repeats its URL
			r.take(told+1, 7+cut)
			told += 7 + cut
			r.conn.Close()
			l.mu.Lock()
			l.grow(uint64(cut))
			l.mu.Unlock()
			synctest.Wait()
			if n := w.server.streams.Load(); n != 0 {
				t.Fatalf("%d streams are still open", n)
			}
		}
	})
}

func TestAStreamWithAFilterIsWokenForItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		r := listen(t, serveSlowly(t, w)(), "?kind=filament&since=4")
		ended := make(chan string)
		go func() {
			data, _ := r.next()
			ended <- r.id + data
		}()
		for range 600 {
			w.call("PATCH", "/api/v1/printers/p1", `{"name":"x"}`).is(200)
		}
		synctest.Wait()
		// Its place moves on with the heartbeat, past what it does not show.
		time.Sleep(heartbeat + time.Second)
		synctest.Wait()
		w.call("PATCH", "/api/v1/filaments/f1", `{"name":"x"}`).is(200)
		if got := <-ended; !strings.HasPrefix(got, `605{"revision":605,`) || !strings.Contains(got, `"kind":"filament"`) {
			t.Errorf("got %q", got)
		}
	})
}

func TestAQuietStreamShowsThatItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		r := listen(t, serveSlowly(t, w)(), "?kind=filament&since=2")
		if data, err := r.next(); err != nil || r.id != "4" {
			t.Fatalf("%q %v", data, err)
		}
		ended := r.idle()
		w.call("PATCH", "/api/v1/printers/p1", `{"name":"x"}`).is(200)
		time.Sleep(time.Hour) // longer than any limit of the http.Server
		synctest.Wait()
		if want := int(time.Hour / heartbeat); r.comments < want-2 || r.comments > want {
			t.Errorf("%d heartbeats in an hour", r.comments)
		}
		if r.id != "5" {
			t.Errorf("its place is %s, although it has seen all up to 5", r.id)
		}
		if n := w.server.streams.Load(); n != 1 {
			t.Errorf("%d streams", n)
		}
		r.conn.Close()
		if err := ended(); err == nil {
			t.Error("it did not end")
		}
		synctest.Wait()
		if n := w.server.streams.Load() + w.server.inFlight.Load(); n != 0 {
			t.Errorf("%d streams and calls are still counted", n)
		}
	})
}

func TestASlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withHistory(5000)
		w := newWorld(t, func(c *Config) { c.Farm = l })
		dial := serveSlowly(t, w)
		slow := listen(t, dial(), "?since=0")
		slow.take(1, 30)
		fast := listen(t, dial(), "?since=0")
		fast.take(1, 5000)
		for range 10 { // history grows; what the slow one does not take is not gathered for it
			l.mu.Lock()
			l.grow(100)
			l.mu.Unlock()
		}
		time.Sleep(writeTimeout - time.Second)
		synctest.Wait()
		if n := w.server.streams.Load(); n != 2 {
			t.Fatalf("%d streams before its time is up", n)
		}
		fast.take(5001, 1000)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := w.server.streams.Load(); n != 1 {
			t.Fatalf("%d streams after its time was up", n)
		}
		if w.log.Len() > 0 {
			t.Errorf("logged: %s", w.log)
		}
		told := 30 // it may still get what had been sent, in whole events or not, and goes on from there
		for {
			if _, err := slow.next(); err != nil {
				break
			}
			told++
			if slow.id != fmt.Sprint(told) {
				t.Fatalf("event %s in the place of %d", slow.id, told)
			}
		}
		again := listen(t, dial(), "", fmt.Sprintf("Last-Event-ID: %d", told))
		again.take(told+1, 6000-told)
	})
}

func TestAStreamThatWaitsHoldsNothingOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withHistory(3)
		dial := serveSlowly(t, newWorld(t, func(c *Config) { c.Farm = l }))
		for range 20 {
			listen(t, dial(), "").take(1, 3)
		}
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open.Load() != 0 || l.waiting != 20 {
			t.Errorf("%d Views are open, %d streams wait", l.open.Load(), l.waiting)
		}
	})
}

func TestAStreamThatWaitsHasNoBuffer(t *testing.T) {
	w := newWorld(t)
	f := &feed{server: w.server, live: true}
	f.takeBuffer()
	w.server.farm = waitFarm{w.farm, func() {
		if f.pooled != nil || f.part != nil {
			t.Error("it has one")
		}
	}}
	if err := f.wait(t.Context()); err != nil || f.pooled == nil {
		t.Errorf("%v, buffer %v", err, f.pooled)
	}
}

// waitFarm calls a function for each Wait.
type waitFarm struct {
	Farm
	onWait func()
}

func (f waitFarm) Wait(context.Context, uint64) error { f.onWait(); return nil }

func TestStreamsAreBoundedApartFromCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t, func(c *Config) { c.MaxInFlight, c.MaxStreams = 2, 5 })
		dial := serveSlowly(t, w)
		var open []*reader
		for range 5 {
			r := listen(t, dial(), "")
			r.take(1, 4)
			open = append(open, r)
		}
		synctest.Wait()
		w.call("GET", "/api/v1/events", "", "Accept: text/event-stream").has("Retry-After", "1").problem(429)
		w.call("GET", "/api/v1/events", "").is(200) // lines end by themselves
		w.call("HEAD", "/api/v1/events", "", "Accept: text/event-stream").is(200)
		if got := w.call("GET", "/metrics", ""); !strings.Contains(got.body, "\nraft3d_event_streams 5\n") || !strings.Contains(got.body, "\nraft3d_http_requests_in_flight 1\n") {
			t.Errorf("streams and calls are not told apart in the metrics")
		}
		open[0].conn.Close()
		synctest.Wait()
		listen(t, dial(), "").take(1, 4)
	})
}

// ends asserts that a stream ends as a whole answer does, soon.
func ends(t *testing.T, ended func() error, r *reader) {
	t.Helper()
	if err := ended(); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
	if r.retry < reconnectMin || r.retry > reconnectMin+reconnectSpread {
		t.Errorf("told to come again in %d ms", r.retry)
	}
}

func TestStreamsEndWhenTheNodeShutsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		dial, shutdown := serveAndShutDown(t, w)
		var streams []*reader
		var ended []func() error
		for range 3 {
			r := listen(t, dial(), "")
			r.take(1, 4)
			streams, ended = append(streams, r), append(ended, r.idle())
		}
		synctest.Wait()
		for _, r := range streams {
			r.retry = 0 // so that what it is told at the end shows
		}
		began := time.Now()
		w.server.Drain()
		w.server.Drain() // again does no harm
		for i, r := range streams {
			ends(t, ended[i], r)
		}
		late := listen(t, dial(), "") // one that comes now is told so
		late.take(1, 4)
		ends(t, late.idle(), late)
		if err := shutdown(); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A reader that takes nothing must not keep a node from ending.
func TestAReaderThatHangsDoesNotHoldUpAShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withHistory(5000)
		w := newWorld(t, func(c *Config) { c.Farm = l })
		dial, shutdown := serveAndShutDown(t, w)
		listen(t, dial(), "").take(1, 1) // hangs in the middle of what there is
		waits := listen(t, dial(), "?since=4000")
		_ = waits.conn.SetReadDeadline(time.Now().Add(time.Second))
		_ = waits.idle()() // has taken all there is, and hangs now
		late := dial()
		synctest.Wait()
		began := time.Now()
		w.server.Drain()
		fmt.Fprintf(late, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		if err := shutdown(); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if took := time.Since(began); took > drainLimit+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAStreamThatCannotBeReadOnIsBroken(t *testing.T) {
	for _, fault := range []error{
		errors.New("the store is closed"),                                    // logged: somebody must know
		&farm.Error{Kind: farm.Gone, Detail: "trimmed", Oldest: 90},          // the client hears it when it comes again
		&farm.Error{Kind: farm.Unavailable, Detail: "this node is stopping"}, // the same
	} {
		synctest.Test(t, func(t *testing.T) {
			w := stocked(t)
			r := listen(t, serveSlowly(t, w)(), "")
			r.take(1, 4)
			synctest.Wait()
			w.farm.mu.Lock()
			w.farm.onView = refuseView(fault)
			w.farm.grow(1)
			w.farm.mu.Unlock()
			if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: got %v", fault, err)
			}
			synctest.Wait()
			var known *farm.Error
			if logged := w.log.Len() > 0; logged == errors.As(fault, &known) {
				t.Errorf("%v: logged %q", fault, w.log)
			}
		})
	}
}

// serveAndShutDown serves w as cmd does, and returns a way to connect and the end.
func serveAndShutDown(t *testing.T, w *world) (dial func() net.Conn, shutdown func() error) {
	p := &pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{Handler: w.server.Handler()}
	ServerTimeouts(server)
	done := make(chan error)
	go func() { done <- server.Serve(p) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		synctest.Wait()
	})
	return func() net.Conn {
			client, served := net.Pipe()
			t.Cleanup(func() { client.Close() })
			p.conns <- served
			return client
		}, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			return server.Shutdown(ctx)
		}
}
