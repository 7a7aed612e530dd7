package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// These tests are about time, so they have their own: a bubble in which it passes when everybody waits, and a network of pipes
// that can go silent.

// network connects members by name.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	dialled   map[string]int
}

func newNetwork() *network {
	return &network{listeners: make(map[string]*listener), dialled: make(map[string]int)}
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled[addr]++
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialled[addr]
}

func (n *network) listen(addr string) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{n: n, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l
}

type listener struct {
	n      *network
	addr   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.n.mu.Lock()
		delete(l.n.listeners, l.addr)
		l.n.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.addr, Net: "pipe"} }

// join starts a member of n with the default patience, and gives a function that ends it.
func join(n *network, id uint64, addr string) (m *member, stop func()) {
	m = newMember(id, func(c *Config) {
		*c = Config{ClusterID: c.ClusterID, MemberID: c.MemberID, Incarnation: 1, Logger: c.Logger, DialContext: n.dial}
	})
	return m, n.serve(addr, m.Handler(), func() { m.Close() })
}

// serve serves h at addr until the function that it gives is called.
func (n *network) serve(addr string, h http.Handler, end func()) (stop func()) {
	srv := &http.Server{Handler: h}
	l := n.listen(addr)
	served := make(chan struct{})
	go func() {
		_ = srv.Serve(l) // always an error: it was closed
		close(served)
	}()
	return func() {
		l.Close()
		end()
		srv.Close()
		<-served
	}
}

// silent serves streams as member id would, and lets the test have their connections.
func (n *network) silent(id uint64, addr string) (conns chan *timedConn, stop func()) {
	identity := newMember(id)
	conns = make(chan *timedConn, 10)
	stop = n.serve(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := takeOver(w, r, time.Hour); err == nil && identity.accept(c, 1) == nil {
			conns <- c
		}
	}), func() { identity.Close() })
	return conns, stop
}

func TestAnIdleStreamStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		b, stopB := join(n, 2, "b")
		a.SetPeer(2, "b")
		b.SetPeer(1, "a")
		time.Sleep(time.Hour)
		if n.dials("a") != 1 || n.dials("b") != 1 || !a.peer(2).Connected || !b.peer(1).Connected {
			t.Errorf("dialled %v: %s", n.dialled, a.log)
		}
		a.Send([]*raftpb.Message{heartbeat(1, 2, 3)})
		synctest.Wait()
		if got := b.messages(); len(got) != 1 {
			t.Errorf("received %v", got)
		}
		stopA()
		stopB()
	})
}

// A line that carries one direction only must not look healthy from either end.
func TestASilentPeerIsGivenUpAfterTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		conns, stopB := n.silent(2, "b")
		a.SetPeer(2, "b")
		conn := <-conns
		go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }() // takes all, and is silent
		synctest.Wait()
		time.Sleep(a.cfg.IdleTimeout - time.Millisecond)
		synctest.Wait()
		if !a.peer(2).Connected || a.counted(a.unreachable, 2) != 0 {
			t.Errorf("given up early: %s", a.log)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if a.counted(a.unreachable, 2) != 1 || a.counted(a.down, 2) != 0 {
			t.Errorf("reported as unreachable %d times, as down %d times", a.counted(a.unreachable, 2), a.counted(a.down, 2))
		}
		(<-conns).Close() // it was dialled again
		stopA()
		stopB()
	})
}

func TestAPeerThatDoesNotReadIsGivenUpAfterTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		conns, stopB := n.silent(2, "b")
		a.SetPeer(2, "b")
		conn := <-conns
		a.Send([]*raftpb.Message{heartbeat(1, 2, 3)}) // a pipe has no buffer: its first byte waits
		for range 4 {                                 // signs of life do not help
			_, _ = conn.Write(emptyFrame)
			time.Sleep(a.cfg.IdleTimeout / 4)
		}
		synctest.Wait()
		if s := a.peer(2); s.Dropped != 1 || a.counted(a.unreachable, 2) != 1 {
			t.Errorf("status is %+v, reported %d times", s, a.counted(a.unreachable, 2))
		}
		conn.Close()
		(<-conns).Close()
		stopA()
		stopB()
	})
}

func TestAStreamThatCarriesNothingIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		b, stopB := join(n, 2, "b")
		l, err := b.upgrade(t.Context(), 1, "a", streamPath, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if _, err := io.Copy(io.Discard, l.r); err != nil {
			t.Errorf("it ended in %v", err)
		}
		if took := time.Since(started); took != a.cfg.IdleTimeout {
			t.Errorf("it ended after %v", took)
		}
		l.conn.Close()
		stopA()
		stopB()
	})
}

func TestAPeerThatIsAwayIsDialledEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stop := join(n, 1, "a")
		a.SetPeer(2, "b")
		time.Sleep(time.Minute)
		if got := n.dials("b"); got < 35 || got > 130 { // jitter: 0.5 to 1.5 s
			t.Errorf("dialled %d times in a minute", got)
		}
		if got := a.counted(a.unreachable, 2); got != 0 {
			t.Errorf("nothing was lost, and reported %d times", got)
		}
		stop()
	})
}

func TestAPeerWhoseProcessDiesIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		_, stopB := join(n, 2, "b")
		a.SetPeer(2, "b")
		time.Sleep(time.Minute)
		stopB()
		died := time.Now()
		synctest.Wait() // no time passes
		if got := a.counted(a.down, 2); got != 1 || time.Since(died) != 0 {
			t.Errorf("reported %d times after %v", got, time.Since(died))
		}
		time.Sleep(time.Minute)
		if got := a.counted(a.down, 2); got != 1 {
			t.Errorf("one death is reported %d times", got)
		}
		stopA()
	})
}

func TestCloseDoesNotWaitLongForAPeerThatReadsSlowly(t *testing.T) {
	for name, pause := range map[string]time.Duration{"at once": 0, "slowly": 100 * time.Millisecond, "never": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				a, stopA := join(n, 1, "a")
				conns, stopB := n.silent(2, "b")
				a.SetPeer(2, "b")
				conn := <-conns
				read := make(chan struct{})
				go func() { // lives, and does not close its side
					defer close(read)
					for {
						time.Sleep(pause)
						if _, err := conn.Read(make([]byte, pieceBytes)); err != nil {
							conn.Close()
							return
						}
						_, _ = conn.Write(emptyFrame)
					}
				}()
				for i := range uint64(100) {
					a.Send([]*raftpb.Message{appendOf(1, 2, i, 100<<10)})
				}
				started := time.Now()
				stopA()
				if took := time.Since(started); took > a.cfg.FlushTimeout {
					t.Errorf("Close took %v", took)
				}
				<-read
				stopB()
			})
		})
	}
}

func TestASnapshotThatTakesLongToStoreIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		b, stopB := join(n, 2, "b")
		b.store = func(_ *raftpb.Message, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			time.Sleep(time.Hour)
			return err
		}
		a.SetPeer(2, "b")
		a.SendSnapshot(snapshotMessage(1, 2, 1), writeState("state"))
		time.Sleep(time.Hour + time.Second)
		if got := a.reports(); len(got) != 1 || !got[0].ok {
			t.Errorf("reports are %v: %s", got, a.log)
		}
		stopA()
		stopB()
	})
}

func TestASnapshotThatMakesNoProgressIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, stopA := join(n, 1, "a")
		b, stopB := join(n, 2, "b")
		stored := make(chan error, 1)
		b.store = func(_ *raftpb.Message, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			stored <- err
			return err
		}
		a.SetPeer(2, "b")
		enough := make(chan struct{})
		a.SendSnapshot(snapshotMessage(1, 2, 1), func(w io.Writer) error {
			_, _ = w.Write(make([]byte, 1<<20))
			<-enough
			return errors.New("too late")
		})
		started := time.Now()
		if err := <-stored; err == nil || time.Since(started) != b.cfg.SnapshotTimeout {
			t.Errorf("the receiver gave up after %v: %v", time.Since(started), err)
		}
		close(enough)
		synctest.Wait()
		if got := a.reports(); len(got) != 1 || got[0].ok {
			t.Errorf("reports are %v", got)
		}
		stopA()
		stopB()
	})
}
