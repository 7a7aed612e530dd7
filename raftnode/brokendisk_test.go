package raftnode

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"raft3d/wal"
)

// failWrite has the disk of the member fail at what it would write next: the kernel itself refuses, the production wal
// finds out. It must take itself for dead, and the process ends with that. It reports whether there was something to
// write.
func (m *member) failWrite(device string) bool {
	d := m.disk.real
	var write func() error
	switch {
	case d == nil:
		return false
	case len(m.toLog) > 0 && !raft.IsEmptySnap(m.toLog[0].GetSnapshot()):
		write = func() error { return d.log.MarkSnapshot(m.toLog[0].GetSnapshot().GetMetadata()) }
	case len(m.toLog) > 0 && len(m.toLog[0].GetEntries()) > 0:
		write = func() error { return d.log.Append(hardState(m.toLog[0]), m.toLog[0].GetEntries()) }
	case m.disk.hard != nil && m.disk.hard != m.disk.durable:
		write = func() error { return d.log.Sync() }
	default:
		return false
	}
	mend, err := breakFiles(filepath.Join(d.dir(), "wal"), ".wal", device)
	d.must(err)
	if mend == nil {
		return false
	}
	first := write()
	d.must(mend(true)) // a kernel reports a failed sync once, and may have dropped what was to be written
	if !errors.Is(first, wal.ErrDead) {
		m.c.fatalf("the disk of %d fails, its log says %v", m.id, first)
	}
	if again := d.log.Append(&raftpb.HardState{Term: new(m.core.term + 1)}, nil); again != first {
		m.c.fatalf("the log of %d is dead, and says %v to the next append", m.id, again)
	}
	m.c.logf("%d: ends, since its disk failed", m.id)
	m.countDevice(device)
	m.disk.crash(nil)
	m.stop()
	return true
}

func (m *member) countDevice(device string) {
	if device == fullDisk {
		m.c.count("disk full")
	} else {
		m.c.count("fsync failed")
	}
}

// failSnapshot has the disk fail while the member writes a snapshot. One that is merely full costs nothing but the
// snapshot; the process ends after a sync that failed.
func (m *member) failSnapshot(device string) {
	d := m.disk.real
	if d == nil || m.receiving != nil {
		return
	}
	snap := filepath.Join(d.dir(), "snap")
	before := d.names(snap)
	broken := false
	err := m.state.Snapshot(func(index uint64, meta []byte, w io.WriterTo) error {
		if n := len(m.disk.files); n > 0 && m.disk.files[n-1].metadata.GetIndex() >= index {
			return nil
		}
		metadata, err := snapshotMetadata(index, meta)
		d.must(err)
		_, err = d.log.WriteSnapshot(metadata, writerTo(func(out io.Writer) (n int64, err error) {
			mend, err := breakFiles(snap, ".tmp", device)
			if err != nil {
				return 0, err
			}
			if mend == nil {
				return 0, syscall.ENOSPC // of the source, where no disk can be broken
			}
			broken = true
			d.must(mend(false)) // the file is closed soon
			return w.WriteTo(out)
		}))
		if err == nil {
			m.c.fatalf("%d wrote a snapshot to a disk that failed", m.id)
		}
		return err
	})
	if err == nil || !broken {
		return
	}
	if after := d.names(snap); !slices.Equal(before, after) {
		m.c.fatalf("%d: a snapshot that could not be written leaves %v, before it there were %v", m.id, after, before)
	}
	m.countDevice(device)
	if dead := errors.Is(err, wal.ErrDead); dead != (device == badSyncDisk) {
		m.c.fatalf("%d could not write a snapshot, and its log says %v", m.id, err)
	}
	m.c.logf("%d: can't write a snapshot: %s", m.id, filepath.Base(device))
	if device == badSyncDisk {
		m.disk.crash(nil)
		m.stop()
		return
	}
	m.c.count("disk full at a snapshot")
}

type writerTo func(io.Writer) (int64, error)

func (f writerTo) WriteTo(w io.Writer) (int64, error) { return f(w) }

func (d *realDisk) names(dir string) (names []string) {
	files, err := os.ReadDir(dir)
	d.must(err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}
