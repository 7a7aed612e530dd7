package kvstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// record adds the change to the history. s is still as it was before it; after is what it leaves, as it is stored.
func (b *batch) record(c *farm.Change, stamp *farm.Stamp, s *slot, after []byte) {
	before := s.raw
	e := event{revision: b.head.Revision, kind: c.Kind, action: updated, at: stamp.At, position: s.created, actor: stamp.Actor}
	switch {
	case before == nil:
		e.action = created
	case after == nil:
		e.action, e.object = deleted, before
	}
	// The object in the bucket is another from now on.
	switch {
	case s.event > 0:
		b.events[s.event-1].object = before
	case before != nil:
		b.old = append(b.old, version{revisionOf(s.object), before})
	}
	b.events = append(b.events, e)
	b.bytes += max(len(before), len(after))
	s.event = 0
	if after != nil {
		s.event = len(b.events)
	}
}

// trimmedPerEvent bounds what one new event may push out. More than one, so that a history that was told to be shorter
// becomes so; and counted by events, so that it does not matter how batches are cut.
const trimmedPerEvent = 2

// flushEvents writes the batch's events and drops the oldest beyond the limit.
func (b *batch) flushEvents() error {
	if len(b.events) == 0 {
		return nil
	}
	h := &b.head
	if h.Events == 0 {
		h.OldestEvent = b.events[0].revision
	}
	bucket := b.tx.Bucket(eventsBucket)
	bucket.FillPercent = 1 // keys only rise; an event grows once, or never
	if err := b.flushOld(bucket); err != nil {
		return err
	}
	room := 0
	for i := range b.events {
		room += eventHead + binary.MaxVarintLen64 + len(b.events[i].actor) + len(b.events[i].object)
	}
	stored := make([]byte, 0, room)
	for i := range b.events {
		e := &b.events[i]
		from := len(stored)
		stored = e.append(stored)
		if err := put(bucket, b.revisionKey(e.revision), stored[from:]); err != nil {
			return err
		}
	}
	h.Events += uint64(len(b.events))
	if h.Events <= b.history {
		return nil
	}

	excess := min(h.Events-b.history, trimmedPerEvent*uint64(len(b.events)))
	cursor := bucket.Cursor()
	key, _ := cursor.First()
	old := make([][]byte, 0, excess)
	for range excess {
		old = append(old, key)
		key, _ = cursor.Next()
	}
	if key == nil {
		return fmt.Errorf("history: %d events are counted and not there", h.Events)
	}
	h.Events -= excess
	h.OldestEvent = binary.BigEndian.Uint64(key)
	for _, key := range old {
		if err := put(bucket, bytes.Clone(key), nil); err != nil {
			return err
		}
	}
	return nil
}

// flushOld writes what the batch has changed into the events that it came from, where those are still kept.
func (b *batch) flushOld(bucket *bbolt.Bucket) error {
	slices.SortFunc(b.old, func(a, b version) int { return cmp.Compare(a.revision, b.revision) })
	for _, v := range b.old {
		stored := bucket.Get(b.revisionKey(v.revision))
		if stored == nil || stored[0] != eventForm {
			continue
		}
		if err := put(bucket, b.revisionKey(v.revision), slices.Concat(stored, v.raw)); err != nil {
			return err
		}
	}
	return nil
}

func (v view) Oldest() uint64 {
	if v.head.Events == 0 {
		return v.head.Revision + 1
	}
	return v.head.OldestEvent
}

func (v view) Events(q farm.EventQuery, fn func(revision uint64, event []byte) error) error {
	if oldest := v.Oldest(); q.Since < oldest-1 {
		return &farm.Error{
			Kind: farm.Gone, Field: "since", Oldest: oldest,
			Detail: fmt.Sprintf("the changes after revision %d are not kept any more; the oldest that is has %d", q.Since, oldest),
		}
	}
	if q.Since >= v.head.Revision {
		return nil
	}
	shown := 0
	t := teller{tx: v.tx, q: &q, objects: map[farm.Kind]*bbolt.Bucket{}}
	cursor := v.tx.Bucket(eventsBucket).Cursor()
	for key, stored := cursor.Seek(revisionKey(q.Since + 1)); key != nil; key, stored = cursor.Next() {
		revision := binary.BigEndian.Uint64(key)
		event, err := t.tell(revision, stored)
		if err != nil {
			return err
		}
		if event == nil {
			continue
		}
		if err := fn(revision, event); err != nil {
			return err
		}
		if shown++; shown == q.Limit {
			return nil
		}
	}
	return nil
}

// teller tells events as the feed has them, of one state and for one query.
type teller struct {
	tx      *bbolt.Tx
	q       *farm.EventQuery
	objects map[farm.Kind]*bbolt.Bucket // of those kinds that were asked for
	buffer  []byte                      // the event that was told last
}

// tell returns the event that is stored so, until the next call; nil: the query does not ask for it.
func (t *teller) tell(revision uint64, stored []byte) ([]byte, error) {
	if len(stored) > 0 && stored[0] == '{' { // format 2
		if !isOf(stored, t.q) {
			return nil, nil
		}
		return stored, nil
	}
	e, err := readEvent(revision, stored)
	if err != nil {
		return nil, err
	}
	if t.q.Kind != "" && t.q.Kind != e.kind {
		return nil, nil
	}
	if e.object == nil {
		e.object = t.object(e.kind, e.position)
	}
	if e.object == nil {
		return nil, fmt.Errorf("event %d leads to position %d, where nothing is", revision, e.position)
	}
	id := idOf(e.object)
	if t.q.ID != "" && string(id) != string(t.q.ID) {
		return nil, nil
	}
	t.buffer = appendEvent(t.buffer[:0], &e, id)
	return t.buffer, nil
}

func (t *teller) object(k farm.Kind, position uint64) []byte {
	if t.objects[k] == nil {
		t.objects[k] = t.tx.Bucket(objectBucket(k))
	}
	return t.objects[k].Get(revisionKey(position))
}
