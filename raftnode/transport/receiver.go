package transport

import (
	"io"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// Receiver is what the transport tells its owner. Its methods are called from the transport's goroutines and must not block for
// long, ReceiveSnapshot excepted: while Receive blocks, its stream shows no sign of life and is given up in the end.
type Receiver interface {
	// Receive gets valid messages, in the order of one stream; their ownership passes.
	Receive(msgs []*raftpb.Message)
	// ReceiveSnapshot blocks until state was read to its end and stored, and m was stepped. state ends in an error
	// instead of io.EOF when its length or SHA-256 is wrong or the connection broke. An error is told to the sender. It may
	// be called for several senders at once.
	ReceiveSnapshot(m *raftpb.Message, state io.Reader) error

	// ReportUnreachable says that something sent to id was lost; once a burst, not a message.
	ReportUnreachable(id uint64)
	// ReportSnapshot is called exactly once for each SendSnapshot.
	ReportSnapshot(id uint64, ok bool)
	// PeerDown says that id's process is gone: the stream to it broke and dialling it was refused, or another start of it was
	// met. Once for each such event.
	PeerDown(id uint64)
	// Refused says that the peer does not talk to this member, at each attempt to connect. Where the reason is "wrong_member" or
	// "wrong_cluster", some other process may have answered at the peer's address.
	Refused(by uint64, r Refusal)
}

// Refusal is why a member does not talk to another.
type Refusal struct {
	// Reason is "removed", "wrong_cluster", "wrong_member", "stale_incarnation" or "unknown_member" for what is said of this
	// member. "unknown_member" passes when the peer has caught up; the others do not by themselves.
	Reason string `json:"reason"`
	Detail string `json:"detail"` // for people
}

func (r *Refusal) Error() string { return "refused: " + r.Reason + ": " + r.Detail }

const (
	reasonRemoved      = "removed"
	reasonWrongCluster = "wrong_cluster"
	reasonWrongMember  = "wrong_member"
	reasonStale        = "stale_incarnation"
	reasonUnknown      = "unknown_member"

	// Said of the one who refuses, or of this request alone: they are no news for a Receiver.
	reasonStaleSelf   = "stale_receiver"
	reasonBusy        = "busy"
	reasonClosing     = "closing"
	reasonBadRequest  = "bad_request"
	reasonBadProtocol = "protocol"
)

// Standing is what the replicated state says of a member id.
type Standing int

const (
	Unknown Standing = iota // not a member, or not yet as far as this node knows
	Known                   // a member; or this node knows no members yet and takes any of its cluster
	Removed                 // was a member; its id is never used again
)

// Members is asked at each connection that comes in, by any goroutine.
type Members interface {
	Check(id uint64) Standing
}

// reporter calls the Receiver's reports from a goroutine of its own, so that they can be made under any lock and by
// the Receiver's own goroutine. What is not yet told is kept by peer: it needs no bound of its own.
type reporter struct {
	receiver Receiver
	wake     chan struct{} // holds one token when there is something to tell
	done     chan struct{} // closed by run, last

	mu      sync.Mutex
	pending map[uint64]*report
	closing bool
}

type report struct {
	unreachable, down bool
	delivered, failed int // snapshots
	refusal           *Refusal
}

func newReporter(r Receiver) *reporter {
	return &reporter{
		receiver: r,
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		pending:  make(map[uint64]*report),
	}
}

func (r *reporter) unreachable(id uint64) { r.add(id, func(p *report) { p.unreachable = true }) }
func (r *reporter) down(id uint64)        { r.add(id, func(p *report) { p.down = true }) }
func (r *reporter) refused(by uint64, why Refusal) {
	r.add(by, func(p *report) { p.refusal = &why })
}

func (r *reporter) snapshot(id uint64, ok bool) {
	r.add(id, func(p *report) {
		if ok {
			p.delivered++
		} else {
			p.failed++
		}
	})
}

func (r *reporter) add(id uint64, set func(*report)) {
	r.mu.Lock()
	p := r.pending[id]
	if p == nil {
		p = &report{}
		r.pending[id] = p
	}
	set(p)
	r.mu.Unlock()
	r.signal()
}

func (r *reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run ends when close was called and all is told.
func (r *reporter) run() {
	defer close(r.done)
	for {
		<-r.wake
		r.mu.Lock()
		pending, closing := r.pending, r.closing
		r.pending = make(map[uint64]*report)
		r.mu.Unlock()
		for id, p := range pending {
			r.tell(id, p)
		}
		if closing {
			return
		}
	}
}

func (r *reporter) tell(id uint64, p *report) {
	if p.unreachable {
		r.receiver.ReportUnreachable(id)
	}
	for range p.delivered {
		r.receiver.ReportSnapshot(id, true)
	}
	for range p.failed {
		r.receiver.ReportSnapshot(id, false)
	}
	if p.down {
		r.receiver.PeerDown(id)
	}
	if p.refusal != nil {
		r.receiver.Refused(id, *p.refusal)
	}
}

// close tells what is left and returns.
func (r *reporter) close() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.signal()
	<-r.done
}
