// Package transport carries raft messages between the members of one cluster, over HTTP/1.1 on the raft port.
//
// There are three nouns: a Transport, which is one member's end of all its connections; a Receiver, its owner, which
// gets what arrives and is told what was lost; and Members, which says who may connect.
//
// # On the wire
//
// A member dials each of its peers and sends one request, POST /raft/stream with "Upgrade: raft3d-raft/1" and headers
// that say who it is and whom it means. The peer checks them (see Members), and answers 101, or says why not. From then on
// the connection is no longer HTTP: the sender writes frames (length, CRC-32C, one protobuf message), the receiver
// writes a sign of life each second. So there is one connection a peer and direction, and it is known to be accepted
// before the first message goes out. A snapshot takes another connection of the same kind, POST /raft/snapshot, and
// other requests (Call) one each.
//
// An upgraded connection, and not a chunked body, because net/http's client gives no deadline for a single write of
// a body, no word from the peer before the body ends, and no look at the connection's end while nothing is
// written; its chunks frame a second time what has frames already. What is left of HTTP is what it is good at: paths, identity in
// headers, refusals that curl can read, and a port that can be shared with other handlers.
//
// # Promises
//
//   - Send never blocks and does no I/O. What a peer does not take is dropped, oldest kept; the owner hears of it
//     once a burst. Raft repeats what was lost.
//   - Messages of one kind (appends and proposals; all others) arrive in the order in which they were sent, or not at
//     all. The others overtake appends, so that heartbeats and votes pass when appends are piled up.
//   - What reaches Receiver.Receive is a message that validate accepts: from the member at the other end, to this
//     one, of a type that may come from outside. Whether it fits the log, only the owner can tell.
//   - Each SendSnapshot is answered by exactly one ReportSnapshot.
//
// A Transport owns its goroutines: one for reports; one for each peer, and while it is connected another that watches for the
// end; two for each snapshot that is sent and one for each that is received; and those that net/http started for
// connections that it handed over. Close ends all of them and returns when they have ended. Receiver's methods are called
// from them, never from within Send, SendSnapshot, SetPeer or RemovePeer: these may be called by the goroutine that
// the methods hand their news to.
package transport

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Config says who this member is and how patient it is. Identity is needed; the zero value of each other field works.
type Config struct {
	ClusterID, MemberID uint64
	// Incarnation of this member's directory: it rises with each start. A peer that has seen a higher one refuses this one.
	Incarnation   uint64
	Name, Version string // told to peers in headers: printable ASCII
	Address       string // host:port where this member is reached; told to peers, which then dial it there; empty: not told

	Logger *slog.Logger // nil: nothing is logged

	QueueMessages int // appends and proposals that wait for one peer, and as many others; past it: dropped; 0: 4,096
	QueueBytes    int // the same in bytes; one message may exceed it; 0: 32 MiB
	Snapshots     int // sent at the same time, to different peers, and as many received; past it: refused; 0: 2

	DialTimeout     time.Duration // until a connection stands; 0: 1 s
	RedialPause     time.Duration // after the first connection that failed; doubles with each, with jitter; 0: 100 ms
	RedialPauseMax  time.Duration // where the doubling ends; 0: 1 s
	KeepAlive       time.Duration // without a message until a sign of life is written instead; 0: 1 s
	IdleTimeout     time.Duration // without a byte, or unable to write one, until a stream is given up; 0: 5 s
	SnapshotTimeout time.Duration // the same for snapshots; 0: 30 s
	FlushTimeout    time.Duration // to write what is queued when a peer is removed or the transport closes; 0: 500 ms

	// DialContext opens connections to peers; nil: plain TCP. This is where TLS goes.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.QueueMessages = cmp.Or(c.QueueMessages, 4096)
	c.QueueBytes = cmp.Or(c.QueueBytes, 32<<20)
	c.Snapshots = cmp.Or(c.Snapshots, 2)
	c.DialTimeout = cmp.Or(c.DialTimeout, time.Second)
	c.RedialPause = cmp.Or(c.RedialPause, 100*time.Millisecond)
	c.RedialPauseMax = cmp.Or(c.RedialPauseMax, time.Second)
	c.KeepAlive = cmp.Or(c.KeepAlive, time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 5*time.Second)
	c.SnapshotTimeout = cmp.Or(c.SnapshotTimeout, 30*time.Second)
	c.FlushTimeout = cmp.Or(c.FlushTimeout, 500*time.Millisecond)
	if c.DialContext == nil {
		c.DialContext = (&net.Dialer{}).DialContext
	}
	return c
}

// Transport is one member's end of all its connections. Its methods may be called by any goroutine.
type Transport struct {
	cfg      Config
	receiver Receiver
	members  Members
	log      *slog.Logger
	reports  *reporter

	sending   chan struct{} // one token for each snapshot on its way out
	receiving chan struct{} // one token for each snapshot on its way in
	calling   chan struct{} // one token for each call that is being answered

	ctx    context.Context // of calls; ends with Close
	cancel context.CancelFunc

	mu          sync.Mutex
	closed      bool
	remotes     map[uint64]*remote
	calls       map[string]CallFunc
	lastRefused turnedAway // the last refusal that was logged: peers come back each second

	wg        sync.WaitGroup // all goroutines but the reporter's; Add only under mu, while not closed
	closeOnce sync.Once
}

// remote is what is known of one other member, whoever connected first. Guarded by Transport.mu.
type remote struct {
	out           *peer                 // nil: no address is known
	in            [incomingKinds]*guest // nil: not connected
	incarnation   uint64                // the highest that was seen
	died          uint64                // the incarnation whose end a refused dial has told; 0: none
	name, version string                // as told in its last connection
	received      uint64                // messages
	invalid       uint64                // messages that were dropped and frames that broke their stream
	lastReceived  time.Time
}

// New makes a Transport that knows no peers. Mount its Handler on the raft port; Close it in the end.
func New(c Config, r Receiver, m Members) *Transport {
	c = c.withDefaults()
	t := &Transport{
		cfg: c, receiver: r, members: m, log: c.Logger,
		reports:   newReporter(r),
		sending:   make(chan struct{}, c.Snapshots),
		receiving: make(chan struct{}, c.Snapshots),
		calling:   make(chan struct{}, maxCalls),
		remotes:   make(map[uint64]*remote),
		calls:     make(map[string]CallFunc),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	go t.reports.run()
	return t
}

// remote finds or makes the record of id. The caller holds mu.
func (t *Transport) remote(id uint64) *remote {
	r := t.remotes[id]
	if r == nil {
		r = &remote{}
		t.remotes[id] = r
	}
	return r
}

// SetPeer adds a peer or changes its address (host:port), and begins to dial it. It does not block.
func (t *Transport) SetPeer(id uint64, addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || id == t.cfg.MemberID {
		return
	}
	r := t.remote(id)
	if r.out != nil {
		r.out.setAddr(addr)
		return
	}
	t.dial(r, id, addr)
}

// dial begins to connect to the member. The caller holds mu, and the Transport is not closed.
func (t *Transport) dial(r *remote, id uint64, addr string) {
	r.out = newPeer(t, id, addr)
	t.wg.Add(1)
	go r.out.run()
}

// RemovePeer forgets a peer. What is queued for it is still written, for at most FlushTimeout, since the last of it may
// be how it learns that it was removed; a snapshot on its way is broken off, and so is what comes in from it. It does not block.
func (t *Transport) RemovePeer(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.remotes[id]
	if r == nil {
		return
	}
	delete(t.remotes, id)
	r.end()
}

// end has everything of r end soon. The caller holds Transport.mu.
func (r *remote) end() {
	if r.out != nil {
		r.out.end()
	}
	for _, g := range r.in {
		if g != nil {
			g.conn.Close()
		}
	}
}

// Send queues msgs for their peers, in order, and never blocks. Messages are marshalled before it returns, since they share memory
// with raft's log: the caller may go on using them. What finds no room, no peer, or is larger than MaxMessage, is
// dropped and reported. MsgSnap does not come this way (see SendSnapshot).
func (t *Transport) Send(msgs []*raftpb.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	for _, m := range msgs {
		r := t.remotes[m.GetTo()]
		if r == nil || r.out == nil {
			t.reports.unreachable(m.GetTo())
			continue
		}
		r.out.send(m)
	}
}

// PeerStatus is what the transport knows of one peer at one moment.
type PeerStatus struct {
	ID            uint64
	Addr          string // host:port; empty: not known, it only connects to this member
	Connected     bool   // the outgoing stream stands
	Name, Version string // as the peer told; empty: it never did
	Incarnation   uint64 // the highest seen; 0: none

	LastReceived   time.Time // of a message; zero: never
	Sent, Received uint64    // messages
	Dropped        uint64    // messages for it that were lost on this side
	Invalid        uint64    // messages from it that were refused, and streams that ended in a broken frame
	Queued         int       // messages that wait
}

// Peers lists all peers, in no order. It never blocks.
func (t *Transport) Peers() []PeerStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]PeerStatus, 0, len(t.remotes))
	for id, r := range t.remotes {
		if r.out == nil && r.in[kindStream] == nil && r.in[kindSnapshot] == nil {
			continue // it called once, or was refused
		}
		s := PeerStatus{ID: id, Name: r.name, Version: r.version, Incarnation: r.incarnation,
			LastReceived: r.lastReceived, Received: r.received, Invalid: r.invalid}
		if r.out != nil {
			r.out.status(&s)
		}
		list = append(list, s)
	}
	return list
}

// Close writes what is queued, for at most FlushTimeout, breaks off everything else, and returns when all goroutines
// have ended. Nothing is reported after it; the Receiver must not block until then. It always returns nil.
func (t *Transport) Close() error {
	t.closeOnce.Do(func() {
		t.mu.Lock()
		t.closed = true
		for _, r := range t.remotes {
			r.end()
		}
		t.mu.Unlock()
		t.cancel()
		t.wg.Wait()
		t.reports.close()
	})
	return nil
}

// enter counts a goroutine that net/http or a caller brought, for Close to wait for; false: too late.
func (t *Transport) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Add(1)
	return true
}
