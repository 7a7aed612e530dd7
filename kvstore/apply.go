package kvstore

import (
	"bytes"
	"errors"
	"fmt"
)

// Apply executes cmds in order and takes up their effects, index, which is that of the last of them, and meta, all or
// nothing. A nil meta keeps the one before. results[i] is what became of cmds[i]: a farm.Result, or a *farm.Error for
// one that was refused and changed nothing. The Result's object is the caller's, and must not be written to.
//
// Whoever reads from now on sees these effects; the file gets them with those of later calls in one transaction, when
// somebody wants to read it, or when they have become many.
//
// An error means that the store is broken and must not be used again. An index that was applied before is a broken
// invariant of the caller, and panics.
func (s *Store) Apply(index uint64, cmds [][]byte, meta []byte) (results []any, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return nil, ErrClosed
	}
	if index <= s.head.Applied { // head is written under writing too, so reading it needs no more
		panic(fmt.Sprintf("apply: index %d after %d", index, s.head.Applied))
	}
	if results, err = s.execute(index, cmds, bytes.Clone(meta)); err != nil {
		return nil, fmt.Errorf("apply up to index %d: %w", index, err)
	}
	return results, nil
}

func (s *Store) execute(index uint64, cmds [][]byte, meta []byte) (results []any, err error) {
	if s.broken != nil {
		return nil, s.broken
	}
	if results, err = s.decide(index, cmds, meta); err != nil {
		return nil, err
	}
	if b := s.pending; b.commands >= maxPending || b.bytes >= maxPendingBytes {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// decide makes cmds part of what is pending.
func (s *Store) decide(index uint64, cmds [][]byte, meta []byte) (results []any, err error) {
	s.unwritten.Lock()
	defer s.unwritten.Unlock()
	b := s.pending
	if b == nil {
		tx, err := s.current.db.Begin(false)
		if err != nil {
			return nil, err
		}
		b = newBatch(tx, s.head, &s.memo, &s.sums, s.limits, s.spare)
		s.pending = b
	}
	results = make([]any, len(cmds))
	for i, cmd := range cmds {
		if results[i], err = b.execute(cmd); err != nil {
			s.pending, s.broken = nil, errors.Join(err, b.tx.Rollback())
			return nil, s.broken
		}
	}
	b.commands += len(cmds)
	b.head.Applied = index
	if meta != nil {
		b.meta = meta
	}
	s.publish(b.head, meta)
	return results, nil
}

// What waits for the file is bounded: a transaction of that many commands takes some milliseconds, in which nothing is
// applied, and that many bytes of objects are in memory about three times.
const (
	maxPending      = 1024
	maxPendingBytes = 2 << 20
)

// catchUp sees to it that the file has all that was applied before the call.
func (s *Store) catchUp() error {
	s.mu.Lock()
	behind := s.behind && !s.closed
	s.mu.Unlock()
	if !behind {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	return s.flush()
}

// flush writes what is pending in one transaction. It must be called with writing held. After an error the store is
// broken.
func (s *Store) flush() error {
	b := s.pending
	if b == nil || s.broken != nil {
		return s.broken
	}
	err := b.commit(s.current.db)
	s.unwritten.Lock()
	s.pending, s.broken = nil, err
	s.unwritten.Unlock()
	if err != nil {
		return err
	}
	s.noteAlive()
	b.remember()
	s.spare = b.release()
	s.mu.Lock()
	s.head = b.head // which now counts the events too
	s.behind = false
	s.mu.Unlock()
	return nil
}
