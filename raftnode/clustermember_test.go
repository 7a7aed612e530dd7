package raftnode

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// member does for one core and one applier what the Node does with goroutines: one thing at a time, when told to.
type member struct {
	c         *cluster
	id        uint64
	name      string
	disk      *memoryDisk
	up        bool
	gone      bool      // it stopped for good, since it was removed
	paused    bool      // its process stands still; what arrives waits in inbox
	inbox     []*packet // in the order in which they arrived
	keptState bool      // it was shut down in good order, and its state is kept

	state   *listState
	core    *core
	applier *applier

	toLog, toApply       []*raftpb.Message
	holdsLog, holdsApply bool  // settle leaves these alone
	news                 input // what the transport has to tell at the next step

	sequence, change uint64            // the newest of its requests
	waiting          map[uint64]string // commands without a result, by sequence
	changes          map[uint64]string // membership changes without a result, by sequence
	readers          []reader          // those that wait for the next round
	rounds           map[uint64][]reader
	round            uint64

	receiving *raftpb.Message // a snapshot that raft took and that is not in the state yet
	checked   int             // the commands that were compared with the history
	seen      string          // what was last said of its role
	steps     int
}

// reader waits to read; it must see all that was acknowledged when it came.
type reader struct {
	name string
	sees int
}

// start runs the member over its disk; state is nil after a crash, and kept after a clean shutdown.
func (m *member) start(state *listState) {
	rec := m.disk.recover()
	m.disk.incarnation++
	if state == nil {
		state = m.c.newState()
		if rec.snapshot != nil {
			if err := state.Restore(m.disk.open(rec.snapshot)); err != nil {
				m.c.fatalf("restore %d: %v", m.id, err)
			}
		}
	}
	*m = member{
		c: m.c, id: m.id, name: m.name, disk: m.disk, up: true, state: state,
		waiting: map[uint64]string{}, changes: map[uint64]string{}, rounds: map[uint64][]reader{},
	}
	a, err := newApplier(state, m.id, m.disk.incarnation)
	if err != nil {
		m.c.fatalf("start the applier of %d: %v", m.id, err)
	}
	a.configure = func(cc *raftpb.ConfChangeV2) (conf *raftpb.ConfState, err error) {
		m.dispatch(m.core.call(func(c *core) { conf = c.configure(cc, a.index) }))
		return conf, nil
	}
	m.applier = a
	// What is applied is committed, whether or not the record of it reached the disk.
	term, vote, commit := rec.hard.GetTerm(), rec.hard.GetVote(), max(rec.hard.GetCommit(), a.index)
	if n := len(rec.entries); n > 0 {
		term = max(term, rec.entries[n-1].GetTerm())
	}
	term = max(term, rec.snapshot.GetTerm())
	st, err := newStorage(rec.snapshot, rec.entries, 0, &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, a.members.conf, a.index, m.c.keepEntries)
	if err != nil {
		m.c.fatalf("open the log of %d: %v", m.id, err)
	}
	m.core, err = newCore(coreConfig{
		id: m.id, incarnation: m.disk.incarnation, storage: st, table: a.members.table(),
		electionTicks: m.c.electionTicks, keepEntries: m.c.keepEntries, intn: m.c.rng.IntN,
		log: slog.New(traceHandler{m.c, m.id}), raftLog: raftLog{slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		m.c.fatalf("start the core of %d: %v", m.id, err)
	}
	m.c.logf("%d: starts with snapshot %d, log to %d, commit %d on its disk, applied %d", m.id, rec.snapshot.GetIndex(), m.core.last, rec.hard.GetCommit(), a.index)
	m.step(input{})
}

// restart runs the member again: with the state that it kept at a clean shutdown, or without one.
func (m *member) restart() {
	var kept *listState
	if m.keptState {
		kept = m.state
		kept.reopenFarm(m.c)
	}
	m.start(kept)
}

// crash ends the process and loses what is not on the disk. Of the appends that wait, written were written but not
// acknowledged.
func (m *member) crash(written int) {
	for _, a := range m.toLog[:min(written, len(m.toLog))] {
		m.persist(a)
	}
	var underWay *raftpb.Message
	if rest := m.toLog[min(written, len(m.toLog)):]; len(rest) > 0 && raft.IsEmptySnap(rest[0].GetSnapshot()) {
		underWay = rest[0]
	}
	m.disk.crash(underWay)
	m.c.count("crash")
	m.c.logf("%d: crashes, %d of %d appends reached the disk", m.id, min(written, len(m.toLog)), len(m.toLog))
	m.stop()
}

// shutdown ends the process in good order; its state is kept.
func (m *member) shutdown() {
	m.disk.sync()
	m.c.logf("%d: shuts down", m.id)
	m.c.count("shutdown")
	m.stop()
	m.keptState = true
	if m.disk.real != nil {
		m.disk.real.close()
	}
}

func (m *member) stop() {
	m.up = false
	m.countUp()
	m.core.repeated, m.core.refused, m.core.now = 0, 0, 0
	m.abandonTransfer()
	if n := len(m.disk.files); n > 0 && m.disk.files[n-1].metadata.GetIndex() > m.disk.replay().snapshot.GetIndex() {
		m.disk.dropUnmarked()
	}
}

// abandonTransfer tells the sender of a snapshot that it did not arrive.
func (m *member) abandonTransfer() {
	if m.receiving == nil {
		return
	}
	if from := m.c.member(m.receiving.GetFrom()); from.up {
		from.news.snapshots = append(from.news.snapshots, snapshotReport{m.id, false})
	}
	m.receiving = nil
}

// step gives the core what happened and carries out what it says.
func (m *member) step(in input) {
	m.steps++
	in.snapshots = append(in.snapshots, m.news.snapshots...)
	in.unreachable = append(in.unreachable, m.news.unreachable...)
	m.news = input{}
	if len(m.readers) > 0 && m.core.readIdle() {
		m.round++
		m.rounds[m.round], m.readers = m.readers, nil
		in.read = m.round
	}
	m.dispatch(m.core.step(in))
}

func (m *member) dispatch(out outputs) {
	m.toLog = append(m.toLog, out.appends...)
	m.toApply = append(m.toApply, out.applies...)
	m.tellRole()
	for _, msg := range out.messages {
		if msg.GetType() == raftpb.MsgSnap {
			m.sendSnapshot(msg)
		} else {
			m.c.send(msg, nil)
		}
	}
	for _, token := range out.reads {
		for _, r := range m.rounds[token] {
			m.c.logf("%d: %s reads at index %d", m.id, r.name, m.applier.index)
			m.c.count("read confirmed")
			if len(m.state.Commands) < r.sees {
				m.c.fatalf("%s on %d sees %d commands, but %d were acknowledged before it came", r.name, m.id, len(m.state.Commands), r.sees)
			}
		}
		delete(m.rounds, token)
	}
	for _, sequence := range out.lost {
		if what, ok := m.changes[sequence]; ok {
			delete(m.changes, sequence)
			m.c.logf("%d: %s may or may not happen", m.id, what)
		}
	}
	m.c.check(m)
}

func (m *member) tellRole() {
	c := m.core
	now := fmt.Sprintf("%s, term %d, no leader", strings.ToLower(strings.TrimPrefix(c.state.String(), "State")), c.term)
	switch {
	case c.state == raft.StateLeader:
		now = fmt.Sprintf("leads term %d", c.term)
	case c.lead != raft.None:
		now = fmt.Sprintf("follows %d in term %d", c.lead, c.term)
	}
	if now != m.seen {
		m.seen = now
		if c.state == raft.StateLeader {
			m.c.count("leader elected")
		}
		m.c.logf("%d: %s", m.id, now)
	}
}

// runs reports whether the member's process does anything.
func (m *member) runs() bool { return m.up && !m.paused }

// record is what the member joins with.
func (m *member) record() *MemberRecord {
	r := record(m.id)
	r.Name = m.name
	return r
}

// pause stops the process as SIGSTOP does: it keeps all it has, and its peers notice nothing but its silence.
func (m *member) pause() {
	m.paused = true
	m.c.logf("%d: pauses", m.id)
	m.c.count("node paused")
}

// proceed lets a paused process go on, with all that arrived meanwhile and the one tick that a clock gives for many.
func (m *member) proceed() {
	if !m.paused {
		return
	}
	m.paused = false
	m.c.logf("%d: goes on", m.id)
	arrived := m.inbox
	m.inbox = nil
	m.tick()
	for _, p := range arrived {
		m.c.deliver(p)
	}
}

func (m *member) tick() {
	if !m.runs() {
		return
	}
	for _, peer := range m.c.members {
		if peer != m && peer.runs() && peer.core.table.removed[m.id] && !m.c.cuts[[2]uint64{m.id, peer.id}] && !m.c.cuts[[2]uint64{peer.id, m.id}] {
			if m.removed(peer.id); !m.up {
				return
			}
		}
	}
	m.step(input{ticks: 1})
}

// removed is what the transport tells a member that a peer refuses since it was removed. Only a voter sends it away for
// good (Node.Check); a member that knows it by itself, or from a learner, stays: the others may need its vote to find out.
func (m *member) removed(by uint64) {
	if r, ok := m.c.member(by).core.table.byID(by); !ok || !r.voter {
		return
	}
	m.c.logf("%d: hears from %d that it was removed, and stops for good", m.id, by)
	m.c.count("removed member stopped")
	m.stop()
	m.gone = true
}

// work does what the log and apply goroutines would find to do, and reports whether there was anything.
func (m *member) work() bool {
	if !m.runs() {
		return false
	}
	before := m.steps
	if !m.holdsApply {
		m.apply(len(m.toApply))
	}
	if !m.holdsLog {
		m.write(len(m.toLog))
	}
	if len(m.news.snapshots)+len(m.news.unreachable) > 0 {
		m.step(input{})
	}
	return m.steps != before
}

// write puts the oldest n appends on the disk and tells the core.
func (m *member) write(n int) {
	for range min(n, len(m.toLog)) {
		a := m.toLog[0]
		if !raft.IsEmptySnap(a.GetSnapshot()) {
			if m.holdsApply {
				return // the log waits until apply has restored the state
			}
			m.apply(len(m.toApply))
		}
		m.toLog = m.toLog[1:]
		m.persist(a)
		if s := a.GetSnapshot(); !raft.IsEmptySnap(s) {
			m.install(s.GetMetadata())
		}
		in := input{stored: []*raftpb.Message{a}}
		if !raft.IsEmptySnap(a.GetSnapshot()) {
			in.table = m.applier.members.table()
		}
		m.step(in)
		if !raft.IsEmptySnap(a.GetSnapshot()) {
			m.installed()
		}
	}
}

func (m *member) persist(a *raftpb.Message) {
	if s := a.GetSnapshot(); !raft.IsEmptySnap(s) {
		m.disk.mark(s.GetMetadata())
	}
	m.disk.append(hardState(a), a.GetEntries())
}

func (m *member) install(metadata *raftpb.SnapshotMetadata) {
	if err := m.state.Restore(m.disk.open(metadata)); err != nil {
		m.c.fatalf("restore %d: %v", m.id, err)
	}
	if err := m.applier.reload(); err != nil {
		m.c.fatalf("reload %d: %v", m.id, err)
	}
	m.checked = 0
	m.c.count("snapshot installed")
	m.c.logf("%d: has the state of index %d", m.id, metadata.GetIndex())
	window := m.applier.members.window(m.id)
	for _, sequence := range slices.Sorted(maps.Keys(m.waiting)) {
		if window.has(m.disk.incarnation, sequence) {
			m.c.logf("%d: the result of %s was lost with what the state skips", m.id, m.c.spell(m.waiting[sequence]))
			delete(m.waiting, sequence)
			m.dispatch(m.core.call(func(c *core) { c.forget(sequence) }))
		}
	}
}

// installed tells the sender that its snapshot is in place.
func (m *member) installed() {
	if from := m.c.member(m.receiving.GetFrom()); from.up {
		from.news.snapshots = append(from.news.snapshots, snapshotReport{m.id, true})
	}
	m.receiving = nil
}

// apply applies the oldest n batches at once and tells the core.
func (m *member) apply(n int) {
	n = min(n, len(m.toApply))
	if n == 0 {
		return
	}
	batches := make([]appliedBatch, n)
	var entries []*raftpb.Entry
	for i := range batches {
		batches[i].message = m.toApply[i]
		entries = append(entries, m.toApply[i].GetEntries()...)
	}
	if slices.ContainsFunc(entries, isChange) {
		// A membership change takes effect only once it is on the disk that it is committed.
		if m.holdsLog {
			return
		}
		m.flush()
	}
	m.toApply = m.toApply[n:]
	before := len(m.state.Commands)
	done, changed, err := m.applier.apply(entries)
	if err != nil {
		m.c.fatalf("apply on %d: %v", m.id, err)
	}
	if cmds := m.state.Commands[before:]; len(cmds) > 0 {
		m.c.logf("%d: applies %s", m.id, m.c.spell(cmds...))
	}
	if changed {
		batches[0].table = m.applier.members.table()
		for _, r := range batches[0].table.members {
			if before, known := m.core.table.byID(r.id); known && r.voter && !before.voter {
				m.c.count("learner promoted")
			}
		}
		m.c.logf("%d: index %d, %s", m.id, m.applier.index, describeMembers(m.applier.members))
		m.c.count("membership applied")
	}
	for _, f := range done {
		if f.change {
			m.finishChange(f)
			continue
		}
		batches[0].own = append(batches[0].own, f.sequence)
		if cmd, ok := m.waiting[f.sequence]; ok {
			delete(m.waiting, f.sequence)
			m.c.acked = max(m.c.acked, positionOf(f.value))
			m.c.logf("%d: %s is done", m.id, m.c.spell(cmd))
			m.c.told(cmd, f.value)
		}
	}
	m.step(input{applied: batches})
}

func isChange(e *raftpb.Entry) bool { return e.GetType() != raftpb.EntryNormal }

// flush has all on the disk that waits in front of a snapshot, commit index included.
func (m *member) flush() {
	for len(m.toLog) > 0 && raft.IsEmptySnap(m.toLog[0].GetSnapshot()) {
		m.write(1)
	}
	m.disk.sync()
}

func (m *member) finishChange(f finished) {
	what, ok := m.changes[f.sequence]
	if !ok {
		return
	}
	delete(m.changes, f.sequence)
	if f.err != nil {
		m.c.count("membership change refused")
		if strings.Contains(f.err.Error(), "a node that lost its data directory must first be removed") {
			m.c.count("empty disk refused")
		}
		m.c.logf("%d: %s is refused: %v", m.id, what, f.err)
		return
	}
	m.c.count("membership change made")
	m.c.logf("%d: %s is done", m.id, what)
}

// countUp adds what the core has counted to what has happened.
func (m *member) countUp() {
	if m.core == nil {
		return
	}
	m.c.happened["proposal carried over"] += int(m.core.repeated)
	m.c.happened["message refused"] += int(m.core.refused)
	m.c.happened["ticks"] += m.core.now
	m.c.happened["read retried"] += max(0, int(m.core.reads.context)-int(m.round))
}

// propose takes commands from callers.
func (m *member) propose(cmds ...string) {
	var in input
	for _, cmd := range cmds {
		m.sequence++
		m.waiting[m.sequence] = cmd
		in.proposals = append(in.proposals, proposal{sequence: m.sequence, cmd: []byte(cmd)})
	}
	m.step(in)
}

// giveUp lets the caller of a command go away.
func (m *member) giveUp(sequence uint64) {
	cmd := m.waiting[sequence]
	delete(m.waiting, sequence)
	neverSent := false
	m.dispatch(m.core.call(func(c *core) { neverSent = c.forget(sequence) }))
	outcome := "may or may not happen"
	if neverSent {
		outcome, m.c.never[cmd] = "never happens", true
	}
	m.c.logf("%d: nobody waits for %s any more, it %s", m.id, m.c.spell(cmd), outcome)
}

// changeMembers asks this member, as the leader, for a membership change.
func (m *member) changeMembers(op MemberChange_Op, r *MemberRecord) error {
	m.change++
	what := strings.ToLower(op.String()) + " " + r.Name
	m.changes[m.change] = what
	err := errNotLeader
	m.dispatch(m.core.call(func(c *core) { err = c.proposeChange(&MemberChange{Op: op, Member: r, Sequence: m.change}) }))
	if err != nil {
		delete(m.changes, m.change)
		m.c.logf("%d: %s: %v", m.id, what, err)
	}
	return err
}

// read lets a reader come.
func (m *member) read(name string) {
	m.readers = append(m.readers, reader{name, m.c.acked})
	m.step(input{})
}

// saveSnapshot writes the state as it is now; the log before it may go.
func (m *member) saveSnapshot(state *listState) {
	err := state.Snapshot(func(index uint64, meta []byte, w io.WriterTo) error {
		metadata, err := snapshotMetadata(index, meta)
		if err != nil {
			return err
		}
		if n := len(m.disk.files); n > 0 && m.disk.files[n-1].metadata.GetIndex() >= index {
			return nil
		}
		m.disk.writeSnapshot(metadata, w)
		m.disk.mark(metadata)
		return nil
	})
	if err != nil {
		m.c.fatalf("write a snapshot of %d: %v", m.id, err)
	}
}

// sendSnapshot sends the state as it is now in place of the one that raft names.
func (m *member) sendSnapshot(msg *raftpb.Message) {
	err := m.state.Snapshot(func(index uint64, meta []byte, w io.WriterTo) error {
		metadata, err := snapshotMetadata(index, meta)
		if err != nil {
			return err
		}
		if index < msg.GetSnapshot().GetMetadata().GetIndex() || !contains(metadata.GetConfState(), msg.GetTo()) {
			m.news.snapshots = append(m.news.snapshots, snapshotReport{msg.GetTo(), false})
			return nil
		}
		msg.Snapshot = &raftpb.Snapshot{Metadata: metadata}
		var b bytes.Buffer
		if _, err := w.WriteTo(&b); err != nil {
			return err
		}
		m.c.send(msg, b.Bytes())
		return nil
	})
	if err != nil {
		m.c.fatalf("send a snapshot from %d: %v", m.id, err)
	}
}

// receiveSnapshot takes a state from the leader: to the disk, and then to raft, which may have no use for it.
func (m *member) receiveSnapshot(msg *raftpb.Message, state []byte) {
	from := m.c.member(msg.GetFrom())
	if m.receiving != nil { // one at a time
		from.news.snapshots = append(from.news.snapshots, snapshotReport{m.id, false})
		return
	}
	metadata := msg.GetSnapshot().GetMetadata()
	stale := metadata.GetIndex() <= m.applier.index
	if !stale {
		m.disk.writeSnapshot(metadata, bytes.NewReader(state))
	}
	m.receiving = msg
	accepted := false
	m.dispatch(m.core.call(func(c *core) {
		c.receive(msg)
		c.drain()
		accepted = slices.ContainsFunc(c.out.appends, func(a *raftpb.Message) bool {
			return a.GetSnapshot().GetMetadata().GetIndex() == metadata.GetIndex()
		})
	}))
	if accepted {
		return
	}
	m.receiving = nil
	m.c.count("snapshot refused")
	if !stale {
		m.disk.dropUnmarked()
	}
	m.c.logf("%d: has no use for the state of index %d", m.id, metadata.GetIndex())
	from.news.snapshots = append(from.news.snapshots, snapshotReport{m.id, true})
}

// raftConf is the configuration that raft counts its votes by.
func (m *member) raftConf() *raftpb.ConfState {
	cfg := m.core.rn.Status().Config
	conf := &raftpb.ConfState{}
	for id := range cfg.Voters[0] {
		conf.Voters = append(conf.Voters, id)
	}
	for id := range cfg.Learners {
		conf.Learners = append(conf.Learners, id)
	}
	slices.Sort(conf.Voters)
	slices.Sort(conf.Learners)
	return conf
}
