package raftnode

import (
	"fmt"
	"runtime"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"raft3d/raftnode/transport"
)

// maxInbox bounds the peers' messages that wait for the loop; past it they are dropped, which raft allows.
const maxInbox = 16384

// runLoop owns the core. It never waits for anything but its own inbox and the clock.
func (n *Node) runLoop() {
	defer n.joined.Done()
	defer close(n.loopEnded)
	// An idle node wakes once a heartbeat and counts the ticks in between at once: each wake-up costs. Only an
	// election that is about to be held needs them one by one.
	ticker, atOnce := time.NewTicker(n.cfg.Heartbeat), ticksPerHeartbeat
	defer ticker.Stop()
	lead, gone := uint64(0), 0
	for {
		ticks := 0
		select {
		case <-n.stop:
			return
		case <-ticker.C:
			ticks = atOnce
		case <-n.wake:
			// Whoever is ready to add something goes first. The scheduler runs what was woken last next, so that without
			// this each caller's proposal would be a step, and a message, by itself.
			runtime.Gosched()
		}
		in, calls := n.takeInput()
		in.ticks = ticks
		n.dispatch(n.core.step(in))
		for _, f := range calls {
			n.dispatch(n.core.call(f))
		}
		n.publish()
		if urgent := n.core.stand != 0; urgent != (atOnce == 1) {
			period := n.cfg.Heartbeat
			atOnce = ticksPerHeartbeat
			if urgent {
				period, atOnce = n.cfg.tick(), 1
			}
			ticker.Reset(period)
		}
		if n.core.lead != lead {
			if lead = n.core.lead; lead != raft.None {
				n.seen.elections.Add(1)
			}
			n.tellLeader(lead)
		}
		// A removed member stays until a voter refuses it: before that those that remain may not know, and need its vote
		// to find out. It goes by itself where none of them answers for long.
		if ticks > 0 && n.amRemoved() {
			if gone += ticks; gone > 20*n.core.electionTicks {
				n.fail(ErrRemoved)
			}
		}
	}
}

func (n *Node) takeInput() (input, []func(*core)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in, calls := n.in, n.calls
	n.in, n.calls = input{}, nil
	if n.readers != nil && n.core.readIdle() {
		n.nextRound++
		n.rounds[n.nextRound] = n.readers
		in.read, n.readers = n.nextRound, nil
	}
	return in, calls
}

// dispatch carries out what the core decided.
func (n *Node) dispatch(out outputs) {
	for _, m := range out.appends {
		n.toLog.put(logJob{append: m})
	}
	for _, m := range out.applies {
		n.toApply.put(applyJob{entries: m})
	}
	if len(out.messages) > 0 {
		n.send(out.messages)
	}
	for _, token := range out.reads {
		close(n.rounds[token].done)
		delete(n.rounds, token)
	}
	if len(out.lost) > 0 {
		n.finishLost(out.lost)
	}
	if n.core.readIdle() {
		n.mu.Lock()
		more := n.readers != nil
		n.mu.Unlock()
		if more {
			wake(n.wake)
		}
	}
}

func (n *Node) send(messages []*raftpb.Message) {
	plain := messages[:0]
	for _, m := range messages {
		if m.GetType() == raftpb.MsgSnap {
			n.sendSnapshot(m)
		} else {
			plain = append(plain, m)
		}
	}
	n.transport.Send(plain)
}

// finishLost answers membership changes whose fate the old leader took with it.
func (n *Node) finishLost(sequences []uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, sequence := range sequences {
		if w, ok := n.changeWaiters[sequence]; ok {
			delete(n.changeWaiters, sequence)
			err := errorf(Unavailable, "", "the leader changed while the membership change was under way")
			err.Outcome = Unknown
			w <- result{err: err}
		}
	}
}

// publish lets others see where the core stands.
func (n *Node) publish() {
	c := n.core
	n.seen.term.Store(c.term)
	n.seen.lead.Store(c.lead)
	n.seen.commit.Store(c.commit)
	n.seen.last.Store(c.last)
	n.seen.state.Store(uint64(c.state))
	n.seen.repeated.Store(c.repeated)
	n.seen.refused.Store(c.refused)
	if first, err := c.storage.FirstIndex(); err == nil {
		n.seen.first.Store(first)
	}
}

func (n *Node) tellLeader(lead uint64) {
	name := fmt.Sprintf("%016x", lead)
	if m, ok := n.table.Load().byID(lead); ok {
		name = m.name
	}
	switch lead {
	case raft.None:
		n.logger.Info("lost the leader", "term", n.core.term)
	case n.id:
		n.logger.Info("became leader", "term", n.core.term, "index", n.core.last)
	default:
		n.logger.Info("follows a leader", "leader", name, "term", n.core.term)
	}
}

// add lets f add to the next step's input.
func (n *Node) add(f func(*input)) {
	n.mu.Lock()
	f(&n.in)
	n.mu.Unlock()
	wake(n.wake)
}

// Receive takes messages from the transport.
func (n *Node) Receive(messages []*raftpb.Message) {
	n.add(func(in *input) {
		if len(in.messages)+len(messages) <= maxInbox {
			in.messages = append(in.messages, messages...)
		}
	})
}

// ReportUnreachable hears from the transport that something was lost.
func (n *Node) ReportUnreachable(id uint64) {
	n.add(func(in *input) { in.unreachable = append(in.unreachable, id) })
}

// ReportSnapshot hears from the transport how sending a snapshot ended.
func (n *Node) ReportSnapshot(id uint64, ok bool) {
	if ok {
		n.seen.sent.Add(1)
	}
	n.add(func(in *input) { in.snapshots = append(in.snapshots, snapshotReport{id, ok}) })
}

// PeerDown hears from the transport that a member's process is gone.
func (n *Node) PeerDown(id uint64) {
	n.add(func(in *input) { in.down = append(in.down, id) })
}

// Refused hears from the transport that a peer will not talk to this member.
func (n *Node) Refused(by uint64, r transport.Refusal) {
	switch r.Reason {
	case "removed":
		n.fail(ErrRemoved)
	case "stale_incarnation":
		n.fail(ErrStale)
	case "wrong_cluster":
		// A new cluster of one, in which nothing was ever proposed, at an address where another cluster expects a
		// member of its own: a founder that lost its directory and was started again with -bootstrap.
		if t := n.table.Load(); len(t.members) == 1 && len(t.windows) == 0 {
			n.fail(fmt.Errorf("%w: %s", ErrOtherCluster, r.Detail))
			return
		}
		n.logger.Warn("this member and a peer are of different clusters", "peer", fmt.Sprintf("%016x", by), "detail", r.Detail)
	default:
		n.logger.Warn("a peer refused this member", "peer", by, "reason", r.Reason, "detail", r.Detail)
	}
}

// Check tells the transport what the replicated state says of a member.
func (n *Node) Check(id uint64) transport.Standing {
	t := n.table.Load()
	if t.removed[id] {
		// Only a voter sends it away for good: who heard it from a learner, the last voter may not have heard it yet, and
		// need the removed member's vote or its word to find out (docs/decisions/0008).
		if self, ok := t.byID(n.id); ok && self.voter {
			return transport.Removed
		}
		return transport.Unknown
	}
	// A joiner without a state, and a node that still applies its own log, believe whoever knows the cluster's id.
	if _, ok := t.byID(id); ok || len(t.members) == 0 || n.seen.applied.Load() < n.known {
		return transport.Known
	}
	return transport.Unknown
}

// amRemoved reports whether this node's own state says that it was removed.
func (n *Node) amRemoved() bool { return n.table.Load().removed[n.id] }
