package transport

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

const (
	maxContext   = 4 << 10 // bytes of a read's context or a vote's; raft's own are 16
	maxMembers   = 1 << 10 // in a configuration; reading one costs the square
	termlessRule = "raft gives a term to all messages but forwarded proposals and reads"
)

// peerID reports whether id can be a member's: raft keeps 0 and the largest ones for itself.
func peerID(id uint64) bool { return id != raft.None && !raft.IsLocalMsgTarget(id) }

// validate says why a message that came on from's stream must not reach the raft of member to. It checks what needs no log;
// raft panics on much of it. Every message on a stream is from the member that opened it: raft would forward another's
// proposal or read once more if the leader changed meanwhile, but then its proposer asks again by itself.
// MsgTransferLeader is the exception: it names as From the member that shall lead.
func validate(m *raftpb.Message, from, to uint64) error {
	r, ok := rules[m.GetType()]
	if !ok || m.Type == nil {
		return fmt.Errorf("%s does not come from peers", m.GetType())
	}
	if r.snapshot {
		return fmt.Errorf("%s comes in a request of its own", m.GetType())
	}
	return r.check(m, from, to)
}

// validateSnapshot does for a snapshot request's message what validate does for a stream's.
func validateSnapshot(m *raftpb.Message, from, to uint64) error {
	if m.GetType() != raftpb.MsgSnap {
		return fmt.Errorf("%s is no snapshot", m.GetType())
	}
	if err := rules[raftpb.MsgSnap].check(m, from, to); err != nil {
		return err
	}
	meta := m.GetSnapshot().GetMetadata()
	if meta.GetIndex() == 0 || meta.GetTerm() == 0 || meta.GetTerm() > m.GetTerm() {
		return fmt.Errorf("snapshot of index %d and term %d, sent in term %d", meta.GetIndex(), meta.GetTerm(), m.GetTerm())
	}
	return validateConfState(meta.GetConfState())
}

// rule is what a message of one type may carry.
type rule struct {
	termless  bool // it has no term
	otherFrom bool // From is not who sent it
	entries   func(*raftpb.Message) error
	snapshot  bool
}

var rules = map[raftpb.MessageType]rule{
	raftpb.MsgProp:           {termless: true, entries: validateProposal},
	raftpb.MsgApp:            {entries: validateAppend},
	raftpb.MsgAppResp:        {},
	raftpb.MsgVote:           {},
	raftpb.MsgVoteResp:       {},
	raftpb.MsgPreVote:        {},
	raftpb.MsgPreVoteResp:    {},
	raftpb.MsgHeartbeat:      {},
	raftpb.MsgHeartbeatResp:  {},
	raftpb.MsgTransferLeader: {otherFrom: true},
	raftpb.MsgTimeoutNow:     {},
	raftpb.MsgReadIndex:      {termless: true, entries: validateRead},
	raftpb.MsgReadIndexResp:  {entries: validateRead},
	raftpb.MsgSnap:           {snapshot: true},
}

func (r rule) check(m *raftpb.Message, from, to uint64) error {
	switch {
	case m.GetTo() != to:
		return fmt.Errorf("%s is for member %016x", m.GetType(), m.GetTo())
	case r.otherFrom && !peerID(m.GetFrom()), !r.otherFrom && m.GetFrom() != from:
		return fmt.Errorf("%s is from member %016x", m.GetType(), m.GetFrom())
	case r.termless != (m.GetTerm() == 0):
		return fmt.Errorf("%s of term %d: %s", m.GetType(), m.GetTerm(), termlessRule)
	case m.GetLogTerm() > m.GetTerm():
		return fmt.Errorf("%s of term %d speaks of an entry of term %d", m.GetType(), m.GetTerm(), m.GetLogTerm())
	case len(m.GetContext()) > maxContext:
		return fmt.Errorf("%s has a context of %d bytes", m.GetType(), len(m.GetContext()))
	case len(m.GetResponses()) > 0 || m.GetVote() != 0:
		return fmt.Errorf("%s has what only messages to a member's own storage have", m.GetType())
	case !r.snapshot && (len(m.GetSnapshot().GetData()) > 0 || m.GetSnapshot().GetMetadata().GetIndex() != 0):
		return fmt.Errorf("%s has a snapshot", m.GetType())
	}
	for _, e := range m.GetEntries() {
		if e == nil {
			return fmt.Errorf("%s has an entry that is nil", m.GetType())
		}
		if err := validateEntry(e); err != nil {
			return fmt.Errorf("%s: %w", m.GetType(), err)
		}
	}
	if r.entries == nil {
		if n := len(m.GetEntries()); n > 0 {
			return fmt.Errorf("%s has %d entries", m.GetType(), n)
		}
		return nil
	}
	return r.entries(m)
}

// validateEntry checks that a conf change can be read: raft panics on a proposed one that cannot.
func validateEntry(e *raftpb.Entry) error {
	var change proto.Message
	switch e.GetType() {
	case raftpb.EntryNormal:
		return nil
	case raftpb.EntryConfChange:
		change = &raftpb.ConfChange{}
	case raftpb.EntryConfChangeV2:
		change = &raftpb.ConfChangeV2{}
	default:
		return fmt.Errorf("entry %d has type %d", e.GetIndex(), e.GetType())
	}
	if err := proto.Unmarshal(e.GetData(), change); err != nil {
		return fmt.Errorf("entry %d: read conf change: %w", e.GetIndex(), err)
	}
	return nil
}

func validateProposal(m *raftpb.Message) error {
	if len(m.GetEntries()) == 0 {
		return errors.New("MsgProp has no entries")
	}
	return nil
}

func validateRead(m *raftpb.Message) error {
	if n := len(m.GetEntries()); n != 1 {
		return fmt.Errorf("%s has %d contexts, not one", m.GetType(), n)
	}
	if size := len(m.GetEntries()[0].GetData()); size > maxContext {
		return fmt.Errorf("%s has a context of %d bytes", m.GetType(), size)
	}
	return nil
}

// validateAppend checks that the entries follow one another and the one that m names, in index and term.
func validateAppend(m *raftpb.Message) error {
	index, term := m.GetIndex(), m.GetLogTerm()
	for _, e := range m.GetEntries() {
		index++
		if e.GetIndex() != index || index == 0 {
			return fmt.Errorf("MsgApp has entry %d where %d belongs", e.GetIndex(), index)
		}
		if e.GetTerm() < max(term, 1) || e.GetTerm() > m.GetTerm() {
			return fmt.Errorf("MsgApp of term %d has entry %d of term %d after one of term %d", m.GetTerm(), index, e.GetTerm(), term)
		}
		term = e.GetTerm()
	}
	return nil
}

// validateConfState has raft itself say whether cs is a configuration: it panics if it finds out later.
func validateConfState(cs *raftpb.ConfState) error {
	if len(cs.GetVoters()) == 0 {
		return errors.New("configuration without a voter")
	}
	if n := len(cs.GetVoters()) + len(cs.GetLearners()) + len(cs.GetVotersOutgoing()) + len(cs.GetLearnersNext()); n > maxMembers {
		return fmt.Errorf("configuration of %d members", n)
	}
	progress := tracker.MakeProgressTracker(1, 0)
	cfg, members, err := confchange.Restore(confchange.Changer{Tracker: progress}, cs)
	if err != nil {
		return fmt.Errorf("configuration %v: %w", cs, err)
	}
	progress.Config, progress.Progress = cfg, members
	if err := cs.Equivalent(progress.ConfState()); err != nil {
		return fmt.Errorf("configuration %v: %w", cs, err)
	}
	return nil
}
