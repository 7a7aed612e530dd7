package kvstore

import "sync"

// sums remembers the newest values of the running hash, so that nodes which are not at the same place can still be
// compared. The mark of a value counts what went into the hash: it is the same on every node, however batches were cut.
type sums struct {
	mu     sync.Mutex
	newest uint64     // guarded by mu; 0: there is none
	first  uint64     // guarded by mu; the oldest mark in the ring
	ring   [][32]byte // guarded by mu; by mark modulo its length
}

// maxSums is how many are remembered: what a follower may lag, under load, before it cannot be compared; 256 KiB.
const maxSums = 8192

// mark is that of the hash as it stands.
func (h *head) mark() uint64 { return h.Revision + h.KeysDropped + h.KeysStored }

// begin forgets all values but this one: it belongs to a state from elsewhere.
func (s *sums) begin(mark uint64, hash [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring = make([][32]byte, maxSums)
	s.ring[mark%maxSums] = hash
	s.newest, s.first = mark, mark
}

// add takes the value after the newest one.
func (s *sums) add(mark uint64, hash [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[mark%maxSums] = hash
	s.newest = mark
	if mark-s.first >= maxSums {
		s.first = mark - maxSums + 1
	}
}

// Checkpoint tells the state as it was at a mark by a sum; 0 asks for the newest. Marks rise with what changes the
// state, and stores that were given the same commands have the same sum at the same mark. ok is false where that mark
// is not reached, or was too long ago, or before the state came here. It never blocks.
func (s *Store) Checkpoint(mark uint64) (at uint64, sum [32]byte, ok bool) {
	c := &s.sums
	c.mu.Lock()
	defer c.mu.Unlock()
	if mark == 0 {
		mark = c.newest
	}
	if mark == 0 || mark > c.newest || mark < c.first {
		return mark, sum, false
	}
	return mark, c.ring[mark%maxSums], true
}
