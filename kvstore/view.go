package kvstore

import (
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// view is one state of the farm, held still by a read transaction.
type view struct {
	tx   *bbolt.Tx
	head head
}

var _ farm.View = view{}

func (v view) Revision() uint64 { return v.head.Revision }

func (v view) Get(kind farm.Kind, id farm.ID) (object []byte, ok bool) {
	if !slices.Contains(farm.Kinds, kind) || id == "" {
		return nil, false
	}
	position := v.tx.Bucket(idBucket(kind)).Get([]byte(id))
	if position == nil {
		return nil, false
	}
	object = v.tx.Bucket(objectBucket(kind)).Get(position)
	return object, object != nil
}

func (v view) List(q farm.Query, fn func(object []byte) error) error {
	if !slices.Contains(farm.Kinds, q.Kind) {
		return fmt.Errorf("list: there is no kind %q", q.Kind)
	}
	f := newFilter(q)
	cursor := v.tx.Bucket(objectBucket(q.Kind)).Cursor()
	for key, raw := cursor.First(); key != nil; key, raw = cursor.Next() {
		ok, err := f.matches(raw)
		if err != nil {
			return fmt.Errorf("list at revision %d: %w", v.head.Revision, err)
		}
		if !ok {
			continue
		}
		if err := fn(raw); err != nil {
			return err
		}
	}
	return nil
}

// Count reads the figures of the head where they suffice, and the objects where they do not.
func (v view) Count(q farm.Query) (int, error) {
	if f := newFilter(q); f.onlyStates() {
		switch q.Kind {
		case farm.KindPrinter:
			return int(v.head.Printers), nil
		case farm.KindFilament:
			return int(v.head.Filaments), nil
		case farm.KindJob:
			return v.jobs(q.Status), nil
		}
	}
	n := 0
	err := v.List(q, func([]byte) error { n++; return nil })
	return n, err
}

// jobs counts those in any of the states; in all where none is named.
func (v view) jobs(in []farm.JobStatus) int {
	n := 0
	for i, s := range farm.Statuses {
		if len(in) == 0 || slices.Contains(in, s) {
			n += int(v.head.Jobs[i])
		}
	}
	return n
}

func (v view) Summary() farm.Summary {
	jobs := make(map[farm.JobStatus]int, len(farm.Statuses))
	for i, s := range farm.Statuses {
		jobs[s] = int(v.head.Jobs[i])
	}
	return farm.Summary{
		Printers: int(v.head.Printers), Filaments: int(v.head.Filaments), Jobs: jobs,
		Remaining: v.head.Remaining, Reserved: v.head.Reserved,
	}
}
