// Package front answers plain HTTP/1.1 requests for less than net/http takes, and leaves everything else to net/http.
//
// There are three nouns: a Server, which stands in front of an http.Server and has its three methods; a conn, one
// connection that the Server still answers by itself; and an answer, the ResponseWriter that a handler gets.
//
// A request is plain where its head and its body, if it has one, stand in one buffer of 4 KiB as nearly all programs send
// them: printable ASCII, a method of four, a Host, and nothing that asks for more than an answer (see parse). Only such
// requests are taken for which Takes says that they are answered with one short piece. The first request of a connection that is not
// so, or that net/http would refuse, hands the connection over, with all that was read of it: from then on it is
// net/http's, as if the Server had not been there. So what is spoken here is a small part of HTTP, and whatever is
// unclear in it is decided by net/http alone (docs/decisions/0019).
//
// A Server owns the goroutine that accepts, one for each conn, and one for each call that takes long, which looks out for
// the end of its client. Shutdown and Close end them; after a Close they may still run for as long as a handler does.
// Handlers are called as net/http calls them, but that their context ends with the connection and not with the call.
package front

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Server answers what is plain, with HTTP's handler, and has HTTP serve the rest. Both fields must be set before Serve.
type Server struct {
	// HTTP has the handler, and the limits that are kept here too: ReadHeaderTimeout until a first request begins,
	// ReadTimeout for each to arrive, IdleTimeout between two; for an answer to be taken ReadTimeout at least, and at most
	// deadlineSlack more than the longest of them. None of them may be 0.
	HTTP *http.Server
	// Takes says whether a request is answered with one short piece, at the end of its handler. Such an answer is held until
	// then; what flushes, streams, or sets deadlines is not for a front.
	Takes func(*http.Request) bool

	ending atomic.Bool // set with mu held, so that no conn begins after it

	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu: those that are not handed over
	ended chan struct{}      // guarded by mu: closed when no conn is left; nil: nobody waits
}

// listener is what net/http sees: of the connections that come in only those that it is to serve.
type listener struct {
	net.Listener
	handed chan accepted // in no order; the server takes one after the other
	closed chan struct{}
	close  sync.Once
}

// accepted is what an Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// Serve serves what l accepts until Shutdown or Close, and returns http.ErrServerClosed then. It closes l.
func (s *Server) Serve(l net.Listener) error {
	own := &listener{Listener: l, handed: make(chan accepted), closed: make(chan struct{})}
	var accepting sync.WaitGroup
	accepting.Go(func() { s.accept(own) })
	defer accepting.Wait()
	defer own.Close()
	return s.HTTP.Serve(own)
}

func (s *Server) accept(l *listener) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			// net/http waits a while before it asks again, where it is worth asking; that is how long this takes.
			if !l.give(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		s.start(c, l)
	}
}

// give has net/http take it. It is false where that takes no more.
func (l *listener) give(a accepted) bool {
	select {
	case l.handed <- a:
		return true
	case <-l.closed:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.handed:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// start serves one connection in a goroutine of its own.
func (s *Server) start(nc net.Conn, l *listener) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		nc.Close()
		return
	}
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	go func() {
		rest := c.serve()
		s.forget(c) // before net/http has it: it counts its own
		if rest == nil || !l.give(accepted{conn: rest}) {
			nc.Close()
		}
	}()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.ended != nil && len(s.conns) == 0 {
		close(s.ended)
		s.ended = nil
	}
}

// Shutdown accepts nothing any more, closes connections that are idle, and returns when all calls are answered, or when ctx ends, with its
// error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ending.Store(true)
	if s.ended == nil && len(s.conns) > 0 {
		s.ended = make(chan struct{})
	}
	answered := s.ended
	for c := range s.conns {
		c.wake()
	}
	s.mu.Unlock()
	err := s.HTTP.Shutdown(ctx)
	if answered == nil {
		return err
	}
	select {
	case <-answered:
		return err
	case <-ctx.Done():
		return errors.Join(err, context.Cause(ctx))
	}
}

// Close cuts every connection.
func (s *Server) Close() error {
	s.mu.Lock()
	s.ending.Store(true)
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	return s.HTTP.Close()
}
