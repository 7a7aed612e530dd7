package wal

import (
	"bytes"
	"errors"
	"fmt"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// replayer is the state of the log as of the last record that was read.
type replayer struct {
	firstSegment uint64
	allocated    int64 // the length that a segment is made with; 0: not known
	metadata     []byte
	identity     Identity
	crc          uint32 // of everything so far; each segment begins with that of the one before
	unit         uint64 // number of the last whole unit
	state        hardState

	// entries is the end of the log, contiguous. What is under it was in segments that are deleted, unless base is
	// known: the snapshot that the entries follow on.
	entries   []*raftpb.Entry
	base      snapshotID
	baseKnown bool

	committedData uint64 // of so many committed entries the data is kept; 0: of all
	bare          uint64 // entries up to it have lost their data; 0: none has

	dropped   uint64         // highest index that was ever overwritten
	snapshots []keptSnapshot // all that have a record
}

// headRecords is how many records a segment begins with, all synced before the file gets its name: checksum, metadata,
// and the hard state (in the very first segment: the empty snapshot of a new log).
const headRecords = 3

// record takes in the nth record of a segment. The checksum does not cover a record's type, so each one is read
// strictly: taken for another type, it does not parse.
func (r *replayer) record(rec *walpb.Record, decoder etcdwal.Decoder, seq uint64, n int) error {
	kind := rec.GetType()
	head := [headRecords]int64{etcdwal.CrcType, etcdwal.MetadataType, etcdwal.StateType}
	if seq == 0 {
		head[2] = etcdwal.SnapshotType
	}
	if n < headRecords && kind != head[n] || n >= headRecords && (kind == etcdwal.CrcType || kind == etcdwal.MetadataType) {
		return fmt.Errorf("record %d of a segment is of type %d", n, kind)
	}
	switch kind {
	case etcdwal.CrcType:
		if len(rec.GetData()) > 0 {
			return errors.New("checksum record with data")
		}
		if seq != r.firstSegment || seq == 0 {
			if err := rec.Validate(decoder.LastCRC()); err != nil {
				return fmt.Errorf("the segment does not follow on the one before: %w", err)
			}
		}
		decoder.UpdateCRC(rec.GetCrc())
		return nil
	case etcdwal.MetadataType:
		return r.metadataRecord(rec.GetData())
	case etcdwal.StateType:
		return r.stateRecord(rec.GetData(), n < headRecords)
	case etcdwal.EntryType:
		return r.entryRecord(rec.GetData())
	case etcdwal.SnapshotType:
		return r.snapshotRecord(rec.GetData(), seq, n < headRecords)
	default:
		return fmt.Errorf("record of unknown type %d", kind)
	}
}

func (r *replayer) metadataRecord(b []byte) (err error) {
	if r.metadata == nil {
		r.metadata = bytes.Clone(b)
		r.identity, err = decodeIdentity(b)
		return err
	}
	if !bytes.Equal(r.metadata, b) {
		return errors.New("the segments are of different members")
	}
	return nil
}

func (r *replayer) stateRecord(b []byte, head bool) error {
	state, unit, err := decodeHardState(b)
	if err != nil {
		return err
	}
	switch {
	case head && r.unit == 0: // the units before it were in segments that are deleted
	case head && (unit != r.unit || state != r.state):
		return fmt.Errorf("the head of the segment repeats the hard state of unit %d, but the last one was %d", unit, r.unit)
	case !head && unit != r.unit+1:
		return fmt.Errorf("unit %d follows on unit %d", unit, r.unit)
	}
	r.state, r.unit = state, unit
	if keep := r.committedData; keep > 0 && state.commit > keep {
		r.strip(state.commit - keep)
	}
	return nil
}

// strip takes the data from the entries up to index, which are committed: they are not replaced any more.
func (r *replayer) strip(index uint64) {
	first, last := r.bounds()
	for i := max(first, r.bare+1); i <= min(index, last); i++ {
		r.entries[i-first].Data = nil
	}
	r.bare = max(r.bare, min(index, last))
}

func (r *replayer) entryRecord(b []byte) error {
	e := &raftpb.Entry{}
	if err := proto.Unmarshal(b, e); err != nil {
		return fmt.Errorf("entry: %w", err)
	}
	i := e.GetIndex()
	if i == 0 || e.GetTerm() == 0 || len(e.ProtoReflect().GetUnknown()) > 0 {
		return errors.New("malformed entry")
	}
	first, last := r.bounds()
	switch {
	case i <= last:
		r.dropped = max(r.dropped, last)
		keep := i - min(i, first)
		clear(r.entries[keep:])
		r.entries = r.entries[:keep]
		if i < first {
			r.baseKnown = false
		}
	case i > last+1:
		// What is between was in deleted segments. If it was not, nothing that starts further down will be chosen.
		r.entries, r.baseKnown = nil, false
	}
	if len(r.entries) == 0 && !(r.baseKnown && r.base.index == i-1) {
		r.base, r.baseKnown = snapshotID{index: i - 1}, false
	}
	r.entries = append(r.entries, e)
	return nil
}

func (r *replayer) snapshotRecord(b []byte, seq uint64, head bool) error {
	s := &walpb.Snapshot{}
	if err := proto.Unmarshal(b, s); err != nil {
		return fmt.Errorf("snapshot record: %w", err)
	}
	id := snapshotID{s.GetIndex(), s.GetTerm()}
	if head {
		if id != (snapshotID{}) {
			return errors.New("the log begins with a snapshot")
		}
		r.baseKnown = true
		return nil
	}
	if id.index == 0 || id.term == 0 || s.ConfState == nil || len(s.ProtoReflect().GetUnknown()) > 0 {
		return errors.New("malformed snapshot record")
	}
	r.snapshots = append(r.snapshots, keptSnapshot{id, seq})
	_, last := r.bounds()
	// Where it can't be known, the record is older than all the snapshots that the deletion of segments spared.
	if has, known := r.has(id); id.index > last || known && !has {
		r.dropped = max(r.dropped, last)
		r.entries, r.base, r.baseKnown = nil, id, true
	}
	return nil
}

// bounds are the indexes of the first and last entry; last is first-1 where there is none.
func (r *replayer) bounds() (first, last uint64) {
	return r.base.index + 1, r.base.index + uint64(len(r.entries))
}

// has says whether the log has the entry that a snapshot ends with, if that can be known.
func (r *replayer) has(id snapshotID) (has, known bool) {
	first, last := r.bounds()
	switch {
	case id.index >= first && id.index <= last:
		return r.entries[id.index-first].GetTerm() == id.term, true
	case id.index == r.base.index:
		return r.baseKnown && r.base == id, r.baseKnown
	default:
		return false, id.index > last
	}
}
