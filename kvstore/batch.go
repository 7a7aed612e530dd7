package kvstore

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// batch is the commands of one Apply or several on their way into one transaction. It is the farm.Reader that they are
// decided on: what is stored, and over it what the batch has changed so far. Each object is read and decoded once, and
// written once, at the end, in order of keys, so that bbolt touches each page once. That pays: with one job a spool and
// printer.
type batch struct {
	tx   *bbolt.Tx // of the state before the batch, to read; in flush, the one to write
	head head
	meta []byte // nil: as it is stored

	commands int
	bytes    int // of objects that events are of

	memo *memo
	sums *sums
	limits
	err error // what a read met; a farm.Reader cannot say it

	number  uint64                   // of the batch, by which it knows its slots
	touched []*slot                  // in the order in which they were first asked for
	recent  *slot                    // the one that was asked for last
	slab    []slot                   // of the next ones
	buckets map[string]*bbolt.Bucket // of tx, before flush: bbolt opens one anew each time it is asked for
	shelves [kinds]shelf             // the same, of each kind

	tallies map[tallyKey]*tally // as the batch has left them so far
	events  []event             // to write, in order of revisions
	old     []version           // of objects that the batch has changed, to write: their events had them from the objects
	keys    map[string]uint64   // to write; 0: to delete
	answers map[uint64]*Kept    // to write, by sequence; nil: to delete

	scratch []byte
	key     [8]byte // see revisionKey
}

type slotKey struct {
	kind farm.Kind
	id   farm.ID
}

// slot is one object as the batch has left it so far.
type slot struct {
	key     slotKey
	batch   uint64 // the number of the last one that asked for it; to all others, what it says may be past
	created uint64 // the revision that made it
	raw     []byte // as it is stored; nil: there is no such object
	object  any    // raw decoded: a *farm.Printer, *farm.Filament or *farm.Job; never written to

	dirty    bool   // the batch has changed it
	event    int    // 1 + where in the batch's events the last change is that left it; 0: the batch has none
	loaded   any    // the object as the file has it; nil: it has none
	loadedAt uint64 // its created; 0: there is none

	remembered int // bytes of raw that the memo has counted
}

// newBatch begins where h is. A batch that is done with is spare: its memory is used again.
func newBatch(tx *bbolt.Tx, h head, m *memo, sums *sums, l limits, spare *batch) *batch {
	m.batches++
	b := &batch{
		tx: tx, head: h, memo: m, sums: sums, limits: l, number: m.batches,
		buckets: map[string]*bbolt.Bucket{},
		tallies: map[tallyKey]*tally{},
		keys:    map[string]uint64{},
		answers: map[uint64]*Kept{},
	}
	if spare != nil {
		b.touched, b.events, b.old, b.scratch = spare.touched[:0], spare.events[:0], spare.old[:0], spare.scratch
		b.slab = spare.slab
	}
	return b
}

// release lets go of what the batch holds, so that only its memory is left.
func (b *batch) release() *batch {
	clear(b.touched)
	clear(b.events)
	clear(b.old)
	return &batch{touched: b.touched, events: b.events, old: b.old, scratch: b.scratch, slab: b.slab}
}

// revisionKey is good until the next call: bbolt copies the keys that it keeps.
func (b *batch) revisionKey(revision uint64) []byte {
	binary.BigEndian.PutUint64(b.key[:], revision)
	return b.key[:]
}

// bucket is one of the state before the batch.
func (b *batch) bucket(name []byte) *bbolt.Bucket {
	bucket := b.buckets[string(name)]
	if bucket == nil {
		bucket = b.tx.Bucket(name)
		b.buckets[string(name)] = bucket
	}
	return bucket
}

// execute decides one command and takes up its changes. The error is that of a broken store.
func (b *batch) execute(cmd []byte) (result any, err error) {
	c, stamp, refusal := Decode(cmd)
	if refusal != nil {
		return refusal, nil
	}
	stamp.At = max(stamp.At, b.head.Time)
	if stamp.Key == "" {
		result = b.decide(c, stamp)
		return result, b.err
	}
	result, known := b.replay(c, stamp)
	if !known && b.err == nil {
		result = b.decide(c, stamp)
		b.keep(c, stamp, result)
	}
	return result, b.err
}

// decide returns a farm.Result or a *farm.Error.
func (b *batch) decide(c farm.Command, stamp farm.Stamp) any {
	defer func() {
		// The rules panic at a farm that cannot be, such as one where a stored spool is not found: here because reading
		// it failed, which b.err says better.
		if b.err != nil {
			_ = recover()
		}
	}()
	changes, err := farm.Decide(b, c, stamp)
	if b.err != nil {
		return nil
	}
	if err != nil {
		var refusal *farm.Error
		if !errors.As(err, &refusal) {
			panic(fmt.Sprintf("apply: %T was refused with %T: %v", c, err, err))
		}
		return refusal
	}
	var result farm.Result
	if len(changes) > 0 {
		b.head.Time = stamp.At
		result.ID = changes[0].ID
	}
	for i := range changes {
		raw := b.take(&changes[i], &stamp)
		if i == 0 {
			result.Object = raw
		}
	}
	result.Revision = b.head.Revision
	return result
}

// take gives the change its revision and makes it part of the batch. It returns the object as it is stored; nil for
// one that is deleted.
func (b *batch) take(c *farm.Change, stamp *farm.Stamp) []byte {
	b.head.Revision++
	s := b.slot(c.Kind, c.ID)
	before := s.raw
	if before == nil {
		s.created = b.head.Revision
	}
	object, raw := b.encode(c)
	b.record(c, stamp, s, raw)
	s.object, s.raw, s.dirty = object, raw, true
	b.count(c)
	if c.Kind == farm.KindJob {
		b.tallyJob(c.JobBefore, c.JobAfter)
	}
	b.hash(c, before, s.raw)
	return s.raw
}

// encode returns what the change leaves, decoded and as it is stored; two nils where that is nothing.
func (b *batch) encode(c *farm.Change) (object any, raw []byte) {
	encoded := b.scratch[:0]
	switch {
	case c.PrinterAfter != nil:
		c.PrinterAfter.Revision = b.head.Revision
		object, encoded = c.PrinterAfter, appendPrinter(encoded, c.PrinterAfter)
	case c.FilamentAfter != nil:
		c.FilamentAfter.Revision = b.head.Revision
		object, encoded = c.FilamentAfter, appendFilament(encoded, c.FilamentAfter)
	case c.JobAfter != nil:
		c.JobAfter.Revision = b.head.Revision
		object, encoded = c.JobAfter, appendJob(encoded, c.JobAfter)
	default:
		return nil, nil
	}
	b.scratch = encoded
	return object, bytes.Clone(encoded)
}

// hash takes the change into the running hash: SHA-256 over the hash so far, the revision, kind and id, and the
// object before and after, each text with its length in front.
func (b *batch) hash(c *farm.Change, before, after []byte) {
	data := append(b.scratch[:0], b.head.Hash[:]...)
	data = binary.BigEndian.AppendUint64(data, b.head.Revision)
	data = appendSized(data, string(c.Kind))
	data = appendSized(data, string(c.ID))
	data = appendSized(data, before)
	data = appendSized(data, after)
	b.head.Hash = sha256.Sum256(data)
	b.sums.add(b.head.mark(), b.head.Hash)
	b.scratch = data
}

func appendSized[T string | []byte](b []byte, text T) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(text)))
	return append(b, text...)
}

// count keeps the figures of the head.
func (b *batch) count(c *farm.Change) {
	h := &b.head
	switch c.Kind {
	case farm.KindPrinter:
		adjust(&h.Printers, c.PrinterBefore != nil, c.PrinterAfter != nil)
	case farm.KindFilament:
		adjust(&h.Filaments, c.FilamentBefore != nil, c.FilamentAfter != nil)
		if f := c.FilamentBefore; f != nil {
			h.Remaining -= f.Remaining
			h.Reserved -= f.Reserved
		}
		if f := c.FilamentAfter; f != nil {
			h.Remaining += f.Remaining
			h.Reserved += f.Reserved
		}
	case farm.KindJob:
		if j := c.JobBefore; j != nil {
			h.Jobs[slices.Index(farm.Statuses, j.Status)]--
		}
		if j := c.JobAfter; j != nil {
			h.Jobs[slices.Index(farm.Statuses, j.Status)]++
		}
	}
}

func adjust(n *uint64, was, is bool) {
	if was {
		*n--
	}
	if is {
		*n++
	}
}

// commit puts the batch into the file. The batch is of no use afterwards but to remember.
func (b *batch) commit(db *bbolt.DB) error {
	if err := b.tx.Rollback(); err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		b.tx = tx
		return b.flush()
	})
}

// flush writes what the batch changed, in order of keys.
func (b *batch) flush() error {
	for _, k := range farm.Kinds {
		if err := b.flushObjects(k); err != nil {
			return err
		}
	}
	for _, write := range []func() error{b.flushIndex, b.flushTallies, b.flushEvents, b.flushKeys} {
		if err := write(); err != nil {
			return err
		}
	}
	bucket := b.tx.Bucket(metaBucket)
	if b.meta != nil {
		if err := bucket.Put(raftKey, b.meta); err != nil {
			return fmt.Errorf("store meta: %w", err)
		}
	}
	if err := bucket.Put(formatKey, []byte(strconv.Itoa(format))); err != nil { // it may have been an older one
		return fmt.Errorf("store format: %w", err)
	}
	if err := bucket.Put(headKey, b.head.encode()); err != nil {
		return fmt.Errorf("store head: %w", err)
	}
	return nil
}

// flushObjects writes the objects of one kind and where their ids lead.
func (b *batch) flushObjects(k farm.Kind) error {
	type object struct {
		created uint64
		raw     []byte
	}
	objects, ids := make([]object, 0, len(b.touched)), make([]*slot, 0, len(b.touched))
	for _, s := range b.touched {
		if s.key.kind != k || !s.dirty {
			continue
		}
		if s.loadedAt != 0 && s.loadedAt != s.position() {
			objects = append(objects, object{s.loadedAt, nil})
		}
		if s.raw != nil {
			objects = append(objects, object{s.created, s.raw})
		}
		if s.loadedAt != s.position() {
			ids = append(ids, s)
		}
	}
	slices.SortFunc(objects, func(a, b object) int { return cmp.Compare(a.created, b.created) })
	slices.SortFunc(ids, func(a, b *slot) int { return cmp.Compare(a.key.id, b.key.id) })
	bucket := b.tx.Bucket(objectBucket(k))
	bucket.FillPercent = 1
	if k == farm.KindJob {
		bucket.FillPercent = fillPercent
	}
	for _, o := range objects {
		if err := put(bucket, b.revisionKey(o.created), o.raw); err != nil {
			return err
		}
	}
	bucket = b.tx.Bucket(idBucket(k))
	bucket.FillPercent = fillPercent
	for _, s := range ids {
		var value []byte
		if s.raw != nil {
			value = revisionKey(s.created)
		}
		if err := put(bucket, []byte(s.key.id), value); err != nil {
			return err
		}
	}
	return nil
}

// position is where the object is to be in the file; 0: nowhere.
func (s *slot) position() uint64 {
	if s.raw == nil {
		return 0
	}
	return s.created
}

// fillPercent of pages whose keys nearly always rise: half-full ones would be filled no further. Such are the numbers of
// jobs, ids that this program makes (UUIDv7), and each range of the index of jobs. Jobs grow a little as they go on, by
// some 50 bytes of 450, so a tenth is left free; printers and spools are few, and full pages of them are split when they change.
const fillPercent = 0.9

// put stores value under key; nil deletes it.
func put(bucket *bbolt.Bucket, key, value []byte) error {
	if value == nil {
		if err := bucket.Delete(key); err != nil {
			return fmt.Errorf("delete key %x: %w", key, err)
		}
		return nil
	}
	if err := bucket.Put(key, value); err != nil {
		return fmt.Errorf("store key %x: %w", key, err)
	}
	return nil
}
