package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

var _ farm.Reader = (*batch)(nil)

// Printer, Filament, Job, RunningJob and ActiveJobs are the farm as the batch has left it so far.

func (b *batch) Printer(id farm.ID) *farm.Printer {
	p, _ := b.slot(farm.KindPrinter, id).object.(*farm.Printer)
	return p
}

func (b *batch) Filament(id farm.ID) *farm.Filament {
	f, _ := b.slot(farm.KindFilament, id).object.(*farm.Filament)
	return f
}

func (b *batch) Job(id farm.ID) *farm.Job {
	j, _ := b.slot(farm.KindJob, id).object.(*farm.Job)
	return j
}

func (b *batch) RunningJob(printer farm.ID) (farm.ID, bool) {
	p := b.Printer(printer)
	if p == nil || p.CurrentJobID == nil {
		return "", false
	}
	return *p.CurrentJobID, true
}

func (b *batch) ActiveJobs(printer farm.ID) int {
	return int(b.tally(tallyKey{byPrinter, printer}).in(farm.Queued, farm.Running))
}

// slot finds the object of that kind and id, or the place where it would be.
func (b *batch) slot(kind farm.Kind, id farm.ID) *slot {
	if s := b.recent; s != nil && s.key.id == id && s.key.kind == kind {
		return s
	}
	slots := b.memo.of(kind)
	s := slots[id]
	if s == nil {
		s = b.newSlot()
		s.key = slotKey{kind, id}
		slots[id] = s
	}
	b.recent = s
	if s.batch == b.number {
		return s
	}
	if err := b.load(s); err != nil {
		b.err = err
	}
	b.touched = append(b.touched, s)
	return s
}

func (b *batch) newSlot() *slot {
	if len(b.slab) == 0 {
		b.slab = make([]slot, slabSlots)
	}
	s := &b.slab[0]
	b.slab = b.slab[1:]
	return s
}

const slabSlots = 32 // are allocated at once

// find is the slot of an object that the batch was asked for; nil: it was not.
func (b *batch) find(key slotKey) *slot {
	if !slices.Contains(farm.Kinds, key.kind) {
		return nil
	}
	if s := b.memo.slots[place(key.kind)][key.id]; s != nil && s.batch == b.number {
		return s
	}
	return nil
}

// shelf is where the file has the objects of one kind.
type shelf struct {
	objects, ids *bbolt.Bucket
	last         []byte // the greatest id
}

func (b *batch) shelf(k farm.Kind) *shelf {
	s := &b.shelves[place(k)]
	if s.ids == nil {
		s.objects, s.ids = b.tx.Bucket(objectBucket(k)), b.tx.Bucket(idBucket(k))
		s.last, _ = s.ids.Cursor().Last()
	}
	return s
}

// find is where the object of that id is; nil: nowhere. An id that is beyond all others is not looked for: nearly all
// new ones are.
func (s *shelf) find(id farm.ID) (position []byte) {
	if string(id) > string(s.last) {
		return nil
	}
	return s.ids.Get([]byte(id))
}

// load reads a slot from the file. What the memo has is believed only where the file has the same bytes.
func (b *batch) load(s *slot) error {
	was := *s
	*s = slot{key: s.key, batch: b.number, remembered: s.remembered}
	shelf := b.shelf(s.key.kind)
	if was.raw != nil && bytes.Equal(shelf.objects.Get(b.revisionKey(was.created)), was.raw) {
		s.created, s.raw, s.object = was.created, was.raw, was.object
		s.loaded, s.loadedAt = s.object, s.created
		return nil
	}
	position := shelf.find(s.key.id)
	if position == nil {
		return nil
	}
	stored := shelf.objects.Get(position)
	if len(position) != 8 || stored == nil {
		return fmt.Errorf("%s %q: its id leads to %x, where nothing is", s.key.kind, s.key.id, position)
	}
	object, err := decodeObject(s.key.kind, stored)
	if err != nil {
		return fmt.Errorf("%s %q: %w", s.key.kind, s.key.id, err)
	}
	s.created, s.raw, s.object = binary.BigEndian.Uint64(position), bytes.Clone(stored), object
	s.loaded, s.loadedAt = s.object, s.created
	return nil
}

// memo keeps decoded objects from one batch to the next, since decoding costs more than all else in a command, in the
// slots that the batches work with. It is no cache of the file: each batch compares the bytes of a slot when it first asks
// for it. It therefore need not be right, and is emptied when full.
type memo struct {
	batches uint64                   // how many there have been
	slots   [kinds]map[farm.ID]*slot // by place
	bytes   int                      // of raw objects
}

// memoBytes bounds the memo between batches: about 10,000 objects, which take twice that much memory again when decoded.
const memoBytes = 4 << 20

func (m *memo) of(k farm.Kind) map[farm.ID]*slot {
	slots := &m.slots[place(k)]
	if *slots == nil {
		*slots = map[farm.ID]*slot{}
	}
	return *slots
}

// remember keeps what a batch that was committed had in hand.
func (b *batch) remember() {
	m := b.memo
	for _, s := range b.touched {
		m.bytes += len(s.raw) - s.remembered
		s.remembered = len(s.raw)
		s.loaded = nil
		if s.raw == nil {
			delete(m.of(s.key.kind), s.key.id)
		}
	}
	if m.bytes <= memoBytes {
		return
	}
	for _, slots := range m.slots {
		clear(slots)
	}
	m.bytes = 0
	for _, s := range b.touched { // the newest are asked for again soonest
		if s.raw != nil {
			m.of(s.key.kind)[s.key.id] = s
			m.bytes += len(s.raw)
		}
	}
}
