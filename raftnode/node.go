package raftnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"raft3d/raftnode/transport"
	"raft3d/wal"
)

// Node is one member that runs: the shell that gives the core and the applier a disk, peers and time.
type Node struct {
	cfg       Config
	id        uint64
	clusterID uint64
	disk      *wal.Log
	sm        StateMachine
	logger    *slog.Logger
	transport *transport.Transport

	known uint64 // committed when it started; until that is applied its table may lack members

	core    *core             // owned by the loop
	applier *applier          // owned by the apply goroutine
	peers   map[uint64]string // owned by the apply goroutine: whom the transport knows

	toLog   *mailbox[logJob]
	toApply *mailbox[applyJob]
	syncs   chan chan<- error // apply wants the commit index on the disk; each gets one answer
	syncing chan<- error      // owned by the log goroutine: the one that it has to answer; nil: none
	wake    chan struct{}     // the loop has something to do

	mu            sync.Mutex
	in            input                    // guarded by mu: for the loop's next step
	calls         []func(*core)            // guarded by mu: to be run by the loop
	waiters       map[uint64]chan<- result // guarded by mu: callers of Propose, by sequence; bounded by MaxPending
	changeWaiters map[uint64]chan<- result // guarded by mu: membership changes, by sequence
	nextSequence  uint64                   // guarded by mu
	nextChange    uint64                   // guarded by mu
	readers       *readRound               // guarded by mu: those who wait for the next round
	installed     chan struct{}            // guarded by mu: closed when the snapshot that is being received is in the state
	err           error                    // guarded by mu: why the node stopped
	stopped       bool                     // guarded by mu

	rounds    map[uint64]*readRound // owned by the loop: rounds under way, by token
	nextRound uint64                // owned by the loop

	snapshots      sync.Mutex    // one snapshot is written or received at a time
	latest         snapshotInfo  // guarded by snapshots
	snapshotWanted chan struct{} // a token: the log has grown enough

	table  atomic.Pointer[memberTable]
	seen   seen
	stop   chan struct{} // closed when the node stops, for whatever reason; err is set before
	joined sync.WaitGroup

	loopEnded chan struct{} // closed by the loop, last
	closed    sync.Once
}

// seen is what other goroutines may know of the loop and of apply without asking.
type seen struct {
	term, lead, commit, applied, first, last, state atomic.Uint64
	snapshotAt                                      atomic.Uint64 // index of the newest snapshot
	snapshotBytes                                   atomic.Int64  // its size

	elections, taken, sent, installed, repeated, refused, compared, differing, diverged atomic.Uint64 // see Counters
}

// result is what a waiter gets.
type result struct {
	value any
	err   error
}

// readRound is all the readers that share one ReadIndex.
type readRound struct{ done chan struct{} }

type snapshotInfo struct {
	index, term uint64
	bytes       int64
}

// Start runs a node over its log and its state machine. What the wal recovered decides where it stands; a state
// machine that is behind the snapshot is restored from it, and the rest of the log is applied as the cluster
// confirms it. A founder with an empty log founds its cluster first. The node is running when Start returns; its
// PeerHandler must be served at RaftAddr.
func Start(cfg Config, disk *wal.Log, rec wal.Recovered, sm StateMachine) (*Node, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, id: rec.Identity.MemberID, clusterID: rec.Identity.ClusterID, disk: disk, sm: sm,
		logger: cfg.Logger, peers: map[uint64]string{},
		toLog: newMailbox[logJob](), toApply: newMailbox[applyJob](), syncs: make(chan chan<- error), wake: make(chan struct{}, 1),
		waiters: map[uint64]chan<- result{}, changeWaiters: map[uint64]chan<- result{}, nextSequence: 1, nextChange: 1,
		rounds: map[uint64]*readRound{}, snapshotWanted: make(chan struct{}, 1), stop: make(chan struct{}), loopEnded: make(chan struct{}),
	}
	rec.Incarnation = transport.Incarnation(rec.Incarnation) // from here on it tells this start from that of a copy, too
	if err := n.recover(rec); err != nil {
		return nil, err
	}
	n.transport = transport.New(transport.Config{
		ClusterID: n.clusterID, MemberID: n.id, Incarnation: rec.Incarnation,
		Name: cfg.Name, Version: cfg.Version, Address: cfg.RaftAddr, Logger: cfg.Logger,
	}, n, n)
	n.transport.HandleCall(adminPath, n.answerAdmin)
	n.transport.HandleCall(comparePath, n.answerSum)
	n.publishMembers()
	n.publish()
	n.joined.Add(6)
	go n.runLoop()
	go n.runLog()
	go n.runApply()
	go n.runSnapshots()
	go n.runAnnounce()
	go n.runCompare()
	return n, nil
}

// recover brings the state machine and raft to where the disk says they were.
func (n *Node) recover(rec wal.Recovered) error {
	index, _ := n.sm.Applied()
	if rec.Identity.Founder && rec.Snapshot == nil && len(rec.Entries) == 0 {
		self := &MemberRecord{MemberId: n.id, Name: n.cfg.Name, Raft: n.cfg.RaftAddr, Http: n.cfg.HTTPAddr}
		hard, metadata, bytes, err := found(n.disk, n.sm, self)
		if err != nil {
			return err
		}
		rec.HardState, rec.Snapshot = hard, metadata
		n.remember(snapshotInfo{metadata.GetIndex(), metadata.GetTerm(), bytes})
	} else if rec.Snapshot != nil {
		if index < rec.Snapshot.GetIndex() {
			if err := n.restore(rec.Snapshot); err != nil {
				return err
			}
		}
		_, bytes, err := n.disk.Size()
		if err != nil {
			return err
		}
		n.remember(snapshotInfo{rec.Snapshot.GetIndex(), rec.Snapshot.GetTerm(), bytes})
	}
	a, err := newApplier(n.sm, n.id, rec.Incarnation)
	if err != nil {
		return err
	}
	n.applier, a.configure = a, n.configure
	if rec.Bare > a.index { // the state was not kept, so that they are to be applied
		if rec.Entries, err = n.disk.Reread(); err != nil {
			return err
		}
		rec.Bare = 0
	}
	last := rec.Snapshot.GetIndex() + uint64(len(rec.Entries))
	if a.index > last {
		return fmt.Errorf("the state is at index %d, but the log ends at %d: the log of this member was lost in part; remove the member, empty its data directory, and join again", a.index, last)
	}
	hard := rec.HardState
	if hard == nil {
		hard = &raftpb.HardState{}
	}
	lastTerm := rec.Snapshot.GetTerm()
	if k := len(rec.Entries); k > 0 {
		lastTerm = rec.Entries[k-1].GetTerm()
	}
	// What is applied is committed, whether or not the record of it reached the disk.
	commit, term := max(hard.GetCommit(), a.index, rec.Snapshot.GetIndex()), max(hard.GetTerm(), lastTerm)
	vote := hard.GetVote()
	hard = &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
	n.known = commit
	st, err := newStorage(rec.Snapshot, rec.Entries, rec.Bare, hard, a.members.conf, a.index, n.cfg.KeepEntries)
	if err != nil {
		return err
	}
	n.core, err = newCore(coreConfig{
		id: n.id, incarnation: rec.Incarnation, storage: st, table: a.members.table(),
		electionTicks: int(n.cfg.Election / n.cfg.tick()), keepEntries: n.cfg.KeepEntries,
		intn: rand.IntN, log: n.logger, raftLog: raftLog{n.logger},
	})
	return err
}

// Propose has the cluster agree on cmd and waits until it is applied on this node; it returns what the
// StateMachine said of it. It may be called on any member, and is carried over when the leader changes. cmd must
// not be changed afterwards. An *Error says, by its Outcome, whether the command may still take effect.
func (n *Node) Propose(ctx context.Context, cmd []byte) (any, error) {
	done := make(chan result, 1)
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return nil, n.stoppedError(NotApplied)
	}
	if len(n.waiters) >= n.cfg.MaxPending {
		n.mu.Unlock()
		return nil, errorf(Overloaded, "", "%d changes wait for their result on this node already; try again in a moment", n.cfg.MaxPending)
	}
	sequence := n.nextSequence
	n.nextSequence++
	n.waiters[sequence] = done
	n.in.proposals = append(n.in.proposals, proposal{sequence: sequence, cmd: cmd})
	n.mu.Unlock()
	wake(n.wake)

	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	n.mu.Lock()
	_, waiting := n.waiters[sequence]
	delete(n.waiters, sequence)
	n.mu.Unlock()
	if !waiting { // the result came at the same moment
		r := <-done
		return r.value, r.err
	}
	outcome := Unknown
	n.onLoop(func(c *core) {
		if c.forget(sequence) {
			outcome = NotApplied
		}
	})
	err := errorf(Unavailable, "", "no leader with a majority of the members confirmed the change in time")
	err.Outcome = outcome
	return nil, err
}

// ReadBarrier waits until this node's state holds every write that was acknowledged anywhere before the call
// (ReadIndex, Raft thesis 6.4). It costs one round of heartbeats, shared by all who wait. It returns an *Error of
// kind Unavailable when ctx ends first.
func (n *Node) ReadBarrier(ctx context.Context) error {
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return n.stoppedError(NotApplied)
	}
	if n.readers == nil {
		n.readers = &readRound{done: make(chan struct{})}
	}
	round := n.readers
	n.mu.Unlock()
	wake(n.wake)
	select {
	case <-round.done:
		return nil
	case <-ctx.Done():
		return errorf(Unavailable, "", "no leader with a majority of the members answered in time; consistency=stale reads this node's own state")
	case <-n.stop:
		return n.stoppedError(NotApplied)
	}
}

// onLoop runs f where it may use the core, and returns when it has run, or false when the node stopped before.
func (n *Node) onLoop(f func(*core)) bool {
	done := make(chan struct{})
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return false
	}
	n.calls = append(n.calls, func(c *core) { f(c); close(done) })
	n.mu.Unlock()
	wake(n.wake)
	select {
	case <-done:
		return true
	case <-n.loopEnded: // not stop: f may be running at that moment
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// PeerHandler serves what the other members send; the owner mounts it at RaftAddr.
func (n *Node) PeerHandler() http.Handler { return n.transport.Handler() }

// Done is closed when the node stops, by Close or because it must; Err says why.
func (n *Node) Done() <-chan struct{} { return n.stop }

// Err is why the node stopped by itself: ErrRemoved, ErrStale, or what its disk or state machine said. It is nil
// while it runs and after Close.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// fail stops the node because of err. What it has not acknowledged it never will.
func (n *Node) fail(err error) {
	n.mu.Lock()
	if n.stopped {
		n.mu.Unlock()
		return
	}
	n.stopped, n.err = true, err
	waiters := []map[uint64]chan<- result{n.waiters, n.changeWaiters}
	n.waiters, n.changeWaiters = map[uint64]chan<- result{}, map[uint64]chan<- result{}
	n.mu.Unlock()
	close(n.stop)
	for _, m := range waiters {
		for _, w := range m {
			w <- result{err: n.stoppedError(Unknown)}
		}
	}
}

func (n *Node) stoppedError(outcome string) *Error {
	e := errorf(Unavailable, "", "this node is shutting down; ask another one")
	e.Outcome = outcome
	return e
}

// Close hands the leadership over where this node has it and another can take it, then stops everything and
// returns when all has ended. It does not close the log or the state machine.
func (n *Node) Close() error {
	n.closed.Do(func() {
		if n.leads() {
			ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Election)
			_, err := n.handOver(ctx, 0)
			cancel()
			var e *Error
			if err != nil && !(errors.As(err, &e) && e.Kind == Conflict) {
				n.logger.Warn("leadership could not be handed over", "err", err)
			}
		}
		n.fail(nil)
		if err := n.transport.Close(); err != nil {
			n.logger.Warn("transport did not close cleanly", "err", err)
		}
		n.joined.Wait()
	})
	return n.Err()
}

func (n *Node) leads() bool { return raft.StateType(n.seen.state.Load()) == raft.StateLeader }

// Status is what this node knows by itself. It never blocks.
func (n *Node) Status() Status {
	lead := n.seen.lead.Load()
	s := Status{
		ClusterID: fmt.Sprintf("%016x", n.clusterID), Member: n.cfg.Name, MemberID: n.id, Role: "removed",
		Term: n.seen.term.Load(), CommitIndex: n.seen.commit.Load(), Applied: n.seen.applied.Load(),
		FirstIndex: n.seen.first.Load(), LastIndex: n.seen.last.Load(),
	}
	n.mu.Lock()
	s.Pending = len(n.waiters)
	n.mu.Unlock()
	table := n.table.Load()
	versions := map[uint64]string{n.id: n.cfg.Version}
	for _, p := range n.transport.Peers() {
		versions[p.ID] = p.Version
	}
	for _, m := range table.members {
		role := "learner"
		switch {
		case m.id == lead:
			role, s.Leader = "leader", m.name
		case m.voter:
			role = "voter"
		}
		if m.id == n.id {
			s.Role = role
		}
		s.Members = append(s.Members, Member{
			ID: m.name, MemberID: m.id, Role: role, Raft: m.raft, HTTP: m.http, Version: versions[m.id],
			Learner: m.staysLearner, LastContact: -1,
		})
	}
	if len(table.members) == 0 {
		s.Role = "learner" // it joins, and has no state yet
	}
	return s
}

// tickLength is for what outside the loop is counted in ticks.
func (n *Node) tickLength() time.Duration { return n.cfg.tick() }
