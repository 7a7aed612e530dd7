package transport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// peer is the outgoing side of one other member: a queue, and a goroutine that keeps a stream up and writes the queue to it.
type peer struct {
	t     *Transport
	id    uint64
	queue queue

	ctx    context.Context // ends with end
	cancel context.CancelFunc
	wake   chan struct{} // holds one token when something was queued
	kick   chan struct{} // holds one token when dialling may work now

	sending chan struct{} // holds the token of the snapshot on its way

	mu            sync.Mutex
	addr          string
	ended         bool
	conn          *timedConn // nil: not connected
	sent, dropped uint64     // messages
	told          bool       // a message was dropped and reported; until something is written again, more of them are no news

	refused string // owned by run: the refusal that was logged last; "": none since the last connection
	down    bool   // owned by run: the failure to connect was logged
}

func newPeer(t *Transport, id uint64, addr string) *peer {
	p := &peer{
		t: t, id: id, addr: addr,
		queue:   queue{maxMessages: t.cfg.QueueMessages, maxBytes: t.cfg.QueueBytes},
		wake:    make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		sending: make(chan struct{}, 1),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *peer) setAddr(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if addr == p.addr {
		return
	}
	p.addr = addr
	if p.conn != nil {
		p.conn.Close() // run dials the new one
	}
	signal(p.kick)
}

func (p *peer) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// send queues m or drops it.
func (p *peer) send(m *raftpb.Message) {
	if m.GetType() == raftpb.MsgSnap {
		panic("transport: a snapshot for " + formatID(p.id) + " was given to Send, not SendSnapshot")
	}
	queued, err := p.queue.push(m)
	if err != nil {
		p.t.log.Error("message not sent", "member", formatID(p.id), "err", err)
	}
	if queued {
		signal(p.wake)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped++
	if !p.told {
		p.told = true
		p.t.reports.unreachable(p.id)
	}
}

// end has run write what is queued, for a short time, and return. It does not block.
func (p *peer) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.cancel()
	if p.conn != nil {
		p.conn.endBy(time.Now().Add(p.t.cfg.FlushTimeout))
	}
}

func (p *peer) status(s *PeerStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Addr, s.Connected, s.Sent, s.Dropped, s.Queued = p.addr, p.conn != nil, p.sent, p.dropped, p.queue.len()
}

// run keeps the stream up until end.
func (p *peer) run() {
	defer p.t.wg.Done()
	defer p.lose(false)
	pause := p.t.cfg.RedialPause
	broke := false // a stream that stood is gone, and nobody knows yet whether its process is
	for p.ctx.Err() == nil {
		l, err := p.connect()
		if err == nil {
			started := time.Now()
			err = p.write(l)
			p.disconnected(err)
			if p.ctx.Err() != nil {
				return
			}
			broke = true
			p.lose(true)
			if time.Since(started) >= p.t.cfg.RedialPauseMax {
				pause = p.t.cfg.RedialPause
				continue // at once: if it is refused, the process is gone
			}
		} else {
			p.failed(err)
			if broke && errors.Is(err, syscall.ECONNREFUSED) {
				broke = false
				p.t.died(p.id)
			}
			p.lose(false)
		}
		p.sleep(pause/2 + rand.N(pause))
		pause = min(2*pause, p.t.cfg.RedialPauseMax)
	}
}

// died reports that the process of peer id, as it was met last, is gone.
func (t *Transport) died(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.remotes[id]; r != nil {
		r.died = r.incarnation
	}
	t.reports.down(id)
}

// lose drops what waits, since the next moment at which it could be sent is too far off. certain: something was lost
// already, in the connection.
func (p *peer) lose(certain bool) {
	n := 0
	if !certain {
		n = p.queue.purge()
		p.mu.Lock()
		p.dropped += uint64(n)
		p.mu.Unlock()
	}
	if certain || n > 0 {
		p.t.reports.unreachable(p.id)
	}
}

func (p *peer) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.kick:
	case <-p.ctx.Done():
	}
}

func (p *peer) connect() (*link, error) {
	p.mu.Lock()
	addr := p.addr
	p.mu.Unlock()
	l, err := p.t.upgrade(p.ctx, p.id, addr, streamPath, p.t.cfg.IdleTimeout)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.addr != addr {
		l.conn.Close()
		return nil, errors.New("the peer's address changed or it was removed")
	}
	p.conn = l.conn
	p.refused, p.down = "", false
	p.t.log.Info("connected to peer", "member", formatID(p.id), "addr", addr, "version", l.answer.Header.Get(headerVersion))
	return l, nil
}

func (p *peer) disconnected(err error) {
	p.mu.Lock()
	p.conn = nil
	p.mu.Unlock()
	if p.ctx.Err() == nil {
		p.down = true
		p.t.log.Warn("lost connection to peer", "member", formatID(p.id), "err", err)
	}
}

// failed takes note of an attempt to connect that came to nothing.
func (p *peer) failed(err error) {
	if p.ctx.Err() != nil {
		return
	}
	var why *Refusal
	if !errors.As(err, &why) {
		if !p.down {
			p.down = true
			p.t.log.Warn("peer cannot be reached", "member", formatID(p.id), "err", err)
		}
		return
	}
	p.t.tellRefusal(p.id, why)
	if why.Reason != p.refused {
		p.refused = why.Reason
		p.t.log.Warn("peer refused this member", "member", formatID(p.id), "reason", why.Reason, "detail", why.Detail)
	}
}

// tellRefusal tells the Receiver of a peer's refusal if it is about this member.
func (t *Transport) tellRefusal(by uint64, why *Refusal) {
	switch why.Reason {
	case reasonRemoved, reasonWrongCluster, reasonWrongMember, reasonStale, reasonUnknown:
		t.reports.refused(by, *why)
	}
}

// write writes what is queued until the connection breaks, or end was called and all is written.
func (p *peer) write(l *link) error {
	w := &watch{l: l, done: make(chan struct{})}
	go w.run()
	err := p.drain(l, w)
	if err == nil {
		l.conn.closeWrite()
		<-w.done // the peer has read all when it closes its side; end has set a limit
	}
	l.conn.Close()
	<-w.done
	if err == nil || errors.Is(err, net.ErrClosed) {
		return w.err
	}
	return err
}

// drain writes until the connection breaks, or end was called and the queue is empty: then it returns nil.
func (p *peer) drain(l *link, w *watch) error {
	tick := time.NewTicker(p.t.cfg.KeepAlive)
	defer tick.Stop()
	wrote := false // since the last tick
	for {
		ended := p.ctx.Err() != nil // before the queue is found empty: nothing is queued after end
		for {
			frames, messages := p.queue.take()
			if messages == 0 {
				break
			}
			_, err := l.conn.Write(frames)
			p.count(messages, err)
			if err != nil {
				return err
			}
			wrote = true
		}
		if ended {
			return nil
		}
		select {
		case <-p.wake:
		case <-tick.C:
			p.queue.shrink()
			if !wrote {
				if _, err := l.conn.Write(emptyFrame); err != nil {
					return err
				}
			}
			wrote = false
		case <-w.done:
			return net.ErrClosed
		case <-p.ctx.Done():
		}
	}
}

func (p *peer) count(messages int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.dropped += uint64(messages)
		return
	}
	p.sent += uint64(messages)
	p.told = false
}

// watch reads the peer's signs of life until they fail to come, and then closes the connection.
type watch struct {
	l    *link
	err  error         // set before done is closed
	done chan struct{} // closed by run, last
}

func (w *watch) run() {
	defer close(w.done)
	_, w.err = io.Copy(io.Discard, w.l.r)
	if w.err == nil {
		w.err = io.EOF
	}
	w.l.conn.Close() // a write that waits must not wait longer
}
