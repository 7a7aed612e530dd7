package raftnode

import (
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// core makes every decision of a node. It is a plain struct around raft.RawNode: step takes what happened and
// says what to do. It has no goroutine, channel, clock or file, and no randomness but the one it is given, so a
// simulator can drive it through any order of events.
//
// Its owner must carry out the outputs so:
//   - appends in order, each on the disk before it comes back in input.stored;
//   - applies in order, each applied before it comes back in input.applied; none of either kind is ever lost;
//   - messages to peers may be lost, doubled, delayed and reordered;
//   - an append that carries a snapshot comes back only once the state machine was restored from it.
type core struct {
	id            uint64
	incarnation   uint64
	rn            *raft.RawNode
	storage       *storage
	electionTicks int
	keepEntries   uint64
	intn          func(n int) int // 0 to n-1, at random
	log           *slog.Logger

	now    int // ticks since the start
	term   uint64
	lead   uint64 // 0: none is known
	state  raft.StateType
	commit uint64
	last   uint64 // the newest entry in raft's log, on the disk or not
	table  *memberTable
	heard  map[uint64]int // by member id: the tick in which it was last heard
	led    int            // the tick in which it became leader, where it leads
	stand  int            // the tick in which to stand for election, since the leader's process is gone; 0: not
	tries  int            // how often more, should that election be tied

	repeated uint64 // proposals that were handed to a leader again
	refused  uint64 // peers' messages that did not reach raft

	restoring uint64 // the newest snapshot that raft took over; the state machine gets there later
	appending int    // appends that have not come back
	applying  int    // entries in applies that have not come back

	proposals proposals
	reads     reads

	out outputs
}

// input is what happened since the last step. Whatever is empty did not happen.
type input struct {
	ticks       int
	stored      []*raftpb.Message // appends that are on the disk, in order
	applied     []appliedBatch    // applies that are applied, in order
	table       *memberTable      // that of a snapshot which was restored; nil: none was
	messages    []*raftpb.Message // from peers, of the right form (transport's validate)
	unreachable []uint64          // members to which something was lost
	down        []uint64          // members whose process is gone: the stream broke and dialling is refused
	snapshots   []snapshotReport
	proposals   []proposal // in order of their sequence
	read        uint64     // a reader's token; 0: nobody reads
}

type appliedBatch struct {
	message *raftpb.Message
	own     []uint64     // sequences of this member's requests that were answered
	table   *memberTable // nil: membership did not change
}

type snapshotReport struct {
	id uint64
	ok bool
}

// outputs is what to do now, in no particular order between its fields.
type outputs struct {
	messages []*raftpb.Message // to peers; MsgSnap means: send the state as of now
	appends  []*raftpb.Message // MsgStorageAppend
	applies  []*raftpb.Message // MsgStorageApply
	reads    []uint64          // tokens of readers that may go on
	lost     []uint64          // sequences of membership changes that may or may not happen; some may have their result
}

type coreConfig struct {
	id, incarnation uint64
	storage         *storage
	table           *memberTable
	electionTicks   int // heartbeats come each ticksPerHeartbeat
	keepEntries     uint64
	intn            func(n int) int
	log             *slog.Logger
	raftLog         raft.Logger
}

const (
	maxMessageBytes     = 512 << 10 // of entries in one message to a peer
	maxUncommittedBytes = 64 << 20  // in the leader's log; past it proposals wait
	maxApplyingBytes    = 16 << 20  // handed out to be applied and not back yet
	maxInflightMessages = 256       // to one follower, unanswered
	maxAppending        = 256       // appends on their way to the disk; past it own proposals wait
	maxLogBytes         = 64 << 20  // of entries in memory; past it even a live follower gets a snapshot
)

func newCore(c coreConfig) (*core, error) {
	last, err := c.storage.LastIndex()
	if err != nil {
		return nil, err
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        c.id,
		ElectionTick:              c.electionTicks,
		HeartbeatTick:             ticksPerHeartbeat,
		Storage:                   c.storage,
		Applied:                   c.storage.applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  maxApplyingBytes,
		MaxUncommittedEntriesSize: maxUncommittedBytes,
		MaxInflightMsgs:           maxInflightMessages,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    c.raftLog,
		StepDownOnRemoval:         true,
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	status := rn.BasicStatus()
	n := &core{
		id: c.id, incarnation: c.incarnation, rn: rn, storage: c.storage, electionTicks: c.electionTicks,
		keepEntries: c.keepEntries, intn: c.intn, log: c.log,
		term: status.HardState.GetTerm(), commit: status.HardState.GetCommit(), last: last,
		table: c.table, heard: map[uint64]int{},
		proposals: proposals{pending: map[uint64]*proposal{}, next: 1, low: 1},
	}
	if v := c.storage.conf.GetVoters(); len(v) == 1 && v[0] == c.id {
		_ = rn.Campaign() // nobody else could lead: no reason to wait for an election timeout
	}
	return n, nil
}

// step lets what happened take effect. The outputs are the caller's.
func (c *core) step(in input) outputs {
	c.out = outputs{}
	if in.table != nil {
		c.table = in.table
	}
	for _, m := range in.stored {
		c.stored(m)
	}
	for _, b := range in.applied {
		c.applied(b)
	}
	for _, m := range in.messages {
		c.receive(m)
	}
	for _, id := range in.unreachable {
		c.rn.ReportUnreachable(id)
	}
	for _, r := range in.snapshots {
		status := raft.SnapshotFinish
		if !r.ok {
			status = raft.SnapshotFailure
		}
		c.rn.ReportSnapshot(r.id, status)
	}
	if len(in.down) > 0 {
		c.drain() // who leads may just have changed
	}
	for _, id := range in.down {
		c.peerDown(id)
	}
	for range in.ticks {
		c.tick()
	}
	c.drain()
	for i := range in.proposals {
		c.addProposal(&in.proposals[i])
	}
	c.propose()
	if in.read != 0 {
		c.startRead(in.read)
	}
	c.drain()
	return c.out
}

// call lets f use the core between two steps, and returns what follows from it.
func (c *core) call(f func(*core)) outputs {
	c.out = outputs{}
	f(c)
	c.drain()
	return c.out
}

// drain takes from raft all that it has ready.
func (c *core) drain() {
	for c.rn.HasReady() {
		rd := c.rn.Ready()
		term, lead := c.term, c.lead
		if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
			c.term, c.commit = rd.HardState.GetTerm(), rd.HardState.GetCommit()
		}
		if rd.SoftState != nil {
			if c.state != raft.StateLeader {
				c.led = c.now
			}
			c.lead, c.state = rd.SoftState.Lead, rd.SoftState.RaftState
		}
		if !raft.IsEmptySnap(rd.Snapshot) {
			c.last = rd.Snapshot.GetMetadata().GetIndex()
			c.restoring = c.last
		}
		if n := len(rd.Entries); n > 0 {
			c.last = rd.Entries[n-1].GetIndex()
		}
		for _, m := range holdVotes(rd.Messages) {
			c.emit(m)
		}
		for _, r := range rd.ReadStates {
			c.confirmRead(r)
		}
		if c.term != term || c.lead != lead {
			c.leaderChanged()
		}
	}
}

// holdVotes has a candidate ask for votes only once its own term and vote are on the disk. With AsyncStorageWrites raft
// (v3.7.0) lets the requests go out at once, since the candidate's own vote counts only when it is durable. But two of
// three votes are enough without it: such a leader, killed before its write, comes back without its term, is elected in
// the same term again by whoever elected it before, and writes other entries under indexes and terms that were used.
//
// It returns the messages without those requests, which go with the answers to the append.
func holdVotes(messages []*raftpb.Message) []*raftpb.Message {
	i := slices.IndexFunc(messages, func(m *raftpb.Message) bool { return m.GetTo() == raft.LocalAppendThread })
	if i < 0 {
		return messages // then nothing of it waits for the disk
	}
	write := messages[i]
	return slices.DeleteFunc(messages, func(m *raftpb.Message) bool {
		vote := m.GetType() == raftpb.MsgVote
		if vote {
			write.Responses = append(write.Responses, m)
		}
		return vote
	})
}

func (c *core) emit(m *raftpb.Message) {
	switch m.GetTo() {
	case raft.LocalAppendThread:
		c.appending++
		c.out.appends = append(c.out.appends, m)
	case raft.LocalApplyThread:
		c.applying += len(m.GetEntries())
		c.out.applies = append(c.out.applies, m)
	default:
		c.tell(m)
	}
}

// stored takes note that an append is on the disk.
func (c *core) stored(m *raftpb.Message) {
	c.appending--
	// Storage before raft: once raft hears that entries are stable it reads them from there.
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		if err := c.storage.install(m.GetSnapshot()); err != nil {
			panic(fmt.Sprintf("install snapshot %d in a log at %d: %v", m.GetSnapshot().GetMetadata().GetIndex(), c.storage.applied, err))
		}
	}
	if err := c.storage.append(m.GetEntries()); err != nil {
		panic(fmt.Sprintf("append %d entries: %v", len(m.GetEntries()), err))
	}
	c.respond(m)
	c.releaseReads()
}

// applied takes note that entries are in the state machine.
func (c *core) applied(b appliedBatch) {
	entries := b.message.GetEntries()
	c.applying -= len(entries)
	c.storage.applied = max(c.storage.applied, entries[len(entries)-1].GetIndex())
	if b.table != nil {
		c.table = b.table
	}
	for _, sequence := range b.own {
		c.forget(sequence)
	}
	c.respond(b.message)
	c.releaseReads()
	c.compact()
}

// respond delivers the answers that were waiting for a write.
func (c *core) respond(m *raftpb.Message) {
	for _, r := range m.GetResponses() {
		if r.GetTo() == c.id {
			_ = c.rn.Step(r) // it fails where this member was removed meanwhile: then nobody wants the answer
		} else {
			c.tell(r)
		}
	}
}

// configure has raft take the conf change at index. The caller applies the entry that it comes from.
func (c *core) configure(cc *raftpb.ConfChangeV2, index uint64) *raftpb.ConfState {
	var conf *raftpb.ConfState
	if index <= c.restoring {
		conf = confAfter(c.storage.conf, cc) // raft has the configuration of a newer snapshot already
	} else {
		conf = c.rn.ApplyConfChange(cc)
	}
	c.storage.conf, c.storage.confAt = conf, index
	return conf
}

func (c *core) tick() {
	c.now++
	c.rn.Tick()
	if c.stand != 0 && c.now >= c.stand {
		_ = c.rn.Campaign() // it fails only for a member that may not lead
		c.standSoon()
	}
	c.retryProposals()
	c.retryRead()
	if c.now%ticksPerHeartbeat == 0 {
		c.promoteLearner()
	}
}

// peerDown hears that a member's process is gone: its connection broke and dialling it is refused. If it was the
// leader, this follower forgets it and stands after a small random wait. PreVote keeps that safe where it is
// wrong: members that still hear the leader do not vote.
func (c *core) peerDown(id uint64) {
	if id != c.lead || c.lead == c.id || c.lead == raft.None {
		return
	}
	if err := c.rn.ForgetLeader(); err != nil {
		return
	}
	c.tries = standTries
	c.standSoon()
}

// standTries bounds the elections that follow quickly on a leader's death. Two survivors that stand in the same
// moment tie, and without another quick try they would wait for a whole election timeout.
const standTries = 5

func (c *core) standSoon() {
	c.stand = 0
	if c.tries > 0 {
		c.stand = c.now + 1 + c.intn(ticksPerHeartbeat*(1+standTries-c.tries))
		c.tries--
	}
}

// leaderChanged hears of a new term or leader: what was handed to the old one may be lost.
func (c *core) leaderChanged() {
	if c.lead != raft.None {
		c.stand = 0
		c.requeueAll()
		c.resendRead()
	}
	c.out.lost = append(c.out.lost, c.proposals.changes...)
	c.proposals.changes = nil
}

// compact drops entries that are applied and no live follower needs any more, in steps that are worth the copy.
func (c *core) compact() {
	first, err := c.storage.FirstIndex()
	if err != nil {
		return
	}
	held := c.storage.applied + 1 - first
	if c.storage.applied < first || held < 2*c.keepEntries && c.storage.total <= maxLogBytes {
		return
	}
	to := c.storage.applied - min(c.keepEntries, held)
	if c.storage.total > maxLogBytes {
		// Bound the memory, not the number: half of it, counted from the newest.
		kept, i := 0, len(c.storage.bytes)
		for i > 0 && kept < maxLogBytes/2 {
			i--
			kept += c.storage.bytes[i]
		}
		to = max(to, min(first+uint64(i), c.storage.applied))
	} else if c.state == raft.StateLeader {
		c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			if id != c.id && c.alive(id) {
				to = min(to, max(pr.Match, pr.PendingSnapshot))
			}
		})
	}
	if to < first+c.keepEntries/2 && c.storage.total <= maxLogBytes {
		return
	}
	if err := c.storage.compact(to); err != nil {
		panic(fmt.Sprintf("compact the log in memory to %d of %d to %d: %v", to, first, c.storage.applied, err))
	}
}

// alive reports whether the member was heard within an election timeout.
func (c *core) alive(id uint64) bool {
	at, heard := c.heard[id]
	return id == c.id || heard && c.now-at <= c.electionTicks
}

// settled reports whether this leader has led for so long that it has heard every member that is alive. Before that
// silence means nothing: followers do not talk to each other, and a vote of one is enough to lead three.
func (c *core) settled() bool { return c.now-c.led > c.electionTicks }
