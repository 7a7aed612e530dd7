package front

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// bufferBytes is how much of a request is looked at before it is left to net/http: that of a print job with all its
// notes.
const bufferBytes = 4 << 10

// leastRequest is how many bytes must come behind an answer before net/http takes them for the next request.
const leastRequest = 4

// deadlineSlack is how much longer than it must a connection may be idle, or slow to take its answer.
const deadlineSlack = 15 * time.Second

// patience is how long a call may take before its conn looks out for the end of its client. Most take some milliseconds. It
// is longer than the pause between two heartbeats of a node: a timer that is due before all others has Go wake a thread.
const patience = 250 * time.Millisecond

// conn is one connection, as long as what comes over it is plain. Its goroutine owns all but what is said to be others'.
type conn struct {
	server *Server
	nc     net.Conn
	blank  *http.Request // what all requests of this connection have in common
	cancel context.CancelCauseFunc

	buffer [bufferBytes]byte
	have   int    // bytes of it
	method string // of the last call; empty: there was none

	answer   answer
	encoder  encoder
	out      []byte
	deadline time.Time // of nc, as it was set last

	lookout *time.Timer
	ahead   chan ahead  // what the lookout has met; one for each time that it was not stopped
	woken   atomic.Bool // wake was called, and moved the deadline
}

// ahead is what was read while a call went on.
type ahead struct {
	n   int
	err error
}

var errGone = errors.New("the client has gone")

func newConn(s *Server, nc net.Conn) *conn {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &conn{
		server: s, nc: nc, cancel: cancel, ahead: make(chan ahead, 1),
		blank: (&http.Request{RemoteAddr: nc.RemoteAddr().String()}).WithContext(ctx),
	}
	c.answer.header = http.Header{}
	c.lookout = time.AfterFunc(time.Hour, c.look)
	c.lookout.Stop()
	return c
}

// serve answers one call after the other. It returns the connection with what is unread where it is net/http's from then on; nil: it
// is to be closed.
func (c *conn) serve() (rest net.Conn) {
	defer c.cancel(errGone)
	web := c.server.HTTP
	c.setDeadline(time.Now().Add(web.ReadHeaderTimeout))
	for {
		n, err := c.nc.Read(c.buffer[c.have:])
		began := c.have == 0 && n > 0
		c.have += n
		if n == 0 && err != nil {
			switch {
			case c.have == 0, c.have < leastRequest && c.method != "":
				return nil
			case !c.woken.Swap(false):
				return c.handOver() // it knows what to say to whom is too slow, or said half of it
			}
			began = true // the deadline was moved by wake
		}
		for c.have > 0 {
			r := new(http.Request)
			*r = *c.blank
			size, is := parse(c.buffer[:c.have], r)
			if is == other || is == partial && max(size, c.have) >= bufferBytes || is == plain && !c.server.Takes(r) {
				return c.handOver()
			}
			if is == partial {
				break
			}
			if !c.call(r, size) {
				return nil
			}
			began = true // of what may stand behind it
		}
		switch {
		case c.have == 0:
			// Deadline before look: a wake that the deadline undoes has set ending before.
			c.allow(time.Now(), web.IdleTimeout)
			if c.server.ending.Load() {
				return nil
			}
		case began:
			c.setDeadline(time.Now().Add(web.ReadTimeout))
		}
	}
}

// call has a request answered that is the first size bytes of what was read. It is false where the connection is at its end.
func (c *conn) call(r *http.Request, size int) (goOn bool) {
	c.lookout.Reset(patience)
	whole := c.handle(r)
	last := c.server.ending.Load()
	if !c.lookout.Stop() {
		// It reads, or has read. What it got belongs behind what was there.
		_ = c.nc.SetReadDeadline(past) // where it fails, there is nothing to end
		a := <-c.ahead
		c.have += a.n
		c.deadline = time.Time{}
		last = last || a.err != nil && !errors.Is(a.err, os.ErrDeadlineExceeded)
	}
	if !whole {
		return false
	}
	now := time.Now()
	c.out = c.encoder.append(c.out[:0], &c.answer, now, last)
	c.answer.reset()
	c.allow(now, c.server.HTTP.ReadTimeout)
	if _, err := c.nc.Write(c.out); err != nil || last {
		return false
	}
	c.have = copy(c.buffer[:], c.buffer[size:c.have])
	c.method = r.Method
	return true
}

// handle has the handler answer. It is false where that ended in a panic, which breaks the connection.
func (c *conn) handle(r *http.Request) (whole bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler && c.server.HTTP.ErrorLog != nil {
			c.server.HTTP.ErrorLog.Printf("a handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	c.server.HTTP.Handler.ServeHTTP(&c.answer, r)
	return true
}

// look reads on while a call is answered, so that its context ends where its client has gone.
func (c *conn) look() {
	var a ahead
	if free := c.buffer[c.have:]; len(free) > 0 {
		if a.n, a.err = c.nc.Read(free); a.err != nil && !errors.Is(a.err, os.ErrDeadlineExceeded) {
			c.cancel(errGone)
		}
	}
	c.ahead <- a
}

// past is a deadline that ends a read at once.
var past = time.Unix(1, 0)

func (c *conn) setDeadline(t time.Time) {
	c.deadline = t
	_ = c.nc.SetDeadline(t) // where it fails, so does what comes next
}

// allow sees to it that the connection has so long from now on. It may be longer: setting a deadline with every call takes as long
// as reading the call does.
func (c *conn) allow(now time.Time, d time.Duration) {
	if c.deadline.Sub(now) < d {
		c.setDeadline(now.Add(d + deadlineSlack))
	}
}

// wake has the conn look whether the server ends. Any goroutine may call it, and cut.
func (c *conn) wake() {
	c.woken.Store(true)
	_ = c.nc.SetReadDeadline(past) // as above
}

func (c *conn) cut() {
	c.cancel(errGone)
	_ = c.nc.Close() // serve sees it, and nobody else asks
}

// handOver is the connection for net/http, with what was read of it.
func (c *conn) handOver() net.Conn {
	_ = c.nc.SetDeadline(time.Time{}) // net/http sets its own
	unread := c.buffer[:c.have]
	if c.method == http.MethodPost { // old clients send a line end behind a form; it is passed over (RFC 9112, 2.2), where the call before is known
		unread = bytes.TrimLeft(unread, "\r\n")
	}
	return &handed{c.nc, unread}
}

// handed is a connection of which the first bytes were read already.
type handed struct {
	net.Conn
	unread []byte
}

func (h *handed) Read(p []byte) (int, error) {
	if len(h.unread) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.unread)
	h.unread = h.unread[n:]
	if len(h.unread) == 0 {
		h.unread = nil
	}
	return n, nil
}

// CloseWrite is for net/http, which ends a refusal with it: a client that still sends would lose what it was told.
func (h *handed) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
