package raftnode

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// fault is something that may happen, so often in comparison with the others.
type fault struct {
	weight int
	name   string
	happen func(*schedule)
	always bool // it is no fault, and there is no run without it
}

var faults = []fault{
	{always: true, weight: 30, name: "tick", happen: func(s *schedule) {
		m := s.running()
		for range 1 + s.rng.IntN(2*ticksPerHeartbeat) {
			m.tick()
			if !m.up {
				return
			}
		}
	}},
	{always: true, weight: 60, name: "deliver", happen: func(s *schedule) {
		for range 1 + s.rng.IntN(4) {
			if i, ok := s.packet(); ok {
				s.c.deliver(s.c.take(i))
			}
		}
	}},
	{always: true, weight: 25, name: "write", happen: func(s *schedule) { m := s.running(); m.write(s.some(len(m.toLog))) }},
	{always: true, weight: 25, name: "apply", happen: func(s *schedule) { m := s.running(); m.apply(s.some(len(m.toApply))) }},
	{weight: 6, name: "rest", happen: func(s *schedule) { s.c.settle() }},
	{weight: 4, name: "run", happen: func(s *schedule) { s.c.run(1 + s.rng.IntN(2*s.c.electionTicks)) }},
	{always: true, weight: 12, name: "propose", happen: func(s *schedule) {
		var cmds []string
		for range 1 + s.rng.IntN(3) {
			cmds = append(cmds, s.command())
		}
		s.running().propose(cmds...)
	}},
	{weight: 5, name: "read", happen: func(s *schedule) {
		s.read(s.running())
	}},
	{weight: 2, name: "give up", happen: func(s *schedule) {
		m := s.running()
		if waiting := slices.Sorted(maps.Keys(m.waiting)); len(waiting) > 0 {
			m.giveUp(waiting[s.rng.IntN(len(waiting))])
		}
	}},
	{weight: 6, name: "drop", happen: func(s *schedule) {
		if i, ok := s.packet(); ok {
			s.c.lose(s.c.take(i))
		}
	}},
	{weight: 4, name: "duplicate", happen: func(s *schedule) {
		if i, ok := s.packet(); ok {
			s.c.network = append(s.c.network, s.c.network[i])
		}
	}},
	{weight: 3, name: "hold back", happen: func(s *schedule) {
		if i, ok := s.packet(); ok && len(s.late) < maxLate {
			s.late = append(s.late, s.c.take(i))
		}
	}},
	{weight: 1, name: "answer twice", happen: func(s *schedule) { s.answerTwice() }},
	{always: true, weight: 2, name: "arrive late", happen: func(s *schedule) { s.arriveLate() }},
	{weight: 2, name: "forge", happen: func(s *schedule) { s.forge() }},
	{weight: 2, name: "cut", happen: func(s *schedule) {
		a, b := s.running().id, s.running().id
		s.c.cuts[[2]uint64{a, b}] = true
		if s.rng.IntN(3) > 0 {
			s.c.cuts[[2]uint64{b, a}] = true
		}
	}},
	{weight: 1, name: "pause", happen: func(s *schedule) { s.running().pause() }},
	{always: true, weight: 2, name: "go on", happen: func(s *schedule) {
		if m := s.any(func(m *member) bool { return m.paused }); m != nil {
			m.proceed()
		}
	}},
	{weight: 1, name: "heal", happen: func(s *schedule) { clear(s.c.cuts) }},
	{weight: 3, name: "crash", happen: func(s *schedule) {
		m := s.running()
		if s.rng.IntN(3) == 0 { // in the middle of a write, where it leads
			m.propose(s.command())
		}
		m.crash(s.rng.IntN(len(m.toLog) + 1))
	}},
	{weight: 2, name: "crash and start", happen: func(s *schedule) {
		m := s.running()
		m.crash(s.some(len(m.toLog)))
		m.restart()
	}},
	{weight: 2, name: "remove under fire", happen: func(s *schedule) { s.removeUnderFire() }},
	{weight: 2, name: "contest", happen: func(s *schedule) { s.contest() }},
	{weight: 1, name: "shut down", happen: func(s *schedule) { s.running().shutdown() }},
	{always: true, weight: 6, name: "start", happen: func(s *schedule) {
		if m := s.any(func(m *member) bool { return !m.up && !m.gone }); m != nil {
			m.restart()
		}
	}},
	{weight: 3, name: "snapshot", happen: func(s *schedule) {
		if m := s.running(); m.state.Index > 0 && m.receiving == nil {
			m.saveSnapshot(m.state)
		}
	}},
	{weight: 2, name: "down", happen: func(s *schedule) { m, peer := s.running(), s.running(); m.step(input{down: []uint64{peer.id}}) }},
	{weight: 1, name: "transfer", happen: func(s *schedule) {
		if m := s.c.leader(); m != nil {
			if to := m.core.successor(); to != 0 {
				m.dispatch(m.core.call(func(c *core) { c.transfer(to) }))
				s.c.count("leader asked to hand over")
			}
		}
	}},
	{weight: 1, name: "lose a disk", happen: func(s *schedule) {
		// For good: its name may come back under another id only. So only one that the others can do without.
		lead := s.c.leader()
		if lead == nil {
			return
		}
		m := s.any(func(m *member) bool {
			r, known := lead.core.table.byID(m.id)
			return m.runs() && m != lead && known && r.voter && lead.core.settled() && lead.core.survives(m.id) == nil && s.spare(lead, m)
		})
		if m != nil {
			s.c.logf("%d: loses its disk", m.id)
			s.c.count("disk lost")
			m.crash(0)
			m.gone = true
			s.replace(lead, m)
		}
	}},
	{weight: 1, name: "disk fails", happen: func(s *schedule) {
		m := s.running()
		device := []string{fullDisk, badSyncDisk}[s.rng.IntN(2)]
		if s.rng.IntN(3) == 0 {
			m.failSnapshot(device)
			return
		}
		if !m.failWrite(device) {
			// A disk in memory: the node stops at once; what was under way may be on the disk or not.
			m.crash(s.some(len(m.toLog)))
			s.c.count("stopped as a failed fsync would stop it")
		}
	}},
	{weight: 1, name: "ask for what is refused", happen: func(s *schedule) {
		lead := s.c.leader()
		if lead == nil || len(lead.core.table.members) == 0 {
			return
		}
		table := lead.core.table
		known := table.members[s.rng.IntN(len(table.members))]
		switch s.rng.IntN(3) {
		case 0: // a stranger under a name that is taken: a node that lost its disk
			r := record(1000)
			r.Name = known.name
			_ = lead.changeMembers(MemberChange_ADD, r)
		case 1: // an identity that was used up
			if removed := slices.Sorted(maps.Keys(table.removed)); len(removed) > 0 {
				_ = lead.changeMembers(MemberChange_ADD, record(removed[s.rng.IntN(len(removed))]))
			}
		case 2: // the last voter
			voters := 0
			for _, r := range table.members {
				if r.voter {
					voters++
				}
			}
			if known.voter && voters == 1 {
				_ = lead.changeMembers(MemberChange_REMOVE, known.record())
			}
		}
	}},
	{weight: 2, name: "add", happen: func(s *schedule) { s.add() }},
	{weight: 2, name: "promote", happen: func(s *schedule) {
		s.change(MemberChange_PROMOTE, func(m *member, r memberEntry) bool { return m.core.caughtUp(r.id) == nil })
	}},
	{weight: 2, name: "remove", happen: func(s *schedule) {
		// A leader hands over before it is removed: its tail would be the longest log, and its vote may be needed.
		s.change(MemberChange_REMOVE, func(m *member, r memberEntry) bool { return r.id != m.id && m.core.survives(r.id) == nil })
	}},
}

// contest has several followers stand at almost the same moment, since the leader dies or only seems to.
func (s *schedule) contest() {
	lead := s.c.leader()
	if lead == nil {
		return
	}
	if s.rng.IntN(2) == 0 {
		lead.crash(s.some(len(lead.toLog)))
	}
	for _, m := range s.c.members {
		if m != lead && m.runs() && s.rng.IntN(4) > 0 {
			m.step(input{down: []uint64{lead.id}})
		}
	}
	for range ticksPerHeartbeat {
		for _, m := range s.c.members {
			if m != lead {
				m.tick()
			}
		}
		for range s.rng.IntN(6) {
			if i, ok := s.packet(); ok {
				s.c.deliver(s.c.take(i))
			}
		}
		if m := s.running(); m != nil {
			m.write(s.some(len(m.toLog)))
		}
	}
}

// removeUnderFire has a member removed while some are cut off from the leader, who may die over it: who knows of the removal,
// and who that it is committed, is left to chance. Then the others stand.
func (s *schedule) removeUnderFire() {
	lead := s.c.leader()
	if lead == nil {
		return
	}
	table := lead.core.table
	r := table.members[s.rng.IntN(len(table.members))]
	if r.id == lead.id || !r.voter || lead.core.survives(r.id) != nil || lead.changeMembers(MemberChange_REMOVE, r.record()) != nil {
		return
	}
	away := s.c.member(table.members[s.rng.IntN(len(table.members))].id)
	if s.rng.IntN(2) == 0 && away.id != r.id {
		s.cut(lead, away)
	}
	for range 4 + s.rng.IntN(12) {
		if i, ok := s.packet(); ok {
			s.c.deliver(s.c.take(i))
		}
		if m := s.any((*member).runs); m != nil {
			m.write(len(m.toLog))
			if s.rng.IntN(2) == 0 {
				m.apply(len(m.toApply))
			}
		}
	}
	if lead.runs() && s.rng.IntN(2) == 0 {
		lead.crash(s.some(len(lead.toLog)))
		if s.rng.IntN(2) == 0 {
			lead.restart()
		}
	}
	if s.rng.IntN(2) == 0 {
		s.cut(lead, s.c.member(r.id))
	}
	for _, m := range s.c.members {
		if m.runs() && m.core.lead == lead.id && m != lead && s.rng.IntN(2) == 0 {
			m.step(input{down: []uint64{lead.id}})
		}
	}
}

// cut parts two members in both directions.
func (s *schedule) cut(a, b *member) {
	s.c.cuts[[2]uint64{a.id, b.id}], s.c.cuts[[2]uint64{b.id, a.id}] = true, true
}

// answerTwice has the answer to a follower's read arrive a second time, when that follower has missed a write and somebody
// else wants to read there.
func (s *schedule) answerTwice() {
	lead := s.c.leader()
	if lead == nil {
		return
	}
	m := s.any(func(m *member) bool { return m.runs() && m.core.lead == lead.id && m != lead })
	if m == nil {
		return
	}
	s.read(m)
	for range 30 {
		for _, other := range s.c.members {
			other.work()
		}
		if len(s.c.network) == 0 {
			return
		}
		p := s.c.take(0)
		s.c.deliver(p)
		if p.kind != raftpb.MsgReadIndexResp || p.to != m.id {
			continue
		}
		s.cut(lead, m)
		if lead.runs() {
			lead.propose(s.command())
		}
		s.c.settle()
		delete(s.c.cuts, [2]uint64{lead.id, m.id})
		delete(s.c.cuts, [2]uint64{m.id, lead.id})
		if m.runs() {
			s.read(m)
			s.c.deliver(p)
			s.c.count("read answered twice")
		}
		return
	}
}

func (s *schedule) read(m *member) {
	s.readers++
	m.read(fmt.Sprintf("r%d", s.readers))
}

const maxLate = 20 // packets that are held back at once

// arriveLate delivers one of the packets that were held back, long after others that were sent later.
func (s *schedule) arriveLate() {
	if len(s.late) == 0 {
		return
	}
	i := s.rng.IntN(len(s.late))
	p := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	s.c.count("message arrived late")
	s.c.deliver(p)
}

// replace starts a node with an empty disk under the name of one that lost its own. It is refused as long as that one
// has not been removed.
func (s *schedule) replace(lead, lost *member) {
	if len(s.c.members) > maxScheduleMembers {
		return
	}
	m := s.c.create(uint64(len(s.c.members)) + 1)
	m.name = lost.name
	m.start(nil)
	_ = lead.changeMembers(MemberChange_ADD, m.record())
}

// forge gives a member a message in the name of another one that none would send it. It must be dropped: raft would
// end the process, or believe it.
func (s *schedule) forge() {
	m := s.running()
	others := slices.DeleteFunc(slices.Clone(m.core.table.members), func(r memberEntry) bool { return r.id == m.id })
	if len(others) == 0 {
		return
	}
	from := others[s.rng.IntN(len(others))].id
	term, beyond := m.core.term+s.rng.Uint64N(2), m.core.last+1+s.rng.Uint64N(3)
	msg := &raftpb.Message{From: &from, To: &m.id, Term: &term}
	switch s.rng.IntN(6) {
	case 0:
		msg.Type, msg.Commit = raftpb.MsgHeartbeat.Enum(), &beyond
	case 1:
		msg.Type, msg.Index = raftpb.MsgAppResp.Enum(), &beyond
	case 2: // another entry in place of one that is committed
		at := m.core.commit
		before, err := m.core.storage.Term(at)
		if err != nil || at == 0 || before == 0 {
			return
		}
		msg.Type, msg.Index, msg.LogTerm = raftpb.MsgApp.Enum(), new(at-1), new(before)
		msg.Entries = []*raftpb.Entry{{Index: &at, Term: new(before + 1)}}
	case 3:
		if from == m.core.lead {
			return
		}
		msg.Type = raftpb.MsgTimeoutNow.Enum()
	case 4:
		msg.Type = raftpb.MsgTransferLeader.Enum()
	case 5:
		msg.Type, msg.Entries = raftpb.MsgProp.Enum(), []*raftpb.Entry{{Data: []byte("raw")}}
	}
	refused := m.core.refused
	m.step(input{messages: []*raftpb.Message{msg}})
	if m.core.refused != refused+1 {
		s.c.fatalf("%d believes %s", m.id, describe(msg))
	}
	s.c.count("forged message refused")
}
