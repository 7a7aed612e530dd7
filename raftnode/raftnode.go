// Package raftnode makes a few nodes agree on one sequence of byte strings and feeds it to each node's
// StateMachine. What the strings mean is none of its business.
//
// There are four nouns: a Node, the StateMachine that it drives, a Member of the cluster, and a proposal, which is
// a byte string on its way into the log. Inside stand two more: the core, a plain struct around raft.RawNode in
// which every decision is made, without goroutine, clock or file; and the applier, which turns committed entries
// into calls of the StateMachine and drops what was applied before. A simulator can drive both; the Node is the
// shell that gives them disks, peers and time.
//
// It promises:
//   - Propose returns once the command is applied on this node, with what the StateMachine said of it. It happens
//     at most once, also when the leader dies in between; an error says whether it may still happen.
//   - ReadBarrier returns once every write that was acknowledged anywhere before the call is visible here.
//   - All nodes call Apply with the same commands in the same order.
//   - Membership, and which requests were applied, are stored in the same transaction as the state.
//
// A Node owns these goroutines, all started in Start and joined in Close: the loop (the core, and nothing that
// blocks), the log (the only one that appends to the wal), the apply goroutine (the only one that changes the
// StateMachine), the snapshotter, and those of its transport. Never call the core from another goroutine, never
// let the loop wait for a disk or a peer, and never drop or reorder what goes to the log or to apply.
package raftnode

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

//go:generate protoc --go_out=. --go_opt=paths=source_relative meta.proto

// StateMachine is the replicated state. Apply and Restore are called by one goroutine; the others by any.
type StateMachine interface {
	// Apply executes cmds in order and stores index and meta with their effects, all or nothing, in one
	// transaction. results[i] goes to the caller that proposed cmds[i], if it is on this node. meta is raftnode's
	// own opaque record; nil keeps the stored one. An error is fatal to the node.
	Apply(index uint64, cmds [][]byte, meta []byte) (results []any, err error)
	// Applied is the index and the meta of the last Apply or Restore; 0 and nil for a new state.
	Applied() (index uint64, meta []byte)
	// Snapshot calls fn with a state that stays as it is while fn runs; Apply goes on meanwhile.
	Snapshot(fn func(index uint64, meta []byte, state io.WriterTo) error) error
	// Restore replaces the state by one that a Snapshot wrote; after an error the old state stands.
	Restore(r io.Reader) error

	// Checkpoint tells the state as it was at a mark by a sum; 0 asks for the newest. Marks rise with what changes the
	// state, and equal states have the same sum at the same mark. ok is false where that mark is not reached, or not
	// remembered. Any goroutine may call it.
	Checkpoint(mark uint64) (at uint64, sum [32]byte, ok bool)
}

// Config is what a Node needs besides its log and its state machine. The zero value of each field works, except
// for the three addresses and names.
type Config struct {
	Name     string // of this member, as its operator calls it: node1
	RaftAddr string // host:port where peers reach it
	HTTPAddr string // host:port where clients reach it; told to the others, not used here
	Version  string // of the program; told to the others

	Heartbeat time.Duration // between a leader's heartbeats; 0: 100 ms
	Election  time.Duration // without a leader until a follower stands; randomised to up to twice that; 0: 1 s

	SnapshotBytes   int64  // growth of the log that makes a snapshot worth its cost; 0: 64 MiB; for a state that is bigger, its size up to 256 MiB
	SnapshotEntries uint64 // a snapshot each so many entries, whatever their size; 0: off
	KeepEntries     uint64 // kept in memory behind the applied index for slow followers; 0: 5,000, or SnapshotEntries if that is less

	MaxPending int // proposals of this node that may wait for their result; past it: Overloaded; 0: 8,192

	Logger *slog.Logger // nil: nothing is logged

	ObserveApply func(commands int, took time.Duration) // each call of StateMachine.Apply; nil: not observed
}

func (c Config) validate() (Config, error) {
	if c.Name == "" || c.RaftAddr == "" || c.HTTPAddr == "" {
		return c, fmt.Errorf("raftnode config: Name, RaftAddr and HTTPAddr are needed: have %q, %q and %q", c.Name, c.RaftAddr, c.HTTPAddr)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 100 * time.Millisecond
	}
	if c.Election == 0 {
		c.Election = 10 * c.Heartbeat
	}
	if c.Heartbeat < ticksPerHeartbeat*time.Millisecond {
		return c, fmt.Errorf("raftnode config: Heartbeat is %v, at least %v is needed", c.Heartbeat, ticksPerHeartbeat*time.Millisecond)
	}
	if c.Election < 3*c.Heartbeat {
		return c, fmt.Errorf("raftnode config: Election is %v, at least three heartbeats (%v) are needed", c.Election, 3*c.Heartbeat)
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = 64 << 20
	}
	if c.KeepEntries == 0 {
		c.KeepEntries = 5000
		if c.SnapshotEntries > 0 {
			c.KeepEntries = min(c.KeepEntries, c.SnapshotEntries)
		}
	}
	if c.MaxPending == 0 {
		c.MaxPending = 8192
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ObserveApply == nil {
		c.ObserveApply = func(int, time.Duration) {}
	}
	return c, nil
}

// ticksPerHeartbeat is how finely the core counts time: a fifth of a heartbeat, 20 ms by default, so that a node
// that learns of its leader's death can stand within a few tens of milliseconds.
const ticksPerHeartbeat = 5

// tick is the time between two ticks of the core.
func (c Config) tick() time.Duration { return c.Heartbeat / ticksPerHeartbeat }

// ErrRemoved is Node.Err of a member that was removed from its cluster: it stopped because it has no business
// there any more, and its directory is of no further use.
var ErrRemoved = errors.New("this member was removed from its cluster")

// ErrStale is Node.Err of a member whose directory is older than the one that it last ran with: it may have
// forgotten votes and acknowledged entries, so it must never take part again under its id.
var ErrStale = errors.New("this data directory is older than the one this member last ran with, so it may have forgotten" +
	" what it promised: remove this member from its cluster (curl -X DELETE http://OTHER_NODE/api/v1/cluster/members/NAME)," +
	" empty the directory, and start it with -join")

// ErrOtherCluster is Node.Err of a founder whose cluster is still empty, at an address where the members of another
// cluster expect one of their own. A member that lost its directory must not begin a second farm under its old
// address: remove it there, and start it with -join. (A farm that is really new needs another raft address.)
var ErrOtherCluster = errors.New("another cluster expects a member of its own at this raft address; if this node lost its" +
	" data directory, remove it there (curl -X DELETE http://OTHER_NODE/api/v1/cluster/members/NAME), empty the directory" +
	" and start it with -join instead of -bootstrap; a really new cluster needs another -raft address")

// ErrorKind says what a caller may do about an Error.
type ErrorKind int

// The kinds of Error.
const (
	Invalid     ErrorKind = iota + 1 // the arguments make no sense
	NotFound                         // no such member
	Conflict                         // not as the cluster stands now
	Unavailable                      // no leader with a quorum answered in time; see Outcome
	Overloaded                       // too many proposals wait; nothing was done
	Internal                         // the node stops, or something failed that should not
)

// The outcomes of a failed change.
const (
	NotApplied = "not_applied" // it did not happen and never will
	Unknown    = "unknown"     // it may have happened, or may yet
)

// Error is what the methods of Node return.
type Error struct {
	Kind    ErrorKind
	Field   string // the argument at fault: "id", "raft", ...; may be empty
	Detail  string // a sentence for a person
	Outcome string // NotApplied or Unknown; for changes that failed
}

func (e *Error) Error() string { return e.Detail }

func errorf(kind ErrorKind, field, format string, args ...any) *Error {
	return &Error{Kind: kind, Field: field, Detail: fmt.Sprintf(format, args...), Outcome: NotApplied}
}
