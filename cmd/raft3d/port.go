package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"raft3d/httpapi/front"
)

// port is an address that this node listens on and the HTTP/1.1 server behind it. It is open before there is anything
// to serve, so that an address in use is told before anything is touched, and answers 503 until use is called. It
// owns one goroutine, which ends in close.
type port struct {
	address string // host:port that others call
	server  interface {
		Serve(net.Listener) error
		Shutdown(context.Context) error
		Close() error
	}

	handler atomic.Pointer[http.Handler]
	failed  chan error    // at most one: why the server stopped by itself
	ended   chan struct{} // closed when the server's goroutine has ended
}

// openPort listens on listen; others are told to call adv, or, where that is empty, the address itself. name is the
// flag's, for the error; limits sets the server's timeouts; short says which calls a front.Server may answer, nil: none.
func openPort(name, listen, adv string, limits func(*http.Server), short func(*http.Request) bool, log *slog.Logger) (*port, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("open the port of -%s: %w", name, err)
	}
	p := &port{address: adv, failed: make(chan error, 1), ended: make(chan struct{})}
	if p.address == "" {
		p.address = l.Addr().String()
		// A port that the system chose is told as it is, a host name as it was given.
		if host, _, err := net.SplitHostPort(listen); err == nil && net.ParseIP(host) == nil {
			_, number, _ := net.SplitHostPort(p.address)
			p.address = net.JoinHostPort(host, number)
		}
	}
	p.use(http.HandlerFunc(starting))
	web := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.handler.Load()).ServeHTTP(w, r) }),
		Protocols: new(http.Protocols),
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	limits(web)
	web.Protocols.SetHTTP1(true)
	p.server = web
	if short != nil {
		p.server = &front.Server{HTTP: web, Takes: short}
	}
	go p.run(l)
	return p, nil
}

func (p *port) run(l net.Listener) {
	defer close(p.ended)
	if err := p.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		p.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
}

// use has h answer from now on.
func (p *port) use(h http.Handler) { p.handler.Store(&h) }

// starting answers while the node is not there yet: it lives, and that is all.
func starting(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" {
		fmt.Fprintln(w, "ok")
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintln(w, `{"type":"about:blank","title":"Service Unavailable","status":503,`+
		`"detail":"this node is starting; try again in a moment, or ask another one","outcome":"not_applied"}`)
}

// drain stops accepting connections and waits until what is in flight is answered, at most until ctx ends.
func (p *port) drain(ctx context.Context) error { return p.server.Shutdown(ctx) }

// close cuts what is left. It may be called again.
func (p *port) close() {
	p.server.Close() // its error is that of a listener that was closed before
	<-p.ended
}
