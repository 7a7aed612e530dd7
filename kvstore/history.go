package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"raft3d/farm"
)

// event is one change as the feed tells it: JSON with the fields in this order, the object last.
type event struct {
	revision uint64
	json     []byte
}

// appendEventHead adds the event up to its object.
func (b *batch) appendEventHead(to []byte, c *farm.Change, stamp *farm.Stamp, before []byte) []byte {
	action := "updated"
	switch {
	case before == nil:
		action = "created"
	case c.PrinterAfter == nil && c.FilamentAfter == nil && c.JobAfter == nil:
		action = "deleted"
	}
	to = strconv.AppendUint(append(to, `{"revision":`...), b.head.Revision, 10)
	to = appendTime(append(to, `,"time":`...), stamp.At)
	to = appendText(append(to, `,"kind":`...), string(c.Kind))
	to = appendText(append(to, `,"id":`...), string(c.ID))
	to = appendText(append(to, `,"action":`...), action)
	to = appendText(append(to, `,"actor":`...), stamp.Actor)
	return append(to, `,"object":`...)
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
	bucket.FillPercent = 1 // keys only rise, and no event grows
	for _, e := range b.events {
		if err := put(bucket, revisionKey(e.revision), e.json); err != nil {
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
	cursor := v.tx.Bucket(eventsBucket).Cursor()
	for key, event := cursor.Seek(revisionKey(q.Since + 1)); key != nil; key, event = cursor.Next() {
		if !isOf(event, &q) {
			continue
		}
		if err := fn(binary.BigEndian.Uint64(key), event); err != nil {
			return err
		}
		if shown++; shown == q.Limit {
			return nil
		}
	}
	return nil
}

// isOf reports whether the event is of the object or the kind that q asks for. What comes before the kind are a number
// and a time, and neither kinds nor ids have quotes in them.
func isOf(event []byte, q *farm.EventQuery) bool {
	if q.Kind == "" && q.ID == "" {
		return true
	}
	_, rest, _ := bytes.Cut(event, []byte(`,"kind":"`))
	kind, rest, _ := bytes.Cut(rest, []byte(`","id":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return (q.Kind == "" || string(kind) == string(q.Kind)) && (q.ID == "" || string(id) == string(q.ID))
}
