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

// record adds the change to the history. before and was are what s was before it, as it was stored and decoded.
func (b *batch) record(c *farm.Change, stamp *farm.Stamp, s *slot, before []byte, was any) {
	e := event{revision: b.head.Revision, kind: c.Kind, action: updated, at: stamp.At, position: s.created, actor: stamp.Actor}
	switch {
	case before == nil:
		e.action = created
	case s.raw == nil:
		e.action, e.object = deleted, before
	}
	// The object in the bucket is another from now on.
	switch {
	case s.event > 0:
		b.events[s.event-1].object = before
	case before != nil:
		b.old = append(b.old, version{revisionOf(was), before})
	}
	b.events = append(b.events, e)
	b.bytes += max(len(before), len(s.raw))
	s.event = 0
	if s.raw != nil {
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
		room += eventRoom + len(b.events[i].actor) + len(b.events[i].object)
	}
	stored := make([]byte, 0, room)
	for i := range b.events {
		e := &b.events[i]
		from := len(stored)
		stored = e.append(stored)
		if err := put(bucket, revisionKey(e.revision), stored[from:]); err != nil {
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
		stored := bucket.Get(revisionKey(v.revision))
		if stored == nil || stored[0] != eventForm {
			continue
		}
		if err := put(bucket, revisionKey(v.revision), slices.Concat(stored, v.raw)); err != nil {
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
	var told []byte
	objects := map[farm.Kind]*bbolt.Bucket{}
	cursor := v.tx.Bucket(eventsBucket).Cursor()
	for key, stored := cursor.Seek(revisionKey(q.Since + 1)); key != nil; key, stored = cursor.Next() {
		revision := binary.BigEndian.Uint64(key)
		if len(stored) > 0 && stored[0] == '{' { // format 2
			if !isOf(stored, &q) {
				continue
			}
			told = append(told[:0], stored...)
		} else {
			e, err := readEvent(revision, stored)
			if err != nil {
				return err
			}
			if q.Kind != "" && q.Kind != e.kind {
				continue
			}
			if e.object == nil {
				if objects[e.kind] == nil {
					objects[e.kind] = v.tx.Bucket(objectBucket(e.kind))
				}
				if e.object = objects[e.kind].Get(revisionKey(e.position)); e.object == nil {
					return fmt.Errorf("event %d leads to position %d, where nothing is", revision, e.position)
				}
			}
			id := idOf(e.object)
			if q.ID != "" && string(id) != string(q.ID) {
				continue
			}
			told = appendEvent(told[:0], &e, id)
		}
		if err := fn(revision, told); err != nil {
			return err
		}
		if shown++; shown == q.Limit {
			return nil
		}
	}
	return nil
}
