package kvstore

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// Apply executes cmds in order and stores index, which is that of the last of them, and meta, in one transaction. A
// nil meta keeps the stored one. results[i] is what became of cmds[i]: a farm.Result, or a *farm.Error for one that
// was refused and changed nothing. The Result's object is the caller's, and must not be written to.
//
// An error means that the store is broken and must not be used again; nothing of the batch was stored. An index that
// was applied before is a broken invariant of the caller, and panics.
func (s *Store) Apply(index uint64, cmds [][]byte, meta []byte) (results []any, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return nil, ErrClosed
	}
	if index <= s.head.Applied { // head is written under writing too, so reading it needs no more
		panic(fmt.Sprintf("apply: index %d after %d", index, s.head.Applied))
	}
	meta = bytes.Clone(meta)
	var b *batch
	err = s.current.db.Update(func(tx *bbolt.Tx) error {
		b = newBatch(tx, s.head, &s.memo, s.limits)
		results = make([]any, len(cmds))
		for i, cmd := range cmds {
			if results[i], err = b.execute(cmd); err != nil {
				return err
			}
		}
		b.head.Applied = index
		return b.flush(meta)
	})
	if err != nil {
		return nil, fmt.Errorf("apply up to index %d: %w", index, err)
	}
	b.remember()
	s.publish(b.head, meta)
	return results, nil
}
