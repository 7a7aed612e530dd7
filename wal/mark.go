package wal

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// MarkSnapshot makes a snapshot count whose file WriteSnapshot has written, and drops what is not needed any more: all
// but the last two snapshots, and the log before the older of them. After it, the log of a snapshot that was received
// holds nothing that contradicts it. It must come before the hard state whose commit index the snapshot brings.
//
// Marking one that counts already does nothing; one that is older than the newest that counts is dropped, file and all,
// without an error. It belongs to the goroutine of Append.
func (l *Log) MarkSnapshot(meta *raftpb.SnapshotMetadata) error {
	if err := l.failed(); err != nil {
		return err
	}
	id, err := idOf(meta)
	if err != nil {
		return err
	}
	if n := len(l.kept); n > 0 && id.index <= l.kept[n-1].index {
		if l.counts(id) {
			return nil
		}
		return l.DropSnapshot(id.index, id.term)
	}
	// File before record: a record without its file cannot be recovered.
	if _, err := os.Stat(id.path(l.dir)); err != nil {
		return fmt.Errorf("mark snapshot: %w", err)
	}
	record := &walpb.Snapshot{Index: meta.Index, Term: meta.Term, ConfState: meta.ConfState}
	if err := l.etcd.SaveSnapshot(record); err != nil { // it syncs
		return l.die(fmt.Errorf("mark snapshot %s: %w", id.name(), err))
	}
	list, err := segments(walDir(l.dir))
	if err != nil || len(list) == 0 {
		return l.die(fmt.Errorf("mark snapshot %s: list the log: %w", id.name(), err))
	}
	l.last = max(l.last, id.index)
	l.state.seen(id.term)
	l.state.commit = max(l.state.commit, id.index)
	l.appended.Store(0)

	l.mu.Lock()
	l.kept = append(l.kept, keptSnapshot{id, list[len(list)-1].seq})
	l.kept = slices.Clone(l.kept[max(0, len(l.kept)-2):])
	older := l.kept[0]
	full := len(l.kept) == 2
	l.mu.Unlock()
	if err := l.noteReached(); err != nil {
		return err
	}
	if !full {
		return nil // the fall-back from the only snapshot is the whole log
	}
	if err := l.purge(list, older); err != nil {
		return l.die(fmt.Errorf("drop what is older than snapshot %s: %w", older.name(), err))
	}
	return nil
}

// purge deletes what a start from the older snapshot does not need. It needs the segment with its record, and all that
// may hold an entry of its index or above: also its own, since by that entry a replay tells whether what follows was
// kept or dropped.
func (l *Log) purge(list []segment, older keptSnapshot) error {
	// The segments stay locked by etcd, and so allocated, until it is told; LOCK is what keeps others out.
	if err := l.etcd.ReleaseLockTo(math.MaxUint64); err != nil {
		return err
	}
	// A name tells the last entry before the segment, but what was overwritten may have gone higher.
	if older.index > l.dropped {
		deleted := false
		// From the oldest on: whatever part of it a crash lets happen, the rest has no gap.
		for i := 0; i+1 < len(list) && list[i].seq < older.segment && list[i+1].index <= older.index; i++ {
			if err := remove(filepath.Join(walDir(l.dir), list[i].name)); err != nil {
				return err
			}
			deleted = true
		}
		if deleted {
			if err := syncDir(walDir(l.dir)); err != nil {
				return err
			}
		}
	}
	files, err := snapshotFiles(l.dir)
	if err != nil {
		return err
	}
	for _, id := range files {
		if id.index < older.index {
			if err := remove(id.path(l.dir)); err != nil {
				return err
			}
		}
	}
	return nil
}

// DropSnapshot deletes the file of a snapshot that was written and is not to count. It refuses one that counts. Any
// goroutine may call it.
func (l *Log) DropSnapshot(index, term uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return l.dead
	}
	id := snapshotID{index, term}
	if l.counts(id) {
		return fmt.Errorf("drop snapshot %s: it counts", id.name())
	}
	if err := remove(id.path(l.dir)); err != nil {
		return fmt.Errorf("drop snapshot: %w", err)
	}
	return nil
}

func (l *Log) counts(id snapshotID) bool {
	return slices.ContainsFunc(l.kept, func(k keptSnapshot) bool { return k.snapshotID == id })
}
