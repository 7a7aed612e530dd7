package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
)

// These tests run in virtual time (testing/synctest), over connections in memory.

// pipes is a listener whose connections are made by dial.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (*pipes) Addr() net.Addr { return &net.TCPAddr{} }

// serveSlowly serves w as cmd does, and returns a way to connect.
func serveSlowly(t *testing.T, w *world) (dial func() net.Conn) {
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
	}
}

func TestABodyThatDoesNotArriveEndsItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := serveSlowly(t, w)()
		began := time.Now()
		fmt.Fprintf(conn, "POST /api/v1/printers HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n{\"company\"")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); response.StatusCode != http.StatusRequestTimeout || took != readTimeout {
			t.Errorf("%s after %v", response.Status, took)
		}
		if w.server.inFlight.Load() != 0 || len(w.farm.commands) != 0 {
			t.Errorf("%d calls in flight, commands %v", w.server.inFlight.Load(), w.farm.commands)
		}
	})
}

// net/http drains a body that no handler read before it answers: without a deadline it would wait for ever.
func TestABodyThatNobodyWantsHoldsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := serveSlowly(t, newWorld(t))()
		began := time.Now()
		fmt.Fprintf(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
		_, err := io.Copy(io.Discard, conn)
		if took := time.Since(began); took > 2*readTimeout {
			t.Errorf("the connection ended after %v: %v", took, err)
		}
	})
}

func TestAHeaderThatDoesNotArriveEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := serveSlowly(t, newWorld(t))()
		began := time.Now()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost")
		_, _ = io.Copy(io.Discard, conn)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the connection ended after %v", took)
		}
	})
}

func TestACallMayTakeLongerThanItsBodyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.farm.onDo = func(ctx context.Context, _ farm.Command, s farm.Stamp) (farm.Result, error) {
			select {
			case <-time.After(3 * readTimeout):
				return farm.Result{ID: s.NewID, Revision: 1, Object: []byte(`{"revision":1}`)}, nil
			case <-ctx.Done():
				return farm.Result{}, ctx.Err()
			}
		}
		dial := serveSlowly(t, w)
		conn := dial()
		answers := bufio.NewReader(conn)
		for range 2 { // the second call finds no deadline that the first left behind
			fmt.Fprintf(conn, "POST /api/v1/printers?timeout=60s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(aPrinter), aPrinter)
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusCreated {
				t.Errorf("%s: %v", response.Status, err)
			}
		}
	})
}

func TestAClientThatDoesNotReadHoldsNoView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withList(t, 5000, nil)
		conn := serveSlowly(t, newWorld(t, func(c *Config) { c.Farm = l }))()
		fmt.Fprintf(conn, "GET /api/v1/print_jobs HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		if l.open.Load() != 1 {
			t.Fatalf("%d Views are open while a long list waits for its client", l.open.Load())
		}
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		if l.open.Load() != 0 {
			t.Errorf("%d Views are still open", l.open.Load())
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Errorf("the connection did not end: %v", err)
		}
	})
}

func TestAShortListHoldsNoViewEvenForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withList(t, 5, nil)
		conn := serveSlowly(t, newWorld(t, func(c *Config) { c.Farm = l }))()
		fmt.Fprintf(conn, "GET /api/v1/print_jobs HTTP/1.1\r\nHost: x\r\n\r\n")
		synctest.Wait()
		if l.open.Load() != 0 {
			t.Errorf("%d Views are open while the client does not read", l.open.Load())
		}
	})
}

func TestAClientThatTakesNoAnswerHoldsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		conn := serveSlowly(t, w)()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
			t.Errorf("after two minutes there were still %d bytes to be had: %v", n, err)
		}
	})
}

func TestALongListLeavesNoDeadlineBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := withList(t, 500, nil)
		conn := serveSlowly(t, newWorld(t, func(c *Config) { c.Farm = l }))()
		answers := bufio.NewReader(conn)
		for range 2 {
			fmt.Fprintf(conn, "GET /api/v1/print_jobs HTTP/1.1\r\nHost: x\r\n\r\n")
			time.Sleep(writeTimeout - time.Second) // each part may take its time
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(response.Body); err != nil || !strings.HasSuffix(string(body), "]\n") {
				t.Fatalf("%d bytes: %v", len(body), err)
			}
			time.Sleep(writeTimeout + time.Second) // the connection rests
		}
	})
}
