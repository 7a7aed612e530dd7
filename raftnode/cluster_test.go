package raftnode

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"raft3d/farm"
)

// cluster is a few members in one goroutine: the real core and applier of each, over a disk in memory, a network
// that is a list of messages, and time that is counted. Nothing happens unless it is told to, so a script or a seed
// decides what comes before what, and after each step the promises of the package are checked.
type cluster struct {
	t       testing.TB
	members []*member // by id, those that are gone included
	network []*packet // in the order in which they were sent
	cuts    map[[2]uint64]bool
	rng     *rand.Rand // for what the cores draw

	electionTicks int
	keepEntries   uint64
	pace          map[uint64]int // by member: how much its clock gains in a tick of run, in quarters of a tick; none: 4
	gained        map[uint64]int // what that has come to

	trace       strings.Builder
	showPackets bool // each message that arrives is in the trace

	history  []string          // every command that was ever applied anywhere, in order
	position map[string]int    // in history
	never    map[string]bool   // commands whose proposer was told that they will not happen
	acked    int               // the length of history that was acknowledged to somebody
	leaders  map[uint64]uint64 // by term
	votes    map[vote]uint64   // for whom, as others were told
	records  map[uint64][]byte // the members' record, by applied index

	customers *customers          // who use the farm that is in each state; nil: states are lists
	hashes    map[uint64][32]byte // of the farm, by applied index

	realDisks bool   // each member's log is the production wal's
	root      string // of all directories; empty: there is none yet
	dirs      int

	happened map[string]int // how often what is of interest has
}

type vote struct{ by, term uint64 }

// packet is a message on its way.
type packet struct {
	from, to uint64
	message  []byte
	kind     raftpb.MessageType
	state    []byte // what goes with a snapshot
}

func newCluster(t testing.TB, seed uint64) *cluster {
	return &cluster{
		t: t, cuts: map[[2]uint64]bool{}, rng: rand.New(rand.NewPCG(seed, 0)),
		electionTicks: 50, keepEntries: 100,
		position: map[string]int{}, never: map[string]bool{}, leaders: map[uint64]uint64{}, votes: map[vote]uint64{}, records: map[uint64][]byte{},
		happened: map[string]int{}, hashes: map[uint64][32]byte{}, pace: map[uint64]int{}, gained: map[uint64]int{},
	}
}

func (c *cluster) count(what string) { c.happened[what]++ }

// newState is the state machine of a member that begins anew.
func (c *cluster) newState() *listState {
	if c.customers != nil {
		return new(listState).withFarm(c)
	}
	return &listState{}
}

// spell is what the trace says of commands.
func (c *cluster) spell(cmds ...string) string {
	if c.customers != nil {
		cmds = slices.Clone(cmds)
		for i := range cmds {
			if label, ok := c.customers.labels[cmds[i]]; ok {
				cmds[i] = label
			}
		}
	}
	return strings.Join(cmds, " ")
}

// told is what somebody is told of a command.
func (c *cluster) told(cmd string, value any) {
	r, ok := value.(farmResult)
	if !ok {
		return
	}
	if err := c.customers.told(cmd, r.outcome); err != nil {
		c.fatalf("%v", err)
	}
	if done, ok := r.outcome.(farm.Result); ok && done.Replayed {
		c.count("key replayed")
	}
}

func (c *cluster) logf(format string, args ...any) { fmt.Fprintf(&c.trace, format+"\n", args...) }

// takeTrace is what happened since it was last called.
func (c *cluster) takeTrace() string {
	s := c.trace.String()
	c.trace.Reset()
	return s
}

func (c *cluster) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\ntrace up to here:\n%s", fmt.Sprintf(format, args...), c.trace.String())
}

func (c *cluster) member(id uint64) *member {
	for _, m := range c.members {
		if m.id == id {
			return m
		}
	}
	c.fatalf("there is no member %d", id)
	return nil
}

// leader is the one that leads the highest term, or nil.
func (c *cluster) leader() *member {
	var lead *member
	for _, m := range c.members {
		if m.runs() && m.core.state == raft.StateLeader && (lead == nil || m.core.term > lead.core.term) {
			lead = m
		}
	}
	return lead
}

// found starts the first member as a node founds its cluster: a state at index 1 that holds the first
// configuration, and a snapshot of it.
func (c *cluster) found(id uint64) *member {
	m := c.create(id)
	founding, err := foundingMembers(record(id))
	if err != nil {
		c.fatalf("found: %v", err)
	}
	meta := must(founding.encode())
	state := c.newState()
	if _, err := state.Apply(1, nil, meta); err != nil {
		c.fatalf("found: %v", err)
	}
	one := uint64(1)
	m.saveSnapshot(state)
	m.disk.append(&raftpb.HardState{Term: &one, Vote: new(uint64), Commit: &one}, nil)
	m.start(nil)
	return m
}

// create makes a member with an empty disk; start runs it.
func (c *cluster) create(id uint64) *member {
	m := &member{c: c, id: id, name: record(id).Name, disk: &memoryDisk{}}
	if c.realDisks {
		m.disk.real = newRealDisk(c, id)
	}
	c.members = append(c.members, m)
	slices.SortFunc(c.members, func(a, b *member) int { return int(a.id) - int(b.id) })
	return m
}

// send puts a message on the network; it is marshalled, since nothing may be shared between two nodes.
func (c *cluster) send(m *raftpb.Message, state []byte) {
	if m.GetType() == raftpb.MsgVoteResp && !m.GetReject() {
		v := vote{m.GetFrom(), m.GetTerm()}
		if first, voted := c.votes[v]; voted && first != m.GetTo() {
			c.fatalf("in term %d %d votes for %d and for %d", v.term, v.by, first, m.GetTo())
		}
		c.votes[v] = m.GetTo()
	}
	b, err := proto.Marshal(m)
	if err != nil {
		c.fatalf("marshal %v: %v", m, err)
	}
	c.network = append(c.network, &packet{m.GetFrom(), m.GetTo(), b, m.GetType(), state})
}

// take removes a packet from the network.
func (c *cluster) take(i int) *packet {
	p := c.network[i]
	c.network = slices.Delete(c.network, i, i+1)
	return p
}

// deliver lets a packet arrive, unless something is in its way.
func (c *cluster) deliver(p *packet) {
	to, from := c.member(p.to), c.member(p.from)
	if c.cuts[[2]uint64{p.from, p.to}] || !to.up {
		c.lose(p)
		return
	}
	if to.paused {
		to.inbox = append(to.inbox, p)
		return
	}
	if to.core.table.removed[p.from] {
		if from.runs() {
			from.removed(p.to)
		}
		return
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(p.message, m); err != nil {
		c.fatalf("unmarshal: %v", err)
	}
	if c.showPackets {
		c.logf("%s", describe(m))
	}
	if p.kind == raftpb.MsgSnap {
		to.receiveSnapshot(m, p.state)
		return
	}
	to.step(input{messages: []*raftpb.Message{m}})
}

// lose drops a packet; its sender hears of it, as from its transport.
func (c *cluster) lose(p *packet) {
	from := c.member(p.from)
	if !from.up {
		return
	}
	if p.kind == raftpb.MsgSnap {
		from.news.snapshots = append(from.news.snapshots, snapshotReport{p.to, false})
	}
	if !slices.Contains(from.news.unreachable, p.to) {
		from.news.unreachable = append(from.news.unreachable, p.to)
	}
}

// settle lets everything happen that needs no time, in an orderly way.
func (c *cluster) settle() {
	for range 10_000 {
		busy := false
		for _, m := range c.members {
			busy = m.work() || busy
		}
		arriving := c.network
		c.network = nil
		for _, p := range arriving {
			c.deliver(p)
		}
		if !busy && len(arriving) == 0 {
			return
		}
	}
	c.fatalf("the cluster does not come to rest")
}

// run lets time pass for all members, as their clocks see it.
func (c *cluster) run(ticks int) {
	for range ticks {
		for _, m := range c.members {
			c.gained[m.id] += cmp.Or(c.pace[m.id], 4)
			for ; c.gained[m.id] >= 4; c.gained[m.id] -= 4 {
				m.tick()
			}
		}
		c.settle()
	}
}

// check compares what a member shows with all that was ever seen.
func (c *cluster) check(m *member) {
	if m.core.state == raft.StateLeader {
		if other, ok := c.leaders[m.core.term]; ok && other != m.id {
			c.fatalf("%d and %d both lead term %d", other, m.id, m.core.term)
		}
		c.leaders[m.core.term] = m.id
	}
	list := m.state.Commands
	for ; m.checked < len(list); m.checked++ {
		cmd := list[m.checked]
		if m.checked < len(c.history) {
			if c.history[m.checked] != cmd {
				c.fatalf("%d applied %q as command %d, others applied %q", m.id, cmd, m.checked+1, c.history[m.checked])
			}
			continue
		}
		if first, ok := c.position[cmd]; ok {
			c.fatalf("%d applied %q as command %d, and as command %d before", m.id, c.spell(cmd), m.checked+1, first+1)
		}
		if c.never[cmd] {
			c.fatalf("%d applied %q, whose proposer was told that it would not happen", m.id, c.spell(cmd))
		}
		c.position[cmd] = len(c.history)
		c.history = append(c.history, cmd)
	}
	names := map[string]bool{}
	for _, r := range m.core.table.members {
		if m.core.table.removed[r.id] || names[r.name] {
			c.fatalf("%d has the member %d, %q, which was removed, or whose name is another one's", m.id, r.id, r.name)
		}
		names[r.name] = true
	}
	if c.customers != nil {
		if err := c.customers.follow(c.history); err != nil {
			c.fatalf("the farm after command %d: %v", len(c.history), err)
		}
		index, hash := m.state.farm.Hash()
		if before, ok := c.hashes[index]; ok && before != hash {
			c.fatalf("at index %d the farm of %d has another hash than another one's had", index, m.id)
		}
		c.hashes[index] = hash
	}
	if before, ok := c.records[m.state.Index]; ok && !bytes.Equal(before, m.state.Meta) {
		c.fatalf("at index %d the record of %d is %s, another one's was %s", m.state.Index, m.id, describeMeta(m.state.Meta), describeMeta(before))
	}
	c.records[m.state.Index] = m.state.Meta
	if conf, want := m.raftConf(), m.core.storage.conf; m.receiving == nil &&
		!(slices.Equal(conf.Voters, want.Voters) && slices.Equal(conf.Learners, want.Learners)) && conf.Equivalent(want) != nil {
		c.fatalf("raft of %d has the configuration %v, its state has %v", m.id, conf, m.core.storage.conf)
	}
}

// traceHandler shows in the trace what a core logs.
type traceHandler struct {
	c  *cluster
	id uint64
}

func (h traceHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h traceHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h traceHandler) WithGroup(string) slog.Handler            { return h }
func (h traceHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, ", %s %v", a.Key, a.Value)
		return true
	})
	h.c.logf("%d: %s%s", h.id, r.Message, b.String())
	return nil
}
