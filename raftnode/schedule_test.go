package raftnode

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"testing/cryptotest"
)

var (
	scheduleSeed  = flag.Uint64("schedule.seed", 0, "the one seed that TestNothingIsLostOrDoubledWhateverHappens replays, with its trace; 0: all")
	scheduleSeeds = flag.Uint64("schedule.seeds", 150, "how many seeds TestNothingIsLostOrDoubledWhateverHappens tries")
)

// Whatever is lost, doubled, delayed or crashes, and whoever joins or leaves meanwhile: no two members disagree, no
// command happens twice, what was acknowledged stays, and once the faults end all get going again.
func TestNothingIsLostOrDoubledWhateverHappens(t *testing.T) {
	first, last := uint64(1), *scheduleSeeds
	if *scheduleSeed != 0 {
		first, last = *scheduleSeed, *scheduleSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			s := newSchedule(t, seed)
			defer func() {
				if r := recover(); r != nil {
					s.c.fatalf("panic: %v\n%s", r, debug.Stack())
				}
			}()
			s.play(400)
			s.heal()
			if *scheduleSeed != 0 {
				t.Log(s.c.takeTrace())
			}
		})
		if t.Failed() {
			t.Fatalf("replay it with -run %s -schedule.seed=%d", t.Name(), seed)
		}
	}
}

// schedule is a seed's way through everything that can happen to a cluster.
type schedule struct {
	c       *cluster
	rng     *rand.Rand
	next    int // commands, to tell them apart
	readers int
	faults  []fault
}

// fault is something that may happen, so often in comparison with the others.
type fault struct {
	weight int
	name   string
	happen func(*schedule)
}

var faults = []fault{
	{30, "tick", func(s *schedule) {
		m := s.running()
		for range 1 + s.rng.IntN(2*ticksPerHeartbeat) {
			m.tick()
			if !m.up {
				return
			}
		}
	}},
	{60, "deliver", func(s *schedule) {
		for range 1 + s.rng.IntN(4) {
			if i, ok := s.packet(); ok {
				s.c.deliver(s.c.take(i))
			}
		}
	}},
	{25, "write", func(s *schedule) { m := s.running(); m.write(s.some(len(m.toLog))) }},
	{25, "apply", func(s *schedule) { m := s.running(); m.apply(s.some(len(m.toApply))) }},
	{6, "rest", func(s *schedule) { s.c.settle() }},
	{4, "run", func(s *schedule) { s.c.run(1 + s.rng.IntN(2*s.c.electionTicks)) }},
	{12, "propose", func(s *schedule) {
		var cmds []string
		for range 1 + s.rng.IntN(3) {
			s.next++
			cmds = append(cmds, fmt.Sprintf("c%d", s.next))
		}
		s.running().propose(cmds...)
	}},
	{5, "read", func(s *schedule) {
		s.readers++
		s.running().read(fmt.Sprintf("r%d", s.readers))
	}},
	{2, "give up", func(s *schedule) {
		m := s.running()
		if waiting := slices.Sorted(maps.Keys(m.waiting)); len(waiting) > 0 {
			m.giveUp(waiting[s.rng.IntN(len(waiting))])
		}
	}},
	{6, "drop", func(s *schedule) {
		if i, ok := s.packet(); ok {
			s.c.lose(s.c.take(i))
		}
	}},
	{4, "duplicate", func(s *schedule) {
		if i, ok := s.packet(); ok {
			s.c.network = append(s.c.network, s.c.network[i])
		}
	}},
	{2, "cut", func(s *schedule) {
		a, b := s.running().id, s.running().id
		s.c.cuts[[2]uint64{a, b}] = true
		if s.rng.IntN(3) > 0 {
			s.c.cuts[[2]uint64{b, a}] = true
		}
	}},
	{1, "heal", func(s *schedule) { clear(s.c.cuts) }},
	{3, "crash", func(s *schedule) { m := s.running(); m.crash(s.some(len(m.toLog))) }},
	{1, "shut down", func(s *schedule) { s.running().shutdown() }},
	{6, "start", func(s *schedule) {
		if m := s.any(func(m *member) bool { return !m.up && !m.gone }); m != nil {
			m.restart()
		}
	}},
	{3, "snapshot", func(s *schedule) {
		if m := s.running(); m.state.Index > 0 && m.receiving == nil {
			m.saveSnapshot(m.state)
		}
	}},
	{2, "down", func(s *schedule) { m, peer := s.running(), s.running(); m.step(input{down: []uint64{peer.id}}) }},
	{1, "transfer", func(s *schedule) {
		if m := s.c.leader(); m != nil {
			if to := m.core.successor(); to != 0 {
				m.dispatch(m.core.call(func(c *core) { c.transfer(to) }))
			}
		}
	}},
	{2, "add", func(s *schedule) { s.add() }},
	{2, "promote", func(s *schedule) {
		s.change(MemberChange_PROMOTE, func(m *member, r memberEntry) bool { return m.core.caughtUp(r.id) == nil })
	}},
	{2, "remove", func(s *schedule) {
		// A leader hands over before it is removed: its tail would be the longest log, and its vote may be needed.
		s.change(MemberChange_REMOVE, func(m *member, r memberEntry) bool { return r.id != m.id && m.core.survives(r.id) == nil })
	}},
}

func newSchedule(t testing.TB, seed uint64) *schedule {
	s := &schedule{c: newCluster(t, seed), rng: rand.New(rand.NewPCG(seed, 1)), faults: faults}
	s.c.electionTicks = 3 * ticksPerHeartbeat
	s.c.keepEntries = 1 + s.rng.Uint64N(10)
	s.c.realDisks = seed%8 == 0
	s.c.build(1 + s.rng.Uint64N(3))
	return s
}

func (s *schedule) play(events int) {
	total := 0
	for _, f := range s.faults {
		total += f.weight
	}
	for range events {
		if s.any(func(m *member) bool { return m.up }) == nil {
			s.any(func(m *member) bool { return !m.gone }).restart()
		}
		n := s.rng.IntN(total)
		for _, f := range s.faults {
			if n -= f.weight; n < 0 {
				s.c.logf("-- %s", f.name)
				f.happen(s)
				break
			}
		}
	}
}

// any is one of the members of which it is true, or nil.
func (s *schedule) any(is func(*member) bool) *member {
	var list []*member
	for _, m := range s.c.members {
		if is(m) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[s.rng.IntN(len(list))]
}

func (s *schedule) running() *member { return s.any(func(m *member) bool { return m.up }) }

// some is from nothing to all, and often all.
func (s *schedule) some(all int) int {
	if s.rng.IntN(2) == 0 {
		return all
	}
	return s.rng.IntN(all + 1)
}

// packet is one that is on its way: mostly the oldest, sometimes any.
func (s *schedule) packet() (i int, ok bool) {
	if len(s.c.network) == 0 {
		return 0, false
	}
	if s.rng.IntN(3) > 0 {
		return 0, true
	}
	return s.rng.IntN(len(s.c.network)), true
}

const maxScheduleMembers = 6

// add asks for a member that is not in the cluster: a new one, or one whose earlier addition came to nothing.
func (s *schedule) add() {
	lead := s.c.leader()
	if lead == nil {
		return
	}
	joiner := s.any(func(m *member) bool {
		_, known := lead.core.table.byID(m.id)
		return !m.gone && !known && !lead.core.table.removed[m.id]
	})
	if joiner == nil {
		if len(s.c.members) == maxScheduleMembers {
			return
		}
		joiner = s.c.create(uint64(len(s.c.members)) + 1)
		joiner.start(nil)
	}
	_ = lead.changeMembers(MemberChange_ADD, record(joiner.id))
}

// change asks for a change of one of the members that fit.
func (s *schedule) change(op MemberChange_Op, fits func(*member, memberEntry) bool) {
	lead := s.c.leader()
	if lead == nil {
		return
	}
	var list []memberEntry
	for _, r := range lead.core.table.members {
		if fits(lead, r) {
			list = append(list, r)
		}
	}
	if len(list) > 0 {
		_ = lead.changeMembers(op, list[s.rng.IntN(len(list))].record())
	}
}

// heal ends all faults and expects that the cluster gets going again.
func (s *schedule) heal() {
	c := s.c
	c.logf("-- all faults end")
	clear(c.cuts)
	for _, m := range c.members {
		if !m.up && !m.gone {
			m.restart()
		}
	}
	for range 100 {
		c.run(2 * ticksPerHeartbeat)
		if c.unsettled() == "" {
			break
		}
	}
	if why := c.unsettled(); why != "" {
		c.fatalf("long after all faults ended, %s:\n%s", why, c.status())
	}
	for _, m := range c.members {
		if m.up {
			m.propose(fmt.Sprintf("last%d", m.id))
			m.read(fmt.Sprintf("last%d", m.id))
		}
	}
	for range 20 {
		c.run(2 * ticksPerHeartbeat)
	}
	if why := c.unsettled(); why != "" {
		c.fatalf("after the last commands, %s:\n%s", why, c.status())
	}
	for _, r := range c.leader().core.table.members {
		m := c.member(r.id)
		if !slices.Equal(m.state.Commands, c.history) {
			c.fatalf("%d has %d commands, %d were applied:\n%s", m.id, len(m.state.Commands), len(c.history), c.status())
		}
		checkBytes(c.t.(failer), m.core.storage)
	}
}

// unsettled says what a healthy cluster still has to do.
func (c *cluster) unsettled() string {
	lead := c.leader()
	if lead == nil {
		return "nobody leads"
	}
	for _, r := range lead.core.table.members {
		m := c.member(r.id)
		switch {
		case !m.up:
			return fmt.Sprintf("%d, a member, does not run", m.id)
		case m.applier.index != lead.applier.index || m.core.lead != lead.id:
			return fmt.Sprintf("%d is at index %d and follows %d, the leader %d is at %d", m.id, m.applier.index, m.core.lead, lead.id, lead.applier.index)
		case len(m.waiting) > 0:
			return fmt.Sprintf("commands of %d wait: %v", m.id, m.waiting)
		case len(m.changes) > 0:
			return fmt.Sprintf("membership changes of %d wait: %v", m.id, m.changes)
		case len(m.readers)+len(m.rounds) > 0:
			return fmt.Sprintf("readers of %d wait", m.id)
		case !r.voter && !r.staysLearner:
			return fmt.Sprintf("%d is still a learner", m.id)
		}
	}
	return ""
}
