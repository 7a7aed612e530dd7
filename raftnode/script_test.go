package raftnode

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Each file in testdata/scripts tells one story about a cluster and what is to be seen of it. The commands are
// methods of script, below. After a change run with -rewrite, read the difference, and keep it only if you can
// explain each line.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "scripts"), func(t *testing.T, path string) {
		cryptotest.SetGlobalRandom(t, 1) // raft draws its election timeouts there
		s := &script{t: t, c: newCluster(t, 1)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.c.t, s.d = t, t, d
			do, ok := commands[d.Cmd]
			if !ok {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			do(s)
			if out := s.c.takeTrace(); out != "" {
				return out
			}
			return "ok"
		})
	})
}

type script struct {
	t testing.TB
	c *cluster
	d *datadriven.TestData
}

// commands are what a script may say. A number that stands alone is a member's id.
var commands = map[string]func(*script){
	// members and their processes
	"cluster":  (*script).cluster,  // cluster n [keep=entries]: founded by 1, joined by the others, at rest
	"found":    (*script).found,    // found n
	"start":    (*script).start,    // start n: with an empty disk, or as its disk has it
	"crash":    (*script).crash,    // crash n [written=appends]: all that is not on the disk is lost
	"shutdown": (*script).shutdown, // shutdown n: its state is kept for the next start
	"stop":     (*script).stop,     // stop n: as a crash, but its state is kept
	"snapshot": (*script).snapshot, // snapshot n: to its disk

	// callers
	"propose":  (*script).propose,  // propose n cmd...
	"bulk":     (*script).bulk,     // bulk n count: as many commands, in no trace
	"give-up":  (*script).giveUp,   // give-up n: the oldest caller goes away
	"read":     (*script).read,     // read n name
	"add":      (*script).change,   // add n member [stays]: asks n, as the leader
	"promote":  (*script).change,   //
	"remove":   (*script).change,   //
	"transfer": (*script).transfer, // transfer n to

	// time, disks and the network
	"run":       (*script).run,       // run ticks: all members, and all that follows at once
	"tick":      (*script).tick,      // tick n ticks: one member, and nothing follows yet
	"settle":    (*script).settle,    // settle [packets]: all that needs no time
	"hold":      (*script).hold,      // hold n log|apply
	"release":   (*script).release,   // release n log|apply
	"write":     (*script).write,     // write n: the oldest append
	"apply":     (*script).apply,     // apply n: the oldest batch
	"deliver":   (*script).deliver,   // deliver [from=] [to=] [type=]: what is on its way now
	"drop":      (*script).drop,      // the same, lost
	"duplicate": (*script).duplicate, // the same, once more
	"reverse":   (*script).reverse,   // what is on its way arrives in the opposite order
	"cut":       (*script).cut,       // cut from to [one-way]
	"heal":      (*script).heal,      // heal
	"down":      (*script).down,      // down n peer: n hears that the peer's process is gone
	"receive":   (*script).receive,   // receive n type=... from=... term=...: n gets a message that nobody sent

	// to look
	"status":    func(s *script) { s.c.logf("%s", strings.TrimSuffix(s.c.status(), "\n")) },
	"in-flight": func(s *script) { s.c.logf("%s", strings.TrimSuffix(s.c.inFlight(), "\n")) },
	"pending":   (*script).pending, // pending n: what waits for its disk and its state
	"judge":     (*script).judge,   // judge n: what n, as the leader, says of each member
}

// word is the i-th argument without a value.
func (s *script) word(i int) string {
	for _, a := range s.d.CmdArgs {
		if len(a.Vals) == 0 {
			if i--; i < 0 {
				return a.Key
			}
		}
	}
	s.d.Fatalf(s.t, "an argument is missing")
	return ""
}

func (s *script) has(word string) bool { a, ok := s.d.Arg(word); return ok && len(a.Vals) == 0 }

func (s *script) number(i int) uint64 {
	n, err := strconv.ParseUint(s.word(i), 10, 64)
	if err != nil {
		s.d.Fatalf(s.t, "%v", err)
	}
	return n
}

func (s *script) value(key string) (n uint64) {
	s.d.MaybeScanArgs(s.t, key, &n)
	return n
}

func (s *script) member() *member { return s.c.member(s.number(0)) }

func (s *script) cluster() {
	n := s.number(0)
	if keep := s.value("keep"); keep != 0 {
		s.c.keepEntries = keep
	}
	s.c.build(n)
	s.c.takeTrace()
	s.c.logf("%s", strings.TrimSuffix(s.c.status(), "\n"))
}

// build founds a cluster of n voters and lets it come to rest, led by 1.
func (c *cluster) build(n uint64) {
	c.found(1)
	c.settle()
	for id := uint64(2); id <= n; id++ {
		c.create(id).start(nil)
		if err := c.member(1).changeMembers(MemberChange_ADD, record(id)); err != nil {
			c.fatalf("add %d: %v", id, err)
		}
		for range 20 * ticksPerHeartbeat {
			c.run(1)
			if c.member(1).applier.members.voter(id) {
				break
			}
		}
	}
	c.run(2 * ticksPerHeartbeat)
	for _, m := range c.members {
		if !m.applier.members.voter(m.id) {
			c.fatalf("%d is no voter", m.id)
		}
	}
}

func (s *script) found() { s.c.found(s.number(0)) }

func (s *script) start() {
	id := s.number(0)
	for _, m := range s.c.members {
		if m.id == id {
			m.restart()
			return
		}
	}
	s.c.create(id).start(nil)
}

func (s *script) crash()    { s.member().crash(int(s.value("written"))) }
func (s *script) shutdown() { s.member().shutdown() }

func (s *script) stop() {
	m := s.member()
	m.crash(0)
	m.keptState = true
}

func (s *script) snapshot() {
	m := s.member()
	m.saveSnapshot(m.state)
	s.c.logf("%d: has a snapshot of index %d on its disk", m.id, m.state.Index)
}

func (s *script) propose() {
	var cmds []string
	for i := 1; i < len(s.d.CmdArgs); i++ {
		cmds = append(cmds, s.word(i))
	}
	s.member().propose(cmds...)
}

func (s *script) bulk() {
	cmds := make([]string, s.number(1))
	for i := range cmds {
		cmds[i] = fmt.Sprint("bulk", i)
	}
	s.member().propose(cmds...)
	s.c.settle()
	s.c.takeTrace()
}

func (s *script) giveUp() {
	m := s.member()
	m.giveUp(slices.Min(slices.Collect(maps.Keys(m.waiting))))
}

func (s *script) read() { s.member().read(s.word(1)) }

func (s *script) change() {
	op := map[string]MemberChange_Op{"add": MemberChange_ADD, "promote": MemberChange_PROMOTE, "remove": MemberChange_REMOVE}[s.d.Cmd]
	r := record(s.number(1))
	r.Learner = s.has("stays")
	if a, ok := s.d.Arg("name"); ok {
		r.Name = a.SingleVal(s.t)
	}
	_ = s.member().changeMembers(op, r) // the trace says what became of it
}

func (s *script) transfer() {
	m := s.member()
	m.dispatch(m.core.call(func(c *core) { c.transfer(s.number(1)) }))
}

func (s *script) run() {
	s.c.showPackets = s.has("packets")
	s.c.run(int(s.number(0)))
	s.c.showPackets = false
}

func (s *script) tick() {
	for range s.number(1) {
		s.member().tick()
	}
}

func (s *script) settle() {
	s.c.showPackets = s.has("packets")
	s.c.settle()
	s.c.showPackets = false
}

func (s *script) hold()    { s.setHold(true) }
func (s *script) release() { s.setHold(false) }

func (s *script) setHold(hold bool) {
	m := s.member()
	switch what := s.word(1); what {
	case "log":
		m.holdsLog = hold
	case "apply":
		m.holdsApply = hold
	default:
		s.d.Fatalf(s.t, "a member has no %q", what)
	}
}

func (s *script) write() {
	m := s.member()
	if len(m.toLog) == 0 {
		s.d.Fatalf(s.t, "nothing waits for the disk of %d", m.id)
	}
	s.c.logf("%d: writes %s", m.id, describeAppend(m.toLog[0]))
	m.write(1)
}

func (s *script) apply() {
	m := s.member()
	if len(m.toApply) == 0 {
		s.d.Fatalf(s.t, "nothing waits for the state of %d", m.id)
	}
	m.apply(1)
}

func (s *script) pending() {
	m := s.member()
	for _, a := range m.toLog {
		s.c.logf("to be written: %s", describeAppend(a))
	}
	for _, a := range m.toApply {
		s.c.logf("to be applied: %s", describeEntries(a.GetEntries()))
	}
}

func (s *script) judge() {
	c := s.member().core
	say := func(err *Error) string {
		if err == nil {
			return "yes"
		}
		return "no, " + err.Detail
	}
	for _, m := range c.table.members {
		s.c.logf("%s: alive %v; may vote: %s; may go: %s", m.name, c.alive(m.id), say(c.caughtUp(m.id)), say(c.survives(m.id)))
	}
	s.c.logf("next leader: %d", c.successor())
}

// matching takes from the network, or copies, what the arguments say.
func (s *script) matching(keep bool) []*packet {
	var match, rest []*packet
	for _, p := range s.c.network {
		kind := strings.TrimPrefix(p.kind.String(), "Msg")
		var want string
		s.d.MaybeScanArgs(s.t, "type", &want)
		if from := s.value("from"); (from == 0 || from == p.from) && (s.value("to") == 0 || s.value("to") == p.to) && (want == "" || want == kind) {
			match = append(match, p)
			if !keep {
				continue
			}
		}
		rest = append(rest, p)
	}
	if len(match) == 0 {
		s.d.Fatalf(s.t, "nothing like that is on its way:\n%s", s.c.inFlight())
	}
	s.c.network = rest
	return match
}

func (s *script) deliver() {
	s.c.showPackets = true
	for _, p := range s.matching(false) {
		s.c.deliver(p)
	}
	s.c.showPackets = false
}

func (s *script) drop() {
	for _, p := range s.matching(false) {
		s.c.lose(p)
	}
}

func (s *script) duplicate() { s.c.network = append(s.c.network, s.matching(true)...) }
func (s *script) reverse()   { slices.Reverse(s.c.network) }

func (s *script) cut() {
	a, b := s.number(0), s.number(1)
	s.c.cuts[[2]uint64{a, b}] = true
	if !s.has("one-way") {
		s.c.cuts[[2]uint64{b, a}] = true
	}
}

func (s *script) heal() { clear(s.c.cuts) }

func (s *script) down() { s.member().step(input{down: []uint64{s.number(1)}}) }

// receive gives a member a message from nowhere. data is the entries': each is a command with a request id, or one
// of raw (bytes without one), conf (a membership change) and context (a read's).
func (s *script) receive() {
	m := s.member()
	var kind, data string
	s.d.ScanArgs(s.t, "type", &kind)
	s.d.MaybeScanArgs(s.t, "entry", &data)
	value, ok := raftpb.MessageType_value["Msg"+kind]
	if !ok {
		s.d.Fatalf(s.t, "there is no message %s", kind)
	}
	from, term, index, logTerm := s.value("from"), s.value("term"), s.value("index"), s.value("log-term")
	commit, hint := s.value("commit"), s.value("hint")
	msg := &raftpb.Message{
		Type: raftpb.MessageType(value).Enum(), From: &from, To: &m.id, Term: &term, Index: &index, LogTerm: &logTerm,
		Commit: &commit, RejectHint: &hint, Reject: proto.Bool(s.has("reject")),
	}
	next := index + 1
	switch data {
	case "":
	case "raw":
		msg.Entries = []*raftpb.Entry{{Data: []byte("raw")}}
	case "context":
		msg.Entries = []*raftpb.Entry{{Data: []byte("context")}}
	case "conf":
		cc, err := confChange(&MemberChange{Op: MemberChange_REMOVE, Member: record(m.id)}, false)
		if err != nil {
			s.d.Fatalf(s.t, "%v", err)
		}
		msg.Entries = []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: must(proto.Marshal(cc))}}
	default:
		h := header{requestID{from, 1, 1000 + next}, 1}
		msg.Entries = []*raftpb.Entry{{Index: &next, Term: &term, Data: encodeEntry(h, []byte(data))}}
	}
	if value == int32(raftpb.MsgSnap) {
		msg.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &logTerm, ConfState: &raftpb.ConfState{}}}
	}
	m.step(input{messages: []*raftpb.Message{msg}})
	s.c.logf("%s", fmt.Sprintf("%d: refused %d messages so far, %s", m.id, m.core.refused, m.seen))
}
