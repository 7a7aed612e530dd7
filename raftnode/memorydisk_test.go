package raftnode

import (
	"bytes"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// memoryDisk is what the directory of a member in a simulated cluster holds. Like the wal it keeps records in the
// order in which they were written, keeps a commit index that came alone in memory, and finds out at a restart what
// they amount to.
type memoryDisk struct {
	incarnation uint64 // how often it was opened
	records     []diskRecord
	files       []diskSnapshot    // the newest two that count, and one that is not marked yet
	hard        *raftpb.HardState // the newest one
	durable     *raftpb.HardState // the newest one in records

	real *realDisk // nil: there are only the records
}

// diskRecord is one of the three.
type diskRecord struct {
	entry *raftpb.Entry
	hard  *raftpb.HardState
	mark  *raftpb.SnapshotMetadata
}

type diskSnapshot struct {
	metadata *raftpb.SnapshotMetadata
	state    []byte
}

// recoveredDisk is what a restart may believe: the newest snapshot that counts, and what follows on it.
type recoveredDisk struct {
	snapshot *raftpb.SnapshotMetadata
	entries  []*raftpb.Entry
	hard     *raftpb.HardState
}

// append is durable when it returns, but for a commit index that comes alone.
func (d *memoryDisk) append(hard *raftpb.HardState, entries []*raftpb.Entry) {
	if d.real != nil {
		d.real.must(d.real.log.Append(hard, entries))
	}
	if hard != nil {
		d.hard = hard
	}
	if len(entries) == 0 && d.hard.GetTerm() == d.durable.GetTerm() && d.hard.GetVote() == d.durable.GetVote() {
		return
	}
	for _, e := range entries {
		d.records = append(d.records, diskRecord{entry: proto.Clone(e).(*raftpb.Entry)})
	}
	d.record()
}

// sync makes a commit index durable that came alone.
func (d *memoryDisk) sync() {
	if d.real != nil {
		d.real.must(d.real.log.Sync())
	}
	d.record()
}

func (d *memoryDisk) record() {
	if d.hard != nil {
		d.records = append(d.records, diskRecord{hard: d.hard})
		d.durable = d.hard
	}
}

func (d *memoryDisk) writeSnapshot(metadata *raftpb.SnapshotMetadata, state io.WriterTo) {
	var b bytes.Buffer
	if _, err := state.WriteTo(&b); err != nil {
		panic(err)
	}
	d.files = append(d.files, diskSnapshot{metadata, b.Bytes()})
	if d.real != nil {
		_, err := d.real.log.WriteSnapshot(metadata, bytes.NewReader(b.Bytes()))
		d.real.must(err)
	}
}

// mark lets the snapshot count that was written last, and drops all but the newest two.
func (d *memoryDisk) mark(metadata *raftpb.SnapshotMetadata) {
	if d.real != nil {
		d.real.must(d.real.log.MarkSnapshot(metadata))
	}
	d.records = append(d.records, diskRecord{mark: metadata})
	d.files = d.files[max(0, len(d.files)-2):]
}

// dropUnmarked drops the snapshot that was written last and never counted.
func (d *memoryDisk) dropUnmarked() {
	last := d.files[len(d.files)-1].metadata
	d.files = d.files[:len(d.files)-1]
	if d.real != nil && d.real.log != nil {
		d.real.must(d.real.log.DropSnapshot(last.GetIndex(), last.GetTerm()))
	}
}

func (d *memoryDisk) open(metadata *raftpb.SnapshotMetadata) io.Reader {
	for _, f := range d.files {
		if f.metadata.GetIndex() == metadata.GetIndex() && f.metadata.GetTerm() == metadata.GetTerm() {
			return bytes.NewReader(f.state)
		}
	}
	return nil
}

// crash loses what was not durable; of the append that is under way, which may be nil, any part may have been.
func (d *memoryDisk) crash(underWay *raftpb.Message) {
	if d.real != nil {
		d.real.held = d.hard
		d.real.crash(underWay)
	}
	d.hard = d.durable
}

// recover is what a restart finds.
func (d *memoryDisk) recover() recoveredDisk {
	if d.real != nil {
		return d.real.open(d)
	}
	return d.replay()
}

// replay reads the records as the wal does: an entry replaces all from its index on; a snapshot keeps what follows
// on it only if the log has its index and term.
func (d *memoryDisk) replay() recoveredDisk {
	var r recoveredDisk
	base := func() uint64 { return r.snapshot.GetIndex() }
	for _, record := range d.records {
		switch {
		case record.hard != nil:
			r.hard = record.hard
		case record.entry != nil:
			if index := record.entry.GetIndex(); index > base() {
				r.entries = append(r.entries[:index-base()-1:index-base()-1], record.entry)
			} else {
				r.entries = nil
			}
		default:
			var rest []*raftpb.Entry
			if index := record.mark.GetIndex(); index > base() && index <= base()+uint64(len(r.entries)) {
				if at := index - base(); r.entries[at-1].GetTerm() == record.mark.GetTerm() {
					rest = r.entries[at:]
				}
			}
			r.snapshot, r.entries = record.mark, rest
		}
	}
	return r
}
