package raftnode

import (
	"errors"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// proposals are this member's requests that have no result yet. They are carried over to the next leader by
// proposing them again: the request id makes that safe, since only the first copy that commits is applied.
type proposals struct {
	pending map[uint64]*proposal // by sequence
	low     uint64               // the oldest sequence in pending, or next
	next    uint64               // the sequence after the newest that was ever added
	queue   []uint64             // sequences to be handed to the leader, rising

	forwarded []*raftpb.Entry // what other members have proposed to this leader since it last proposed
	changes   []uint64        // membership changes that were proposed under this leader, numbered apart
}

// proposal is one request on its way into the log.
type proposal struct {
	sequence uint64
	cmd      []byte

	data     []byte // with its header, as it goes into the log; nil: it never went out
	queued   bool   // it is in the queue
	proposed int    // the tick in which it was last handed to a leader
	patience int    // ticks until it is taken for lost on the way
}

const (
	maxBatchEntries = 1024      // in one MsgProp
	maxBatchBytes   = 512 << 10 // in one MsgProp; a single larger command goes alone
)

func (c *core) addProposal(p *proposal) {
	c.proposals.pending[p.sequence] = p
	c.proposals.next = p.sequence + 1
	c.enqueue(p)
}

func (c *core) enqueue(p *proposal) {
	if !p.queued {
		p.queued = true
		c.proposals.queue = append(c.proposals.queue, p.sequence)
	}
}

// forget drops a request that has its result, or whose caller has gone. It reports whether it never went out: then
// it never will, and can't have any effect.
func (c *core) forget(sequence uint64) (neverSent bool) {
	ps := &c.proposals
	p, ok := ps.pending[sequence]
	if ok {
		neverSent = p.data == nil
		delete(ps.pending, sequence)
	}
	for ps.low < ps.next && ps.pending[ps.low] == nil {
		ps.low++
	}
	return neverSent
}

// propose hands to the leader what waits, many entries a message: each message that raft is handed costs it one to every
// follower and an answer from each. So a leader proposes what others forwarded together with its own.
//
// What raft drops of the queue stays queued; of what was forwarded, its proposer proposes it again. A joiner without a
// state waits for it first: what commits before the state is sent would come with it, and its result would be lost.
func (c *core) propose() {
	ps := &c.proposals
	for len(ps.forwarded)+len(ps.queue) > 0 && c.lead != raft.None && c.appending < maxAppending && c.storage.applied > 0 {
		entries, size := ps.takeForwarded()
		n := 0
		for _, sequence := range ps.queue {
			p := ps.pending[sequence]
			if p == nil { // its caller has gone
				n++
				continue
			}
			if len(entries) > 0 && (len(entries) == maxBatchEntries || size+len(p.cmd) > maxBatchBytes) {
				break
			}
			if p.data != nil && p.proposed != 0 {
				c.repeated++
			}
			if p.data == nil {
				id := requestID{c.id, c.incarnation, p.sequence}
				p.data, p.patience = encodeEntry(header{id, ps.low}, p.cmd), c.electionTicks
				p.cmd = p.data[len(p.data)-len(p.cmd):] // the original may go
			}
			entries = append(entries, &raftpb.Entry{Data: p.data})
			size += len(p.data)
			n++
		}
		if len(entries) > 0 {
			if err := c.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &c.id, Entries: entries}); err != nil {
				return // no leader, a transfer under way, or too much uncommitted: the next tick tries again
			}
		}
		for _, sequence := range ps.queue[:n] {
			if p := ps.pending[sequence]; p != nil {
				p.queued, p.proposed = false, c.now
			}
		}
		ps.queue = ps.queue[n:]
	}
}

// takeForwarded takes what other members proposed, at most a message of it.
func (ps *proposals) takeForwarded() (entries []*raftpb.Entry, size int) {
	n := 0
	for n < len(ps.forwarded) && (n == 0 || n < maxBatchEntries && size+len(ps.forwarded[n].GetData()) <= maxBatchBytes) {
		size += len(ps.forwarded[n].GetData())
		n++
	}
	entries = ps.forwarded[:n:n]
	ps.forwarded = ps.forwarded[n:]
	return entries, size
}

// requeueAll proposes everything again, in order.
func (c *core) requeueAll() {
	ps := &c.proposals
	ps.queue = ps.queue[:0]
	for sequence := ps.low; sequence < ps.next; sequence++ {
		if p := ps.pending[sequence]; p != nil {
			p.queued = true
			ps.queue = append(ps.queue, sequence)
		}
	}
}

// retryProposals takes for lost what was forwarded to the leader long ago: a broken stream loses messages.
func (c *core) retryProposals() {
	ps := &c.proposals
	if c.state != raft.StateLeader && c.lead != raft.None && c.now%ticksPerHeartbeat == 0 {
		for sequence := ps.low; sequence < ps.next; sequence++ {
			p := ps.pending[sequence]
			if p == nil || p.queued || c.now-p.proposed < p.patience {
				continue
			}
			p.patience *= 2 // a slow leader is not helped by more copies
			c.enqueue(p)
		}
	}
	c.propose()
}

var (
	errNotLeader     = errors.New("this member does not lead")
	errChangePending = errors.New("another membership change is under way")
	errNewLeader     = errors.New("this member has led for a moment only and has not heard everybody yet")
)

// proposeChange proposes a membership change; only the leader can. raft drops one without a word while another is
// not applied: it leaves an empty entry in its place, which is how it shows here.
func (c *core) proposeChange(change *MemberChange) error {
	if c.state != raft.StateLeader {
		return errNotLeader
	}
	change.Proposer, change.Incarnation = c.id, c.incarnation
	cc, err := confChange(change, false)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		return err
	}
	entries := []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}}
	if err := c.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &c.id, Entries: entries}); err != nil {
		return errChangePending // a transfer is under way, or too much is uncommitted
	}
	if entries[0].GetType() != raftpb.EntryConfChangeV2 {
		return errChangePending
	}
	if change.Sequence != 0 {
		c.proposals.changes = append(c.proposals.changes, change.Sequence)
	}
	return nil
}
