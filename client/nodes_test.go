package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a cluster's state, as far as it matters here: what each key did, once.
type ledger struct {
	mu      sync.Mutex
	answers map[string]string // by key: the body of the first answer
	effects []string          // paths and bodies, in the order in which they happened
	keys    []string          // of all requests that change something, in order
}

func newLedger() *ledger { return &ledger{answers: map[string]string{}} }

// ServeHTTP is any node of the cluster.
func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the request did not arrive whole
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	l.keys = append(l.keys, key)
	answer, again := l.answers[key]
	if again {
		w.Header().Set("Idempotency-Replayed", "true")
	} else {
		l.effects = append(l.effects, r.URL.Path+" "+string(body))
		answer = fmt.Sprintf(`{"id":"made-%d","revision":%[1]d}`, len(l.effects))
		l.answers[key] = answer
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Raft3D-Revision", fmt.Sprint(len(l.effects)))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer+"\n")
}

// brittle serves handler, one request a connection, and cuts each answer off after as many bytes as cut says; a negative
// number leaves it whole.
type brittle struct {
	url string
	mu  sync.Mutex
	cut func(answer []byte) int // guarded by mu
	n   int                     // answers; guarded by mu
}

func serveBrittle(t testing.TB, handler http.Handler) *brittle {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &brittle{url: "http://" + l.Addr().String(), cut: func([]byte) int { return -1 }}
	var running sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// net/http may have opened a connection that it then had no use for.
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			running.Go(func() {
				defer stop()
				b.serve(conn, handler)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		end()
		running.Wait()
	})
	return b
}

func (b *brittle) serve(conn net.Conn, handler http.Handler) {
	defer conn.Close()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	response := recorder.Result()
	response.Request = request
	response.Close = true
	if request.Method != http.MethodHead {
		response.ContentLength = int64(recorder.Body.Len())
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		response.ContentLength, response.TransferEncoding = -1, []string{"chunked"}
	}
	var whole bytes.Buffer
	if err := response.Write(&whole); err != nil {
		return
	}
	b.mu.Lock()
	b.n++
	cut := b.cut(whole.Bytes())
	b.mu.Unlock()
	if cut < 0 || cut > whole.Len() {
		cut = whole.Len()
	}
	_, _ = conn.Write(whole.Bytes()[:cut])
}

func (b *brittle) cutAt(cut func(answer []byte) int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut = cut
}

func (b *brittle) answers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func newClient(t testing.TB, servers ...string) *Client {
	t.Helper()
	c, err := New(Config{Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// within is a context that ends a test which hangs.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// deadServer is an address where nobody listens.
func deadServer(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// script answers requests without a network, in virtual time where a test runs in it.
type script func(r *http.Request) (*http.Response, error)

func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return s(r)
}

func scripted(t testing.TB, s script, servers ...string) *Client {
	t.Helper()
	c, err := New(Config{Servers: servers, Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// says is an answer; headers are "Name: value".
func says(status int, body string, headers ...string) (*http.Response, error) {
	r := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	return r, nil
}

func problem(status int, more string) (*http.Response, error) {
	return says(status, fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"detail":"no"%s}`, http.StatusText(status), status, more),
		"Content-Type: application/problem+json", "Retry-After: 1")
}

// refused is the error of dialling an address where nobody listens.
func refused() (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
}

func distinct(all []string) int { return len(slices.Compact(slices.Sorted(slices.Values(all)))) }
