package raftnode

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// promoteLag is how many entries a learner may be behind when it becomes a voter: a few batches under load.
const promoteLag = 1000

// promoteLearner makes a voter of a learner that has caught up, one at a time. Only the leader does it.
func (c *core) promoteLearner() {
	if c.state != raft.StateLeader || c.table == nil {
		return
	}
	for _, m := range c.table.members {
		if !m.voter && !m.staysLearner && c.caughtUp(m.id) == nil {
			_ = c.proposeChange(&MemberChange{Op: MemberChange_PROMOTE, Member: m.record()}) // refused: the next heartbeat tries again
			return
		}
	}
}

// caughtUp says why a learner can't vote yet; nil: it can. Only the leader knows.
func (c *core) caughtUp(id uint64) *Error {
	var err *Error
	found := false
	c.rn.WithProgress(func(p uint64, _ raft.ProgressType, pr tracker.Progress) {
		if p != id {
			return
		}
		found = true
		switch {
		case !c.alive(id):
			err = errorf(Conflict, "id", "the leader has not heard from it lately: start the node, and see that its raft address can be reached")
		case pr.Match == 0 || pr.Match+promoteLag < c.commit || pr.State != tracker.StateReplicate:
			err = errorf(Conflict, "id", "it is still catching up: it has %d of %d entries", pr.Match, c.commit)
		}
	})
	if !found {
		return errorf(NotFound, "id", "raft does not know it yet")
	}
	return err
}

// survives says why removing the member would leave the cluster without a live quorum; nil: it would not.
func (c *core) survives(id uint64) *Error {
	voters, alive := 0, 0
	for _, m := range c.table.members {
		if !m.voter || m.id == id {
			continue
		}
		voters++
		if c.alive(m.id) {
			alive++
		}
	}
	if m, ok := c.table.byID(id); !ok || !m.voter {
		return nil
	}
	if alive < voters/2+1 {
		return errorf(Conflict, "id", "only %d of the %d voters that would be left are alive, too few to decide anything: bring one back first, or say force=true", alive, voters)
	}
	return nil
}

// successor is the voter that is best fit to lead after this one; 0: there is none.
func (c *core) successor() uint64 {
	var best, match uint64
	c.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id != c.id && typ == raft.ProgressTypePeer && c.alive(id) && (best == 0 || pr.Match > match) {
			best, match = id, pr.Match
		}
	})
	return best
}

func (c *core) transfer(to uint64) { c.rn.TransferLeader(to) }

func (m memberEntry) record() *MemberRecord {
	return &MemberRecord{MemberId: m.id, Name: m.name, Raft: m.raft, Http: m.http, Learner: m.staysLearner}
}
