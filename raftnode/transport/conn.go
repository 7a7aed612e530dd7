package transport

import (
	"net"
	"sync"
	"time"
)

// timedConn gives up a connection on which a read or a write makes no progress for idle.
type timedConn struct {
	net.Conn
	idle time.Duration

	mu    sync.Mutex
	limit time.Time // of everything; zero: none
}

// pieceBytes is how much one write deadline is for: a slow line that moves 13 kB/s is slow, not dead.
const pieceBytes = 64 << 10

func (c *timedConn) Read(p []byte) (int, error) {
	if err := c.extend(c.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *timedConn) Write(p []byte) (written int, err error) {
	for {
		if err := c.extend(c.SetWriteDeadline); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:min(len(p), written+pieceBytes)])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

func (c *timedConn) extend(set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := time.Now().Add(c.idle)
	if !c.limit.IsZero() && c.limit.Before(deadline) {
		deadline = c.limit
	}
	return set(deadline)
}

// endBy has all reads and writes fail from t on, also those that wait now.
func (c *timedConn) endBy(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = t
	_ = c.SetDeadline(t) // an error means that the connection is closed, which is as good
}

// closeWrite says that no more will be written, and keeps the way back open. Where the connection cannot do that it does nothing.
func (c *timedConn) closeWrite() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // an error means that the connection is closed, which says it too
	}
}
