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

// indexMove adds a key to the index, or takes it away.
type indexMove struct {
	key indexKey
	in  bool
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

// place is where an index has a job.
type place struct {
	tallyKey
	status int
}

func placesOf(j *farm.Job) [3]place {
	status := slices.Index(farm.Statuses, j.Status)
	return [3]place{{tallyKey{byStatus, ""}, status}, {tallyKey{byPrinter, j.PrinterID}, status}, {tallyKey{byFilament, j.FilamentID}, status}}
}

// index moves a job in the indexes. It enters before it leaves, so that a tally of one job keeps its number.
func (b *batch) index(c *farm.Change, position uint64) {
	var was, is [3]place
	if c.JobBefore != nil {
		was = placesOf(c.JobBefore)
	}
	if c.JobAfter != nil {
		is = placesOf(c.JobAfter)
	}
	for i := range is {
		if was[i] == is[i] {
			continue
		}
		if c.JobAfter != nil {
			b.enter(is[i], position)
		}
		if c.JobBefore != nil {
			b.leave(was[i], position)
		}
	}
}

func (b *batch) enter(p place, position uint64) {
	t := &tally{}
	if p.index != byStatus {
		t = b.tally(p.tallyKey)
		if t.number == 0 {
			t.number = b.head.Revision
		}
		t.jobs[p.status]++
	}
	b.moves = append(b.moves, indexMove{newIndexKey(p.index, t.number, p.status, position), true})
}

func (b *batch) leave(p place, position uint64) {
	t := &tally{}
	if p.index != byStatus {
		t = b.tally(p.tallyKey)
		t.jobs[p.status]--
	}
	b.moves = append(b.moves, indexMove{newIndexKey(p.index, t.number, p.status, position), false})
	if t.jobs == [4]uint64{} {
		t.number = 0
	}
}

// flushIndex writes what the moves come to. Those of one key alternate, so the first tells whether it is stored.
func (b *batch) flushIndex() error {
	slices.SortStableFunc(b.moves, func(a, b indexMove) int { return bytes.Compare(a.key[:], b.key[:]) })
	bucket := b.tx.Bucket(indexBucket)
	for i := 0; i < len(b.moves); {
		first, last := &b.moves[i], &b.moves[i]
		for i++; i < len(b.moves) && b.moves[i].key == first.key; i++ {
			last = &b.moves[i]
		}
		if first.in != last.in {
			continue
		}
		var value []byte
		if last.in {
			value = []byte{}
		}
		if err := put(bucket, last.key[:], value); err != nil {
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
