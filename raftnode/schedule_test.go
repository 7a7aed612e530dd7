package raftnode

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3"
)

var (
	scheduleSeed   = flag.Uint64("schedule.seed", 0, "the one seed that TestNothingIsLostOrDoubledWhateverHappens replays, with its trace; 0: all")
	scheduleFirst  = flag.Uint64("schedule.first", 1, "the first seed that it tries")
	scheduleSeeds  = flag.Uint64("schedule.seeds", seedsByDefault, "how many seeds it tries")
	scheduleReport = flag.String("schedule.report", "", "the file into which it writes, as JSON, how often what happened")
)

// Whatever is lost, doubled, delayed or crashes, and whoever joins or leaves meanwhile: no two members disagree, no
// command happens twice, what was acknowledged stays, and once the faults end all get going again.
//
// Each eighth seed has the production wal under each member, another eighth the production store; each fortieth both.
// Each hundredth is played twice, and must give the same trace.
func TestNothingIsLostOrDoubledWhateverHappens(t *testing.T) {
	first, last := *scheduleFirst, *scheduleFirst+*scheduleSeeds-1
	if *scheduleSeed != 0 {
		first, last = *scheduleSeed, *scheduleSeed
	}
	happened := map[string]int{}
	for seed := first; seed <= last && !t.Failed(); seed++ {
		trace := playSeed(t, seed, happened)
		if *scheduleSeed != 0 {
			t.Log(trace)
		}
		if seed%100 == 0 && !t.Failed() && playSeed(t, seed, map[string]int{}) != trace {
			t.Errorf("seed %d, played twice, gives two traces", seed)
		}
		happened["seeds"]++
		if t.Failed() {
			t.Logf("replay it with go test ./raftnode -run %s -schedule.seed=%d", t.Name(), seed)
		}
	}
	if *scheduleReport == "" {
		return
	}
	b, err := json.Marshal(happened)
	if err == nil {
		err = os.WriteFile(*scheduleReport, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func playSeed(t *testing.T, seed uint64, happened map[string]int) (trace string) {
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
		trace = s.c.takeTrace()
		for _, m := range s.c.members {
			m.countUp()
		}
		for what, n := range s.c.happened {
			happened[what] += n
		}
	})
	return trace
}

// schedule is a seed's way through everything that can happen to a cluster.
type schedule struct {
	c       *cluster
	rng     *rand.Rand
	next    int // commands, to tell them apart
	readers int
	faults  []fault
	late    []*packet // held back
}

func newSchedule(t testing.TB, seed uint64) *schedule {
	s := &schedule{c: newCluster(t, seed), rng: rand.New(rand.NewPCG(seed, 1)), faults: slices.Clone(faults)}
	for i := range s.faults { // each run has some more often, and some not at all
		if f := &s.faults[i]; !f.always {
			f.weight = f.weight * []int{0, 1, 2, 3, 8}[s.rng.IntN(5)] / 2
		}
	}
	s.c.electionTicks = 3 * ticksPerHeartbeat
	s.c.keepEntries = 1 + s.rng.Uint64N(10)
	s.c.realDisks = seed%8 == 0
	if seed%8 == 4 || seed%40 == 0 {
		s.c.customers = newCustomers(rand.New(rand.NewPCG(seed, 2)))
	}
	s.c.build(1 + s.rng.Uint64N(3))
	for id := range uint64(maxScheduleMembers) + 2 {
		s.c.pace[id] = []int{3, 4, 4, 5, 6}[s.rng.IntN(5)]
	}
	return s
}

// command is one that nobody has proposed before.
func (s *schedule) command() string {
	if s.c.customers != nil {
		return s.c.customers.next()
	}
	s.next++
	return fmt.Sprintf("c%d", s.next)
}

func (s *schedule) play(events int) {
	total := 0
	for _, f := range s.faults {
		total += f.weight
	}
	for range events {
		if s.any((*member).runs) == nil {
			m := s.any(func(m *member) bool { return !m.gone })
			if m.paused {
				m.proceed()
			} else {
				m.restart()
			}
		}
		n := s.rng.IntN(total)
		for _, f := range s.faults {
			if n -= f.weight; n < 0 {
				s.c.logf("-- %s", f.name)
				s.c.count("event: " + f.name)
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

func (s *schedule) running() *member { return s.any((*member).runs) }

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

// spare reports whether the voters of lead's configuration that still have their disks are a majority without m.
func (s *schedule) spare(lead, m *member) bool {
	voters, alive := 0, 0
	for _, r := range lead.core.table.members {
		if r.voter {
			voters++
			if other := s.c.member(r.id); !other.gone && other != m {
				alive++
			}
		}
	}
	return alive > voters/2+1 // with one to spare: another change may be under way
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
	_ = lead.changeMembers(MemberChange_ADD, joiner.record())
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
	for len(s.late) > 0 {
		s.arriveLate()
	}
	for _, m := range c.members {
		m.proceed()
		if !m.up && !m.gone {
			m.restart()
		}
	}
	for range 100 {
		c.run(2 * ticksPerHeartbeat)
		s.removeLost()
		if c.unsettled() == "" {
			break
		}
	}
	if s.quorumLost() {
		c.count("quorum lost with disks")
		return
	}
	if why := c.unsettled(); why != "" {
		c.fatalf("long after all faults ended, %s:\n%s", why, c.status())
	}
	for _, m := range c.members {
		if m.up {
			m.propose(s.command())
			m.read(fmt.Sprintf("last%d", m.id))
		}
	}
	for range 20 {
		c.run(2 * ticksPerHeartbeat)
	}
	if why := c.unsettled(); why != "" {
		c.fatalf("after the last commands, %s:\n%s", why, c.status())
	}
	s.spreadFalseNews()
	for _, r := range c.leader().core.table.members {
		m := c.member(r.id)
		if !slices.Equal(m.state.Commands, c.history) {
			c.fatalf("%d has %d commands, %d were applied:\n%s", m.id, len(m.state.Commands), len(c.history), c.status())
		}
		checkBytes(c.t.(failer), m.core.storage)
		if c.customers != nil {
			if err := c.customers.compare(m.state.farm); err != nil {
				c.fatalf("the farm of %d: %v", m.id, err)
			}
		}
	}
}

// spreadFalseNews tells voters again and again that their leader's process is gone, always so few that those who doubt
// it are no majority: it must stay.
func (s *schedule) spreadFalseNews() {
	c, lead := s.c, s.c.leader()
	term := lead.core.term
	var followers []*member
	for _, r := range lead.core.table.members {
		if r.voter && r.id != lead.id {
			followers = append(followers, c.member(r.id))
		}
	}
	doubts := func(m *member) bool { return m.core.lead != lead.id }
	for range 2 * c.electionTicks {
		doubters := 0
		for _, m := range followers {
			if doubts(m) {
				doubters++
			}
		}
		if len(followers) > 0 {
			m := followers[s.rng.IntN(len(followers))]
			if doubts(m) || doubters+1 < (len(followers)+1)/2+1 {
				m.step(input{down: []uint64{lead.id}})
				c.count("live leader said to be gone")
			}
		}
		c.run(1)
		if lead.core.state != raft.StateLeader || lead.core.term != term {
			c.fatalf("%d led term %d, and was unseated by false news of its death", lead.id, term)
		}
	}
	c.run(2 * c.electionTicks)
	if why := c.unsettled(); why != "" || c.leader() != lead {
		c.fatalf("after false news of the death of %d, %s:\n%s", lead.id, why, c.status())
	}
}

// quorumLost reports whether so many voters have lost their disks that nobody can be elected any more: a removal that was
// under way when one did took another one out.
func (s *schedule) quorumLost() bool {
	for _, m := range s.c.members {
		if !m.up {
			continue
		}
		voters, alive := 0, 0
		for _, r := range m.core.table.members {
			if r.voter {
				voters++
				if !s.c.member(r.id).gone {
					alive++
				}
			}
		}
		if voters == 0 || alive > voters/2 {
			return false
		}
	}
	return true
}

// removeLost takes out a member that has lost its disk, as an operator would.
func (s *schedule) removeLost() {
	lead := s.c.leader()
	if lead == nil || len(lead.changes) > 0 {
		return
	}
	for _, r := range lead.core.table.members {
		if s.c.member(r.id).gone {
			_ = lead.changeMembers(MemberChange_REMOVE, r.record())
			return
		}
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
