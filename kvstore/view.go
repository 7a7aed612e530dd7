package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
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

// objectOf is an object as the file has it, good as long as tx; nil: there is none.
func objectOf(tx *bbolt.Tx, key slotKey) []byte {
	if !slices.Contains(farm.Kinds, key.kind) || key.id == "" {
		return nil
	}
	position := tx.Bucket(idBucket(key.kind)).Get([]byte(key.id))
	if position == nil {
		return nil
	}
	return tx.Bucket(objectBucket(key.kind)).Get(position)
}

func (v view) List(q farm.Query, fn func(position uint64, object []byte) error) error {
	if !slices.Contains(farm.Kinds, q.Kind) {
		return fmt.Errorf("list: there is no kind %q", q.Kind)
	}
	if q.After >= v.head.Revision {
		return nil // nor is there room for one more in a position
	}
	var selected *selection
	f, exact := newFilter(q), false
	if q.Kind == farm.KindJob {
		var err error
		if selected, exact, err = v.selectJobs(q); err != nil {
			return fmt.Errorf("list at revision %d: %w", v.head.Revision, err)
		}
	}
	shown := 0
	for position, raw := range v.objects(q, selected) {
		if raw == nil {
			return fmt.Errorf("list at revision %d: the index leads to position %d, where nothing is", v.head.Revision, position)
		}
		if !exact {
			ok, err := f.matches(raw)
			if err != nil {
				return fmt.Errorf("list at revision %d: %w", v.head.Revision, err)
			}
			if !ok {
				continue
			}
		}
		if err := fn(position, raw); err != nil {
			return err
		}
		if shown++; shown == q.Limit {
			return nil
		}
	}
	return nil
}

// objects are those of q's kind after q.After, or of them those that were selected, in order of creation. One that the
// index has and the file has not is nil.
func (v view) objects(q farm.Query, selected *selection) iter.Seq2[uint64, []byte] {
	cursor := v.tx.Bucket(objectBucket(q.Kind)).Cursor()
	if selected == nil {
		return func(yield func(uint64, []byte) bool) {
			for key, raw := cursor.Seek(revisionKey(q.After + 1)); key != nil; key, raw = cursor.Next() {
				if !yield(binary.BigEndian.Uint64(key), raw) {
					return
				}
			}
		}
	}
	selected.seek(v.tx, q.After)
	return func(yield func(uint64, []byte) bool) {
		var at []byte
		for position := selected.next(); position != 0; position = selected.next() {
			var raw []byte
			wanted := revisionKey(position)
			if at != nil { // where much is selected, it is often the next
				at, raw = cursor.Next()
			}
			if !bytes.Equal(at, wanted) {
				at, raw = cursor.Seek(wanted)
			}
			if !bytes.Equal(at, wanted) {
				raw = nil
			}
			if !yield(position, raw) {
				return
			}
		}
	}
}

// Count reads figures where they suffice, and objects where they do not.
func (v view) Count(q farm.Query) (int, error) {
	q.After, q.Limit = 0, 0
	f := newFilter(q)
	switch {
	case q.Kind == farm.KindPrinter && f.all():
		return int(v.head.Printers), nil
	case q.Kind == farm.KindFilament && f.all():
		return int(v.head.Filaments), nil
	case q.Kind == farm.KindJob && f.all():
		return v.jobs(nil), nil
	case q.Kind == farm.KindJob:
		selected, exact, err := v.selectJobs(q)
		if err != nil {
			return 0, fmt.Errorf("count at revision %d: %w", v.head.Revision, err)
		}
		if selected != nil && exact {
			return selected.size, nil
		}
	}
	n := 0
	err := v.List(q, func(uint64, []byte) error { n++; return nil })
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
