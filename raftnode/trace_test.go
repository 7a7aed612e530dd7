package raftnode

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// describe is a message in short: 1>2 App term 2: 5/2 a, 6/2 b behind 4/1, commit 4.
func describe(m *raftpb.Message) string {
	var b strings.Builder
	kind := strings.TrimPrefix(m.GetType().String(), "Msg")
	fmt.Fprintf(&b, "%d>%d %s", m.GetFrom(), m.GetTo(), kind)
	if m.GetTerm() != 0 {
		fmt.Fprintf(&b, " term %d", m.GetTerm())
	}
	switch m.GetType() {
	case raftpb.MsgApp:
		fmt.Fprintf(&b, ": %s behind %d/%d, commit %d", describeEntries(m.GetEntries()), m.GetIndex(), m.GetLogTerm(), m.GetCommit())
	case raftpb.MsgAppResp:
		if m.GetReject() {
			fmt.Fprintf(&b, ": no, not behind %d; it has %d/%d", m.GetIndex(), m.GetRejectHint(), m.GetLogTerm())
		} else {
			fmt.Fprintf(&b, ": has %d", m.GetIndex())
		}
	case raftpb.MsgHeartbeat:
		fmt.Fprintf(&b, ": commit %d%s", m.GetCommit(), describeContext(m))
	case raftpb.MsgHeartbeatResp:
		b.WriteString(describeContext(m))
	case raftpb.MsgVote, raftpb.MsgPreVote:
		fmt.Fprintf(&b, ": with a log to %d/%d", m.GetIndex(), m.GetLogTerm())
	case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		fmt.Fprintf(&b, ": %s", map[bool]string{true: "no", false: "yes"}[m.GetReject()])
	case raftpb.MsgProp:
		fmt.Fprintf(&b, ": %s", describeEntries(m.GetEntries()))
	case raftpb.MsgReadIndex:
		fmt.Fprintf(&b, ": %s", describeAttempt(m.GetEntries()[0].GetData()))
	case raftpb.MsgReadIndexResp:
		fmt.Fprintf(&b, ": %s waits for %d", describeAttempt(m.GetEntries()[0].GetData()), m.GetIndex())
	case raftpb.MsgSnap:
		s := m.GetSnapshot().GetMetadata()
		fmt.Fprintf(&b, ": the state of %d/%d, %s", s.GetIndex(), s.GetTerm(), describeConf(s.GetConfState()))
	}
	return b.String()
}

// describeContext is the number that raft gives to a round of heartbeats which asks for a reader.
func describeContext(m *raftpb.Message) string {
	if len(m.GetContext()) == 0 {
		return ""
	}
	return fmt.Sprintf(", read round %d", binary.LittleEndian.Uint64(m.GetContext()))
}

// describeAttempt is a read's context: who asks, in which of its incarnations, and for which time.
func describeAttempt(b []byte) string {
	if len(b) != 24 {
		return fmt.Sprintf("context %x", b)
	}
	return fmt.Sprintf("read %d.%d.%d", b[7], b[15], b[23])
}

func describeEntries(entries []*raftpb.Entry) string {
	if len(entries) == 0 {
		return "nothing"
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = describeEntry(e)
	}
	return strings.Join(list, ", ")
}

func describeEntry(e *raftpb.Entry) string {
	var b strings.Builder
	if e.GetIndex() != 0 {
		fmt.Fprintf(&b, "%d/%d ", e.GetIndex(), e.GetTerm())
	}
	switch {
	case e.GetType() != raftpb.EntryNormal:
		c := decodeChange(e)
		fmt.Fprintf(&b, "%s %s", strings.ToLower(c.Op.String()), c.GetMember().GetName())
	case len(e.GetData()) == 0:
		b.WriteString("empty")
	default:
		if _, cmd, err := decodeEntry(e.GetData()); err == nil {
			b.Write(cmd)
		} else {
			fmt.Fprintf(&b, "%x", e.GetData())
		}
	}
	return b.String()
}

func describeConf(conf *raftpb.ConfState) string {
	s := fmt.Sprintf("voters %v", conf.GetVoters())
	if len(conf.GetLearners()) > 0 {
		s += fmt.Sprintf(" learners %v", conf.GetLearners())
	}
	return s
}

func describeMembers(m *members) string {
	s := describeConf(m.conf)
	if len(m.meta.Removed) > 0 {
		s += fmt.Sprintf(" removed %v", m.meta.Removed)
	}
	return s
}

func describeMeta(meta []byte) string {
	m, err := decodeMembers(meta)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, %v", describeMembers(m), m.meta)
}

// describeAppend is what is to be written: entries, hard state, snapshot.
func describeAppend(a *raftpb.Message) string {
	var parts []string
	if s := a.GetSnapshot().GetMetadata(); s.GetIndex() != 0 {
		parts = append(parts, fmt.Sprintf("the state of %d/%d", s.GetIndex(), s.GetTerm()))
	}
	if len(a.GetEntries()) > 0 {
		parts = append(parts, describeEntries(a.GetEntries()))
	}
	if h := hardState(a); h != nil {
		parts = append(parts, fmt.Sprintf("term %d vote %d commit %d", h.GetTerm(), h.GetVote(), h.GetCommit()))
	}
	if len(parts) == 0 {
		return "nothing, but answers wait for what is before"
	}
	return strings.Join(parts, "; ")
}

// status is where each member stands, a line each.
func (c *cluster) status() string {
	var b strings.Builder
	for _, m := range c.members {
		if !m.up {
			fmt.Fprintf(&b, "%d: down\n", m.id)
			continue
		}
		first, _ := m.core.storage.FirstIndex()
		fmt.Fprintf(&b, "%d: %s, log %d to %d, commit %d, applied %d, %s; commands: %s\n", m.id, m.seen,
			first, m.core.last, m.core.commit, m.applier.index, describeMembers(m.applier.members), c.spell(m.state.Commands...))
	}
	return b.String()
}

// inFlight is what is on its way, in order.
func (c *cluster) inFlight() string {
	var b strings.Builder
	for _, p := range c.network {
		m := &raftpb.Message{}
		if err := proto.Unmarshal(p.message, m); err != nil {
			c.fatalf("unmarshal: %v", err)
		}
		fmt.Fprintln(&b, describe(m))
	}
	return b.String()
}
