package kvstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// There may be a million jobs, so they are indexed by state, by printer and by filament, the last two by state within.
// A printer or filament that has jobs, or had some that are still listed, has a tally: how many, by state, and the
// number that stands for it in the index, where an id would be too long. Numbers are revisions and never used again.

// The indexes.
const (
	byStatus   byte = 's'
	byPrinter  byte = 'p'
	byFilament byte = 'f'
)

// indexKey is the index, the number of the printer or filament (8 bytes; 0 by state), the state, and the position of
// the job (8 bytes), big endian.
type indexKey [18]byte

func newIndexKey(index byte, number uint64, status int, position uint64) (k indexKey) {
	k[0] = index
	binary.BigEndian.PutUint64(k[1:], number)
	k[9] = byte(status)
	binary.BigEndian.PutUint64(k[10:], position)
	return k
}

// tallyKey is stored as the index followed by the id.
type tallyKey struct {
	index byte
	id    farm.ID
}

func (k tallyKey) bytes() []byte { return append([]byte{k.index}, k.id...) }

// tally is stored as these fields one after the other, big endian. The zero tally is not stored.
type tally struct {
	number uint64
	jobs   [4]uint64 // by state, in the order of farm.Statuses

	stored uint64 // the number that the file has; not itself stored
}

const tallySize = 8 * 5

func (t *tally) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, tallySize), t.number)
	for _, n := range t.jobs {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func readTally(tx *bbolt.Tx, key tallyKey) (tally, error) {
	var t tally
	stored := tx.Bucket(talliesBucket).Get(key.bytes())
	if stored == nil {
		return t, nil
	}
	if len(stored) != tallySize {
		return t, fmt.Errorf("the tally %q is damaged: %d bytes", key.bytes(), len(stored))
	}
	t.number = binary.BigEndian.Uint64(stored)
	t.stored = t.number
	for i := range t.jobs {
		t.jobs[i] = binary.BigEndian.Uint64(stored[8*(i+1):])
	}
	return t, nil
}

// in counts the jobs in any of the states.
func (t *tally) in(states ...farm.JobStatus) (n uint64) {
	for i, s := range farm.Statuses {
		if slices.Contains(states, s) {
			n += t.jobs[i]
		}
	}
	return n
}

func (b *batch) tally(key tallyKey) *tally {
	if t := b.tallies[key]; t != nil {
		return t
	}
	t, err := readTally(b.tx, key)
	if err != nil {
		b.err = err
	}
	b.tallies[key] = &t
	return &t
}

// tallyJob counts a job that has changed. It counts what it comes to before what it leaves, so that a tally of one job
// keeps its number.
func (b *batch) tallyJob(before, after *farm.Job) {
	if after != nil {
		status := slices.Index(farm.Statuses, after.Status)
		for _, key := range tallyKeys(after) {
			t := b.tally(key)
			if t.number == 0 {
				t.number = b.head.Revision
			}
			t.jobs[status]++
		}
	}
	if before != nil {
		status := slices.Index(farm.Statuses, before.Status)
		for _, key := range tallyKeys(before) {
			t := b.tally(key)
			t.jobs[status]--
			if t.jobs == [4]uint64{} {
				t.number = 0
			}
		}
	}
}

func tallyKeys(j *farm.Job) [2]tallyKey {
	return [2]tallyKey{{byPrinter, j.PrinterID}, {byFilament, j.FilamentID}}
}

// indexKeys are the places of a job in the index, by the numbers that its tallies have.
func (b *batch) indexKeys(j *farm.Job, position uint64, number func(*tally) uint64) [3]indexKey {
	status := slices.Index(farm.Statuses, j.Status)
	keys := [3]indexKey{newIndexKey(byStatus, 0, status, position)}
	for i, key := range tallyKeys(j) {
		keys[i+1] = newIndexKey(key.index, number(b.tally(key)), status, position)
	}
	return keys
}

// flushIndex moves each job from where the file has it to where the batch has left it.
func (b *batch) flushIndex() error {
	type move struct {
		key indexKey
		in  bool
	}
	var moves []move
	for _, s := range b.touched {
		if s.key.kind != farm.KindJob || !s.dirty {
			continue
		}
		var was, is [3]indexKey
		if j, ok := s.loaded.(*farm.Job); ok {
			was = b.indexKeys(j, s.loadedAt, func(t *tally) uint64 { return t.stored })
		}
		if j, ok := s.object.(*farm.Job); ok {
			is = b.indexKeys(j, s.created, func(t *tally) uint64 { return t.number })
		}
		for i := range is {
			if was[i] == is[i] {
				continue
			}
			if s.loaded != nil {
				moves = append(moves, move{was[i], false})
			}
			if s.object != nil {
				moves = append(moves, move{is[i], true})
			}
		}
	}
	slices.SortFunc(moves, func(a, b move) int { return bytes.Compare(a.key[:], b.key[:]) })
	bucket := b.tx.Bucket(indexBucket)
	bucket.FillPercent = fillPercent
	for i := range moves {
		var value []byte
		if moves[i].in {
			value = []byte{}
		}
		if err := put(bucket, moves[i].key[:], value); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) flushTallies() error {
	bucket := b.tx.Bucket(talliesBucket)
	inOrder := func(a, b tallyKey) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.id, b.id)) }
	for _, key := range slices.SortedFunc(maps.Keys(b.tallies), inOrder) {
		var value []byte
		if t := b.tallies[key]; t.number != 0 {
			value = t.encode()
		}
		if err := put(bucket, key.bytes(), value); err != nil {
			return err
		}
	}
	return nil
}

// selection is the jobs that one index has in some states, in order of creation.
type selection struct {
	size  int
	lanes []lane // one a state
}

// lane is one state's part of an index, and the position that it has come to.
type lane struct {
	prefix   []byte
	cursor   *bbolt.Cursor
	position uint64 // 0: at its end
}

// selectJobs picks the index that has the fewest jobs that q may mean; none where q names neither state nor printer
// nor filament. exact says that there are no others among them.
func (v view) selectJobs(q farm.Query) (best *selection, exact bool, err error) {
	consider := func(index byte, id farm.ID) error {
		t := tally{jobs: v.head.Jobs}
		if index != byStatus {
			if t, err = readTally(v.tx, tallyKey{index, id}); err != nil {
				return err
			}
		}
		s := &selection{}
		for i, status := range farm.Statuses {
			if t.jobs[i] > 0 && (len(q.Status) == 0 || slices.Contains(q.Status, status)) {
				key := newIndexKey(index, t.number, i, 0)
				s.size += int(t.jobs[i])
				s.lanes = append(s.lanes, lane{prefix: key[:10]})
			}
		}
		if best == nil || s.size < best.size {
			best = s
		}
		return nil
	}
	if q.PrinterID != "" {
		err = consider(byPrinter, q.PrinterID)
	}
	if q.FilamentID != "" && err == nil {
		err = consider(byFilament, q.FilamentID)
	}
	if len(q.Status) > 0 && q.PrinterID == "" && q.FilamentID == "" {
		err = consider(byStatus, "")
	}
	return best, len(q.Labels) == 0 && (q.PrinterID == "" || q.FilamentID == ""), err
}

// seek begins after that position.
func (s *selection) seek(tx *bbolt.Tx, after uint64) {
	for i := range s.lanes {
		l := &s.lanes[i]
		l.cursor = tx.Bucket(indexBucket).Cursor()
		key, _ := l.cursor.Seek(binary.BigEndian.AppendUint64(bytes.Clone(l.prefix), after+1))
		l.at(key)
	}
}

func (l *lane) at(key []byte) {
	l.position = 0
	if bytes.HasPrefix(key, l.prefix) {
		l.position = binary.BigEndian.Uint64(key[len(l.prefix):])
	}
}

// next is the next position; 0: there is none.
func (s *selection) next() (position uint64) {
	var first *lane
	for i := range s.lanes {
		if l := &s.lanes[i]; l.position != 0 && (first == nil || l.position < first.position) {
			first = l
		}
	}
	if first == nil {
		return 0
	}
	position = first.position
	key, _ := first.cursor.Next()
	first.at(key)
	return position
}
