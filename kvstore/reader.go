package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"raft3d/farm"
)

var _ farm.Reader = (*batch)(nil)

// Printer, Filament, Job, RunningJob and ActiveJobs are the farm as the batch has left it so far.

func (b *batch) Printer(id farm.ID) (farm.Printer, bool) {
	p, ok := b.slot(slotKey{farm.KindPrinter, id}).object.(*farm.Printer)
	if !ok {
		return farm.Printer{}, false
	}
	return *p, true
}

func (b *batch) Filament(id farm.ID) (farm.Filament, bool) {
	f, ok := b.slot(slotKey{farm.KindFilament, id}).object.(*farm.Filament)
	if !ok {
		return farm.Filament{}, false
	}
	return *f, true
}

func (b *batch) Job(id farm.ID) (farm.Job, bool) {
	j, ok := b.slot(slotKey{farm.KindJob, id}).object.(*farm.Job)
	if !ok {
		return farm.Job{}, false
	}
	return *j, true
}

func (b *batch) RunningJob(printer farm.ID) (farm.ID, bool) {
	p, ok := b.Printer(printer)
	if !ok || p.CurrentJobID == nil {
		return "", false
	}
	return *p.CurrentJobID, true
}

func (b *batch) ActiveJobs(printer farm.ID) int {
	return int(b.tally(tallyKey{byPrinter, printer}).in(farm.Queued, farm.Running))
}

// slot finds the object of that key, or the place where it would be.
func (b *batch) slot(key slotKey) *slot {
	if s := b.slots[key]; s != nil {
		return s
	}
	if len(b.slab) == 0 {
		b.slab = make([]slot, slabSlots)
	}
	s := &b.slab[0]
	b.slab = b.slab[1:]
	s.key = key
	if err := b.load(s); err != nil {
		b.err = err
	}
	b.slots[key] = s
	b.touched = append(b.touched, s)
	return s
}

const slabSlots = 32 // are allocated at once

// load reads a slot from the file. What the memo has is believed only where the file has the same bytes.
func (b *batch) load(s *slot) error {
	objects := b.bucket(objectBucket(s.key.kind))
	if known, ok := b.memo.slots[s.key]; ok && bytes.Equal(objects.Get(revisionKey(known.created)), known.raw) {
		*s = slot{key: s.key, created: known.created, raw: known.raw, object: known.object}
		s.loaded, s.loadedAt = s.object, s.created
		return nil
	}
	position := b.bucket(idBucket(s.key.kind)).Get([]byte(s.key.id))
	if position == nil {
		return nil
	}
	stored := objects.Get(position)
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

// memo keeps decoded objects from one batch to the next, since decoding costs more than all else in a command. It
// is no cache of the file: each use compares the bytes. It therefore need not be right, and is emptied when full.
type memo struct {
	slots map[slotKey]*slot
	bytes int // of raw objects
}

// memoBytes bounds the memo: about 10,000 objects, which take twice that much memory again when decoded.
const memoBytes = 4 << 20

// remember keeps what a batch that was committed had in hand.
func (b *batch) remember() {
	m := b.memo
	for _, s := range b.touched {
		if before := m.slots[s.key]; before != nil {
			m.bytes -= len(before.raw)
			if s.raw == nil {
				delete(m.slots, s.key)
			}
		}
		if s.raw == nil {
			continue
		}
		if m.slots == nil || m.bytes+len(s.raw) > memoBytes {
			m.slots, m.bytes = map[slotKey]*slot{}, 0
		}
		m.slots[s.key] = s
		m.bytes += len(s.raw)
	}
}
