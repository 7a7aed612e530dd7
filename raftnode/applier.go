package raftnode

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// applier turns committed entries into calls of the StateMachine. It drops requests that were applied before, and
// decides membership changes, from replicated state only, so every node does the same. It has no goroutine; the
// node's apply goroutine or a simulator owns it.
type applier struct {
	sm          StateMachine
	self        uint64 // this member
	incarnation uint64 // of this member's directory
	index       uint64 // of the last applied entry
	members     *members

	// configure has raft take a conf change and answers with the configuration that follows from it. It may wait
	// for the goroutine that owns raft: the only rendezvous of the two.
	configure func(*raftpb.ConfChangeV2) (*raftpb.ConfState, error)
}

// finished is the result of one of this member's own requests. Commands and membership changes are numbered apart.
type finished struct {
	sequence uint64
	change   bool
	value    any   // what the StateMachine said of a command
	err      error // a membership change that was refused
}

// newApplier takes up where the state machine stands.
func newApplier(sm StateMachine, self, incarnation uint64) (*applier, error) {
	a := &applier{sm: sm, self: self, incarnation: incarnation}
	return a, a.reload()
}

// reload reads the state machine's own index and record: at the start, and after a Restore.
func (a *applier) reload() error {
	index, meta := a.sm.Applied()
	m, err := decodeMembers(meta)
	if err != nil {
		return err
	}
	a.index, a.members = index, m
	return nil
}

// apply applies entries, which follow on the last applied one without a gap. It returns the results of this
// member's own requests, and whether the membership changed. An error is fatal.
func (a *applier) apply(entries []*raftpb.Entry) (done []finished, changed bool, err error) {
	for len(entries) > 0 {
		n := 0
		for n < len(entries) && entries[n].GetType() == raftpb.EntryNormal {
			n++
		}
		if n > 0 {
			done, err = a.applyCommands(entries[:n], done)
		} else {
			// A conf change ends its batch: its effect is in the transaction of its own index.
			n, changed = 1, true
			done, err = a.applyChange(entries[0], done)
		}
		if err != nil {
			return nil, false, err
		}
		entries = entries[n:]
	}
	return done, changed, nil
}

func (a *applier) advance(e *raftpb.Entry) {
	if e.GetIndex() != a.index+1 {
		panic(fmt.Sprintf("apply: index %d after %d", e.GetIndex(), a.index))
	}
	a.index, a.members.meta.Term = e.GetIndex(), e.GetTerm()
}

func (a *applier) applyCommands(entries []*raftpb.Entry, done []finished) ([]finished, error) {
	cmds := make([][]byte, 0, len(entries))
	type ownCommand struct {
		sequence uint64
		at       int // in cmds
	}
	var own []ownCommand
	for _, e := range entries {
		a.advance(e)
		if len(e.GetData()) == 0 {
			continue // a new leader's first entry
		}
		h, cmd, err := decodeEntry(e.GetData())
		if err != nil || a.members.removed(h.member) {
			continue // nobody can wait for it: no member of ours wrote it
		}
		switch a.members.admit(h) {
		case outdated:
			if h.member == a.self && h.incarnation == a.incarnation {
				return nil, fmt.Errorf("apply index %d: %w (incarnation %d, the cluster knows %d)",
					e.GetIndex(), ErrStale, a.incarnation, a.members.window(a.self).Incarnation)
			}
			continue
		case duplicate:
			continue
		}
		if h.member == a.self && h.incarnation == a.incarnation {
			own = append(own, ownCommand{h.sequence, len(cmds)})
		}
		cmds = append(cmds, cmd)
	}
	results, err := a.store(cmds)
	if err != nil {
		return nil, err
	}
	for _, o := range own {
		done = append(done, finished{sequence: o.sequence, value: results[o.at]})
	}
	return done, nil
}

func (a *applier) store(cmds [][]byte) ([]any, error) {
	meta, err := a.members.encode()
	if err != nil {
		return nil, fmt.Errorf("encode membership record: %w", err)
	}
	results, err := a.sm.Apply(a.index, cmds, meta)
	if err != nil {
		return nil, fmt.Errorf("apply index %d: %w", a.index, err)
	}
	if len(results) != len(cmds) {
		panic(fmt.Sprintf("apply index %d: %d results for %d commands", a.index, len(results), len(cmds)))
	}
	return results, nil
}

// applyChange applies a membership change. It needs no window: a change is proposed by the leader alone, once, and
// check refuses what was made before.
func (a *applier) applyChange(e *raftpb.Entry, done []finished) ([]finished, error) {
	a.advance(e)
	c := decodeChange(e)
	refusal := a.members.check(c)
	cc, err := confChange(c, refusal != nil)
	if err != nil {
		return nil, err
	}
	conf, err := a.configure(cc)
	if err != nil {
		return nil, err
	}
	if refusal == nil {
		if err := a.members.apply(c, conf); err != nil {
			return nil, err
		}
	}
	if _, err := a.store(nil); err != nil {
		return nil, err
	}
	if c.Sequence != 0 && c.Proposer == a.self && c.Incarnation == a.incarnation {
		f := finished{sequence: c.Sequence, change: true}
		if refusal != nil {
			f.err = refusal
		}
		done = append(done, f)
	}
	return done, nil
}
