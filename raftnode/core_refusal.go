package raftnode

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// A removed member that refuses its vote says how far it knows the log to be committed, in two fields that raft leaves empty in such an
// answer: Commit, and in LogTerm the term of the entry there. Without that the last of two voters could wait for ever
// (docs/decisions/0008): it has the entry that removes the other and does not know that it is committed, so it needs
// the other's vote; the other knows, so it will not lead, and has a longer log, so it will not vote.

// tell sends a message to a peer.
func (c *core) tell(m *raftpb.Message) {
	c.out.messages = append(c.out.messages, m)
	if !isRefusal(m) || c.table == nil || !c.table.removed[c.id] {
		return
	}
	if term, err := c.storage.Term(c.commit); err == nil && term != 0 {
		m.Commit, m.LogTerm = new(c.commit), new(term)
	}
}

func isRefusal(m *raftpb.Message) bool {
	return m.GetReject() && (m.GetType() == raftpb.MsgVoteResp || m.GetType() == raftpb.MsgPreVoteResp)
}

// believe takes from a refused vote what the refuser knows to be committed. Where this member's own disk has that
// entry, with that term, its log up to there is the same as the refuser's, hence committed. It must not have a leader,
// who would tell it better.
func (c *core) believe(m *raftpb.Message) {
	if !isRefusal(m) {
		return
	}
	c.drain()
	if m.GetCommit() <= c.commit || c.lead != raft.None {
		return
	}
	if term, err := c.storage.Term(m.GetCommit()); err != nil || term != m.GetLogTerm() {
		return
	}
	// Raft believes only a leader. The refuser is made one for as long as this takes.
	_ = c.rn.Step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), To: &c.id, From: m.From,
		Term: new(c.rn.BasicStatus().HardState.GetTerm()), Commit: m.Commit,
	})
	_ = c.rn.ForgetLeader()
}
