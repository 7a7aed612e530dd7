package raftnode

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"
)

// reads is the one round of ReadIndex that may be under way, and those that were answered but whose index is not
// applied yet. All readers who wait when a round begins share it; those who come later share the next: its answer
// covers only what was acknowledged before it was asked.
type reads struct {
	token     uint64 // of the round under way; 0: none
	context   uint64 // the number of its latest attempt: each attempt has one of its own, or a late answer might be stale
	sent      int    // the tick of that attempt; negative: it has not gone out
	confirmed []confirmedRead
}

type confirmedRead struct {
	token, index uint64
}

// readIdle reports whether a new round may begin.
func (c *core) readIdle() bool { return c.reads.token == 0 }

func (c *core) startRead(token uint64) {
	c.reads.token = token
	c.resendRead()
}

// resendRead asks the leader for the index that the round must wait for, under a fresh context.
func (c *core) resendRead() {
	if c.reads.token == 0 {
		return
	}
	c.reads.sent = -1
	if c.lead == raft.None || c.state == raft.StateLeader && !c.committedInTerm() {
		return
	}
	c.reads.context++
	c.reads.sent = c.now
	c.rn.ReadIndex(c.readContext())
}

// readContext tells this attempt from every other one of any member, also of this member before a restart.
func (c *core) readContext() []byte {
	b := binary.BigEndian.AppendUint64(nil, c.id)
	b = binary.BigEndian.AppendUint64(b, c.incarnation)
	return binary.BigEndian.AppendUint64(b, c.reads.context)
}

// committedInTerm is false only for a leader that is known not to have committed an entry of its own term yet. Its
// commit index may then be older than what was acknowledged. raft waits for that itself in a cluster of several,
// but a leader that is alone answers at once (raft v3.7.0, stepLeader, MsgReadIndex).
func (c *core) committedInTerm() bool {
	term, err := c.storage.Term(c.commit)
	return err != nil || term == c.term
}

// answersTooEarly reports whether raft would answer another member's read from such a commit index. It does where
// this leader is the only voter, and learners ask.
func (c *core) answersTooEarly() bool {
	c.drain()
	return c.state == raft.StateLeader && len(c.storage.conf.GetVoters()) == 1 && !c.committedInTerm()
}

// retryRead asks again where an answer is overdue: raft loses read requests without a word.
func (c *core) retryRead() {
	if c.reads.token != 0 && (c.reads.sent < 0 || c.now-c.reads.sent >= c.electionTicks/2) {
		c.resendRead()
	}
}

// confirmRead takes the answer to the latest attempt; others are ignored.
func (c *core) confirmRead(r raft.ReadState) {
	if c.reads.token == 0 || string(r.RequestCtx) != string(c.readContext()) {
		return
	}
	c.reads.confirmed = append(c.reads.confirmed, confirmedRead{c.reads.token, r.Index})
	c.reads.token = 0
	c.releaseReads()
}

// releaseReads lets those readers go on whose index is in the state machine.
func (c *core) releaseReads() {
	n := 0
	for n < len(c.reads.confirmed) && c.reads.confirmed[n].index <= c.storage.applied {
		c.out.reads = append(c.out.reads, c.reads.confirmed[n].token)
		n++
	}
	c.reads.confirmed = c.reads.confirmed[n:]
}
