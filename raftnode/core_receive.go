package raftnode

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// receive hands a peer's message to raft, unless raft would panic on it: what comes from outside must never end
// the process, and raft trusts its peers (etcd#21518). The form was checked before; this is about what only the
// log can tell.
func (c *core) receive(m *raftpb.Message) {
	if why := c.refuse(m); why != "" {
		c.refused++
		c.log.Warn("dropped a peer's message", "from", m.GetFrom(), "type", m.GetType().String(), "reason", why)
		return
	}
	c.heard[m.GetFrom()] = c.now
	if m.GetType() == raftpb.MsgReadIndex && c.answersTooEarly() {
		return // the reader asks again
	}
	if m.GetType() == raftpb.MsgProp && c.state == raft.StateLeader && c.appending < maxAppending {
		c.proposals.forwarded = append(c.proposals.forwarded, m.GetEntries()...)
		return // it goes with the others, in propose
	}
	_ = c.rn.Step(m) // errors: a proposal without a leader, an answer from a stranger; both are only not wanted
	c.believe(m)
	c.makeWay(m)
}

// makeWay has a member that was about to stand, and has just voted for another, wait for that one's first heartbeat. By
// standing in the moment between it would end the new leader's term, and could not win: the leader's log is longer by then.
// All would wait for an election timeout.
func (c *core) makeWay(m *raftpb.Message) {
	if c.stand == 0 || m.GetType() != raftpb.MsgVote {
		return
	}
	if s := c.rn.BasicStatus(); s.GetTerm() == m.GetTerm() && s.GetVote() == m.GetFrom() {
		c.stand = max(c.stand, c.now+ticksPerHeartbeat)
	}
}

// refuse says why a message must not reach raft; empty: it may.
func (c *core) refuse(m *raftpb.Message) string {
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		if m.GetCommit() > c.last {
			c.drain() // entries of an earlier message may not be counted yet
		}
		if m.GetCommit() > c.last && m.GetTerm() >= c.term {
			return "it names a committed entry that this log does not have"
		}
	case raftpb.MsgApp:
		// A repeated message is refused too while an entry that it has is on its way to the disk, over an older one that
		// storage still shows: the leader sends it again.
		for _, e := range m.GetEntries() {
			if e.GetIndex() > c.commit {
				break
			}
			if term, err := c.storage.Term(e.GetIndex()); err == nil && term != e.GetTerm() && m.GetTerm() >= c.term {
				return "it contradicts a committed entry"
			}
		}
	case raftpb.MsgAppResp:
		if !m.GetReject() && m.GetIndex() > c.last && m.GetTerm() >= c.term {
			c.drain()
			if m.GetIndex() > c.last {
				return "it acknowledges an entry that this log does not have"
			}
		}
	case raftpb.MsgProp:
		if len(m.GetEntries()) == 0 {
			return "it proposes nothing"
		}
		for _, e := range m.GetEntries() {
			if e.GetType() != raftpb.EntryNormal {
				return "it proposes a membership change, which only the leader itself may do"
			}
			if _, _, err := decodeEntry(e.GetData()); err != nil {
				return "it proposes a command without a request id"
			}
		}
	case raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		if len(m.GetEntries()) != 1 {
			return "a read request carries exactly one context"
		}
	case raftpb.MsgSnap:
		if len(m.GetSnapshot().GetMetadata().GetConfState().GetVoters()) == 0 {
			return "its configuration has no voter"
		}
	case raftpb.MsgTransferLeader:
		return "who shall lead is for the leader's own callers to say"
	case raftpb.MsgTimeoutNow:
		c.drain() // the leader may be one of a moment ago
		if m.GetFrom() != c.lead || c.lead == raft.None {
			return "only the leader may ask this member to stand"
		}
	}
	return ""
}
