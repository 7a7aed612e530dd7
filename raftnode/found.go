package raftnode

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"raft3d/wal"
)

// Found begins a new cluster on a Log that was just made and with whatever sm holds, at index 0. The Log's identity is
// its only member, by that name; it tells its addresses when it starts. When Found returns, the state is in a snapshot
// that counts, so that a member with this log begins with it, whatever becomes of sm.
func Found(disk *wal.Log, sm StateMachine) error {
	id := disk.Identity()
	// A window, though of no requests: this cluster has something to lose (see Refused).
	_, _, _, err := found(disk, sm, &MemberRecord{MemberId: id.MemberID, Name: id.Name}, &Window{MemberId: id.MemberID})
	return err
}

// found makes self the only member of a new cluster. Its log begins behind a snapshot that holds the first
// configuration: whoever joins later gets it with the state, never by guessing. A crash anywhere in here leaves a log
// in which it is done again.
func found(disk *wal.Log, sm StateMachine, self *MemberRecord, windows ...*Window) (hard *raftpb.HardState, metadata *raftpb.SnapshotMetadata, bytes int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("found the cluster: %w", err)
		}
	}()
	m, err := foundingMembers(self)
	if err != nil {
		return nil, nil, 0, err
	}
	m.meta.Windows = windows
	meta, err := m.encode()
	if err != nil {
		return nil, nil, 0, err
	}
	first := uint64(1)
	if _, err := sm.Apply(first, nil, meta); err != nil {
		return nil, nil, 0, err
	}
	if metadata, bytes, err = writeSnapshot(disk, sm); err != nil {
		return nil, nil, 0, err
	}
	if err := disk.MarkSnapshot(metadata); err != nil {
		return nil, nil, 0, err
	}
	hard = &raftpb.HardState{Term: &first, Vote: new(uint64), Commit: &first}
	return hard, metadata, bytes, disk.Append(hard, nil)
}
