package raftnode

import (
	"fmt"
	"io"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"raft3d/wal"
)

const replayBatch = 1024 // entries that are applied at once

// Replay brings an empty state machine to where a member's log ends, without a cluster: for the last one that is left of
// it. All entries are applied, also those of which this log does not say that they are committed: whoever was told
// that a write is done was told so by a majority, which knew of the commit before this member did. A write in that tail
// that nobody was told of may come to be; its outcome was unknown. snapshot is the state that rec begins with; nil
// where it has none.
func Replay(rec wal.Recovered, snapshot io.Reader, sm StateMachine) error {
	if rec.Snapshot != nil {
		if err := sm.Restore(snapshot); err != nil {
			return fmt.Errorf("replay the log of member %x: %w", rec.Identity.MemberID, err)
		}
	}
	a, err := newApplier(sm, 0, 0) // nobody's: no request in the log is waited for
	if err != nil {
		return fmt.Errorf("replay the log of member %x: %w", rec.Identity.MemberID, err)
	}
	a.configure = func(cc *raftpb.ConfChangeV2) (*raftpb.ConfState, error) { return confAfter(a.members.conf, cc), nil }
	for entries := range slices.Chunk(rec.Entries, replayBatch) {
		if _, _, err := a.apply(entries); err != nil {
			return fmt.Errorf("replay the log of member %x: %w", rec.Identity.MemberID, err)
		}
	}
	return nil
}
