package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"raft3d/farm"
)

// event is one change. It is stored as
//
//	1, the version of this form; the kind, as its place in farm.Kinds; the action, as its place in actions (a byte each)
//	the time and the position of the object (8 bytes each, big endian)
//	the length of the actor (uvarint), the actor
//	the object as the change left it, or was, where that is a deletion; or nothing, while it is still so in its bucket
//
// so that an object is written once, and once more when it is changed. The feed tells it as JSON (appendEvent), and that
// is how format 2 stored it; what one was written so is told as it is.
type event struct {
	revision uint64
	kind     farm.Kind
	action   action
	at       farm.Time
	position uint64
	actor    string
	object   []byte // nil: it is the one in the bucket
}

const eventForm = 1

type action byte

const (
	created action = iota
	updated
	deleted
)

var actions = [...]string{created: "created", updated: "updated", deleted: "deleted"}

// eventHead is how many bytes stand before the length of the actor.
const eventHead = 3 + 8 + 8

// version is an object as the event of that revision left it.
type version struct {
	revision uint64
	raw      []byte
}

func revisionOf(object any) uint64 {
	switch o := object.(type) {
	case *farm.Printer:
		return o.Revision
	case *farm.Filament:
		return o.Revision
	case *farm.Job:
		return o.Revision
	}
	panic(fmt.Sprintf("revision of a %T", object))
}

func (e *event) append(to []byte) []byte {
	to = append(to, eventForm, byte(place(e.kind)), byte(e.action))
	to = binary.BigEndian.AppendUint64(to, uint64(e.at))
	to = binary.BigEndian.AppendUint64(to, e.position)
	to = binary.AppendUvarint(to, uint64(len(e.actor)))
	to = append(to, e.actor...)
	return append(to, e.object...)
}

// readEvent reads an event as it is stored in this form. Its object is nil where the bucket of its kind has it.
func readEvent(revision uint64, stored []byte) (e event, err error) {
	e.revision = revision
	if len(stored) <= eventHead || stored[0] != eventForm || int(stored[1]) >= len(farm.Kinds) || int(stored[2]) >= len(actions) {
		return e, fmt.Errorf("event %d is damaged: %.40x", revision, stored)
	}
	e.kind, e.action = farm.Kinds[stored[1]], action(stored[2])
	e.at, e.position = farm.Time(binary.BigEndian.Uint64(stored[3:])), binary.BigEndian.Uint64(stored[11:])
	n, size := binary.Uvarint(stored[eventHead:])
	rest := stored[eventHead+max(size, 0):]
	if size <= 0 || n > uint64(len(rest)) {
		return e, fmt.Errorf("event %d is damaged: %.40x", revision, stored)
	}
	e.actor = string(rest[:n])
	if rest = rest[n:]; len(rest) > 0 {
		e.object = rest
	}
	return e, nil
}

// appendEvent adds the event as the feed tells it: JSON with the fields in this order, the object last.
func appendEvent(to []byte, e *event, id []byte) []byte {
	to = strconv.AppendUint(append(to, `{"revision":`...), e.revision, 10)
	to = appendTime(append(to, `,"time":`...), e.at)
	to = appendText(append(to, `,"kind":`...), string(e.kind))
	to = append(append(append(to, `,"id":"`...), id...), '"')
	to = appendText(append(to, `,"action":`...), actions[e.action])
	to = appendText(append(to, `,"actor":`...), e.actor)
	to = append(append(to, `,"object":`...), e.object...)
	return append(to, '}')
}

// idOf is the id of an object as it is stored. It is what every object begins with, and no id needs escaping.
func idOf(object []byte) []byte {
	rest, _ := bytes.CutPrefix(object, []byte(`{"id":"`))
	id, _, _ := bytes.Cut(rest, []byte{'"'})
	return id
}

// isOf reports whether an event of format 2 is of the object or the kind that q asks for. What comes before the kind are
// a number and a time, and neither kinds nor ids have quotes in them.
func isOf(event []byte, q *farm.EventQuery) bool {
	if q.Kind == "" && q.ID == "" {
		return true
	}
	_, rest, _ := bytes.Cut(event, []byte(`,"kind":"`))
	kind, rest, _ := bytes.Cut(rest, []byte(`","id":"`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return (q.Kind == "" || string(kind) == string(q.Kind)) && (q.ID == "" || string(id) == string(q.ID))
}
