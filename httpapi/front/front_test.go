package front

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with what it was asked, in the way that the query says.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body did not come", http.StatusBadRequest)
		return
	}
	switch q := r.URL.Query(); {
	case q.Has("panic"):
		panic(http.ErrAbortHandler)
	case q.Has("status"):
		status, _ := strconv.Atoi(q.Get("status"))
		w.Header().Set("Etag", `"7"`)
		w.WriteHeader(200 + max(0, status-200)%400)
		_, _ = w.Write(body)
		return
	case q.Has("empty"):
		return
	}
	told, err := json.Marshal(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "path": r.URL.Path, "host": r.Host, "header": r.Header, "length": r.ContentLength, "body": string(body),
		"protocol": r.Proto, "encoding": r.TransferEncoding, "close": r.Close,
	})
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Lines", "one\r\ntwo")
	w.Header()["X-Many"] = []string{"1", "2"}
	_, _ = w.Write(told[:1])
	_, _ = w.Write(told[1:])
}

func webServer(h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
}

func takesAll(r *http.Request) bool { return r.URL.Path != "/stream" }

type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// serve has s serve until the test ends, and returns its address.
func serve(t testing.TB, s server) (address string) { return serveOver(t, s, nil) }

// serveOver is serve with other connections than TCP's own; nil: those.
func serveOver(t testing.TB, s server, wrap func(*net.TCPConn) net.Conn) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(wrapped{l, wrap}) }()
	t.Cleanup(func() {
		s.Close() // it may be closed already
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

type wrapped struct {
	net.Listener
	wrap func(*net.TCPConn) net.Conn
}

func (l wrapped) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || l.wrap == nil {
		return nc, err
	}
	return l.wrap(nc.(*net.TCPConn)), nil
}

// piecemeal is a connection that gives no more than so many bytes at once.
type piecemeal struct {
	*net.TCPConn
	most int
}

func (c piecemeal) Read(p []byte) (int, error) { return c.TCPConn.Read(p[:min(len(p), c.most)]) }

// observed tells of each Read that it begins, and then what it got.
type observed struct {
	*net.TCPConn
	reads chan int // -1: it begins
}

func (c observed) Read(p []byte) (int, error) {
	c.reads <- -1
	n, err := c.TCPConn.Read(p)
	c.reads <- n
	return n, err
}

// dial opens a connection on which nothing takes longer than ten seconds.
func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc.(*net.TCPConn)
}

// answers sends what is asked, says that nothing more comes, and tells all answers in words.
func answers(t testing.TB, address, asked string) (told string) {
	t.Helper()
	nc := dial(t, address)
	_, _ = io.WriteString(nc, asked) // it may be refused before its end
	_ = nc.CloseWrite()
	r := bufio.NewReader(nc)
	for {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Fatalf("after %q: %v", told, err)
			}
			return told
		}
		body, err := io.ReadAll(a.Body)
		if err != nil && strings.Contains(err.Error(), "reset") {
			err = nil // net/http refused it, and closed over the pieces that it had not read
		}
		a.Header.Del("Date")
		if a.ContentLength = max(a.ContentLength, int64(len(body))); len(body) > 0 {
			a.Header.Del("Content-Length") // net/http sends a longer one in chunks
		}
		told += fmt.Sprintf("%s %s %v %d close=%v %.300q %v\n", a.Proto, a.Status, a.Header, a.ContentLength, a.Close, body, err)
	}
}

const created = "POST /api/v1/printers?timeout=1s HTTP/1.1\r\nHost: farm:8001\r\nContent-Type: application/json\r\nContent-Length: 7\r\nAccept: a\r\nAccept: b\r\n\r\n{\"a\":1}"

var requests = map[string]string{
	"a creation":           created,
	"a read":               "GET /api/v1/printers/mk4 HTTP/1.1\r\nhost: 127.0.0.1:8001\r\nuser-agent: curl/8\r\naccept: */*\r\n\r\n",
	"two behind another":   created + created,
	"a stream behind it":   created + "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" + created,
	"a deletion":           "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n",
	"a keep-alive":         "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"a close":              "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + created,
	"a proxy's target":     "GET http://other/x HTTP/1.1\r\nHost: a\r\n\r\n",
	"an escaped target":    "GET /a%2Fb%20c?x=%41 HTTP/1.1\r\nHost: a\r\n\r\n",
	"a bad escape":         "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"two slashes":          "GET //x/y HTTP/1.1\r\nHost: a\r\n\r\n",
	"a fragment":           "GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD":                 "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS":              "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"HTTP/1.0":             "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"HTTP/1.0 without one": "GET / HTTP/1.0\r\n\r\n",
	"HTTP/2":               "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"no host":              "GET / HTTP/1.1\r\n\r\n",
	"two hosts":            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"an empty host":        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"a strange host":       "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
	"bare line feeds":      "GET / HTTP/1.1\nHost: a\n\n",
	"one bare line feed":   "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
	"one bare return":      "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: 1\r\n\r\n",
	"a folded header":      "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
	"a blank in a name":    "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
	"no colon":             "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
	"no name":              "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
	"an odd name":          "GET / HTTP/1.1\r\nHost: a\r\nX!y: z\r\n\r\n",
	"a control character":  "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
	"a tab":                "GET / HTTP/1.1\r\nHost: a\r\nX:\ty\t\r\n\r\n",
	"an umlaut":            "GET /ü HTTP/1.1\r\nHost: a\r\nX: ü\r\n\r\n",
	"blanks before a line": "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method that is odd": "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a small method":       "get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"four words":           "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
	"two words":            "GET /\r\nHost: a\r\n\r\n",
	"no words":             "\r\n\r\n",
	"a chunked body":       "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + created,
	"both lengths":         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"two lengths alike":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"two lengths":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
	"a list of lengths":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
	"a signed length":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
	"a length below zero":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
	"an empty length":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc",
	"a long length":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc",
	"a longer length":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00003\r\n\r\nabc",
	"half a body":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
	"half a head":          "POST / HTTP/1.1\r\nHost: a\r\nConte",
	"no length":            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a read with a body":   "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + created,
	"a body of 5000":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000) + created,
	"a body of 4000":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + strings.Repeat("x", 4000) + created,
	"a long head":          "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n" + created,
	"a very long head":     "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	"an expectation":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
	"an upgrade":           "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"a cache's word":       "GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"a 204":                "POST /?status=204 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + created,
	"a 304":                "GET /?status=304 HTTP/1.1\r\nHost: a\r\n\r\n" + created,
	"a 201":                "POST /?status=201 HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc" + created,
	"nothing said":         "GET /?empty HTTP/1.1\r\nHost: a\r\n\r\n" + created,
	"an abort":             "GET /?panic HTTP/1.1\r\nHost: a\r\n\r\n" + created,
}

// Whatever comes, it is answered as net/http alone would answer it.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	alone := serve(t, webServer(echo))
	fronts := map[string]string{"whole": serve(t, &Server{HTTP: webServer(echo), Takes: takesAll})}
	for _, most := range []int{1, 7, 100} {
		fronts[fmt.Sprint("in pieces of ", most)] = serveOver(t, &Server{HTTP: webServer(echo), Takes: takesAll}, func(nc *net.TCPConn) net.Conn { return piecemeal{nc, most} })
	}
	for name, request := range requests {
		for _, asked := range []string{request, created + request} {
			if asked != request {
				name += ", behind another"
			}
			want := answers(t, alone, asked)
			for how, address := range fronts {
				if how != "whole" && len(request) > 5000 {
					continue
				}
				if got := answers(t, address, asked); got != want {
					t.Errorf("%s, %s: got\n%swant\n%s", name, how, got, want)
				}
			}
		}
	}
}

// It would be of no use if it left all to net/http.
func TestPlainRequestsAreNotNetHTTPs(t *testing.T) {
	web := webServer(echo)
	web.ConnState = func(nc net.Conn, state http.ConnState) { t.Errorf("net/http has a connection, %v", state) }
	address := serve(t, &Server{HTTP: web, Takes: takesAll})
	for _, name := range []string{"a creation", "a read", "two behind another", "a deletion", "a keep-alive", "an escaped target", "a body of 4000", "a 204", "a 304"} {
		request := requests[name]
		if got := answers(t, address, request); !strings.HasPrefix(got, "HTTP/1.1 2") && !strings.HasPrefix(got, "HTTP/1.1 304") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestACallEndsWithItsClient(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	address := serve(t, &Server{Takes: takesAll, HTTP: webServer(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	})})
	nc := dial(t, address)
	if _, err := io.WriteString(nc, created); err != nil {
		t.Fatal(err)
	}
	<-began
	nc.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, errGone) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the call goes on although its client has gone")
	}
}

// What comes while a call takes long is the next request, and not lost.
func TestWhatComesDuringALongCallIsAnsweredAfterIt(t *testing.T) {
	goOn, reads := make(chan struct{}), make(chan int, 16)
	address := serveOver(t, &Server{Takes: takesAll, HTTP: webServer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-goOn
		}
		echo(w, r)
	})}, func(nc *net.TCPConn) net.Conn { return observed{nc, reads} })
	nc := dial(t, address)
	awaitRead := func(want int) {
		t.Helper()
		select {
		case got := <-reads:
			if got != want {
				t.Fatalf("a read of %d, want %d", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no read of %d", want)
		}
	}
	slow := strings.Replace(created, "/api/v1/printers", "/slow", 1)
	awaitRead(-1)
	for _, piece := range []string{slow, created[:30]} {
		if _, err := io.WriteString(nc, piece); err != nil {
			t.Fatal(err)
		}
		awaitRead(len(piece))
		if piece == slow {
			awaitRead(-1) // the lookout's, whose the second piece is
		}
	}
	close(goOn)
	if _, err := io.WriteString(nc, created[30:]); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(nc)
	for _, path := range []string{"/slow", "/api/v1/printers"} {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if body, err := io.ReadAll(a.Body); err != nil || !strings.Contains(string(body), `"path":"`+path+`"`) {
			t.Errorf("%s: %s, %v", path, body, err)
		}
	}
}

func TestShutdownWaitsForCallsAndNotForIdleConnections(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := &Server{Takes: takesAll, HTTP: webServer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(began)
			<-goOn
		}
		echo(w, r)
	})}
	address := serve(t, s)
	idle, busy := dial(t, address), dial(t, address)
	var halves []net.Conn // many, since handing one of them over would go well now and then
	for range 32 {
		half := dial(t, address)
		halves = append(halves, half)
		if _, err := io.WriteString(half, created+created[:40]); err != nil {
			t.Fatal(err)
		}
		awaitAnswer(t, bufio.NewReader(half)) // so that the half behind it was read
	}
	r := bufio.NewReader(idle)
	if _, err := io.WriteString(idle, created); err != nil {
		t.Fatal(err)
	}
	awaitAnswer(t, r)
	if _, err := io.WriteString(busy, strings.Replace(created, "/api/v1/printers", "/slow", 1)); err != nil {
		t.Fatal(err)
	}
	<-began
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %v", err)
	}
	// The second half of a request that had begun is awaited too.
	for _, half := range halves {
		if _, err := io.WriteString(half, created[40:]); err != nil {
			t.Fatal(err)
		}
	}
	for _, nc := range append(halves, busy) {
		if nc == busy {
			select {
			case err := <-down:
				t.Fatalf("Shutdown returned %v while a call went on", err)
			default:
			}
			close(goOn)
		}
		a, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != http.StatusOK || !a.Close {
			t.Errorf("%v %s %v", a, body, err)
		}
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if nc, err := net.Dial("tcp", address); err == nil {
		nc.Close()
		t.Error("it still listens")
	}
}

// awaitAnswer reads an answer after which the connection goes on.
func awaitAnswer(t testing.TB, r *bufio.Reader) {
	t.Helper()
	a, err := http.ReadResponse(r, nil)
	if err != nil || a.Close {
		t.Fatal(a, err)
	}
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		t.Fatal(err)
	}
}

// A connection that becomes idle at the moment of a shutdown is not waited for.
func TestShutdownUnderLoadIsQuick(t *testing.T) {
	for range 50 {
		s := &Server{HTTP: webServer(echo), Takes: takesAll}
		address := serve(t, s)
		var clients, answered sync.WaitGroup
		for range 32 {
			nc := dial(t, address)
			answered.Add(1)
			clients.Go(func() {
				r := bufio.NewReader(nc)
				for first := true; ; first = false {
					if _, err := io.WriteString(nc, created); err != nil {
						return
					}
					a, err := http.ReadResponse(r, nil)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, a.Body) // a body that ends early is seen at the next answer
					if first {
						answered.Done()
					}
				}
			})
		}
		answered.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		clients.Wait()
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	s := &Server{Takes: takesAll, HTTP: webServer(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})}
	nc := dial(t, serve(t, s))
	if _, err := io.WriteString(nc, created); err != nil {
		t.Fatal(err)
	}
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	<-ended
}

// A client that begins a request and goes to sleep is net/http's, which gives it up in its time; one that does not begin is closed.
func TestSlowClientsAreGivenUp(t *testing.T) {
	web := webServer(echo)
	web.ReadHeaderTimeout, web.ReadTimeout, web.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	address := serve(t, &Server{HTTP: web, Takes: takesAll})
	for name, sent := range map[string]string{"nothing": "", "half a head": created[:40], "half a body": created[:len(created)-2]} {
		nc := dial(t, address)
		if _, err := io.WriteString(nc, sent); err != nil {
			t.Fatal(err)
		}
		if told, err := io.ReadAll(nc); err != nil || strings.Contains(string(told), "200") {
			t.Errorf("%s: %q, %v", name, told, err)
		}
	}
}

func TestAPanicBreaksTheConnectionAndIsLogged(t *testing.T) {
	log := make(logged, 1)
	web := webServer(func(http.ResponseWriter, *http.Request) { panic("of a test") })
	web.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(log, nil), slog.LevelError)
	s := &Server{HTTP: web, Takes: takesAll}
	if got := answers(t, serve(t, s), created); got != "" {
		t.Errorf("answered %q", got)
	}
	if line := <-log; !strings.Contains(line, "of a test") {
		t.Errorf("logged %q", line)
	}
}

// logged is a log whose lines are received.
type logged chan string

func (l logged) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// FuzzParse: what is taken for plain is what http.ReadRequest reads, with the same body behind it.
func FuzzParse(f *testing.F) {
	for _, request := range requests {
		if len(request) < bufferBytes {
			f.Add([]byte(request))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := new(http.Request)
		size, is := parse(b, got)
		if is != plain {
			return
		}
		r := bufio.NewReader(strings.NewReader(string(b)))
		want, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("%q is no request: %v", b, err)
		}
		wantBody, err := io.ReadAll(want.Body)
		if err != nil {
			t.Fatal(err)
		}
		gotBody, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		tell := func(r *http.Request, body []byte) string {
			return fmt.Sprint(r.Method, r.URL, *r.URL, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Header, r.Host, r.ContentLength, r.TransferEncoding, r.Close, r.Trailer, string(body))
		}
		if got, want := tell(got, gotBody), tell(want, wantBody); got != want {
			t.Fatalf("%q: got\n%s, want\n%s", b, got, want)
		}
		if size != len(b)-len(rest) {
			t.Fatalf("%q: %d bytes, want %d", b, size, len(b)-len(rest))
		}
	})
}

// FuzzAnswers: whatever comes, it is answered as net/http alone would answer it.
func FuzzAnswers(f *testing.F) {
	for _, request := range requests {
		if len(request) < 2*bufferBytes {
			f.Add([]byte(request))
		}
	}
	alone := serve(f, webServer(echo))
	front := serve(f, &Server{HTTP: webServer(echo), Takes: takesAll})
	f.Fuzz(func(t *testing.T, b []byte) {
		want := answers(t, alone, string(b))
		if got := answers(t, front, string(b)); got != want {
			t.Fatalf("%q: got\n%swant\n%s", b, got, want)
		}
	})
}

func BenchmarkServe(b *testing.B) {
	answer := []byte(`{"id":"` + strings.Repeat("x", 400) + `"}`)
	handler := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Etag"], h["Raft3d-Revision"] = []string{"application/json"}, []string{`"1"`}, []string{"1"}
		h["Content-Length"] = []string{strconv.Itoa(len(answer))}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(answer)
	}
	for name, s := range map[string]func() server{
		"front":    func() server { return &Server{HTTP: webServer(handler), Takes: takesAll} },
		"net-http": func() server { return webServer(handler) },
	} {
		b.Run(name, func(b *testing.B) {
			nc := dial(b, serve(b, s()))
			if err := nc.SetDeadline(time.Time{}); err != nil {
				b.Fatal(err)
			}
			buffer := make([]byte, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(nc, created); err != nil {
					b.Fatal(err)
				}
				if _, err := nc.Read(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ http.ResponseWriter = (*answer)(nil)
