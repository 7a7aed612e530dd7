package raftnode

import "sync"

// mailbox carries work from the loop to the log and to apply, in order, without ever blocking the loop. It has no
// bound of its own: raft bounds what is in it (uncommitted, in-flight and applying bytes, see core.go).
type mailbox[T any] struct {
	ready chan struct{} // holds one token while there may be items

	mu    sync.Mutex
	items []T // guarded by mu
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

func (b *mailbox[T]) put(item T) {
	b.mu.Lock()
	b.items = append(b.items, item)
	b.mu.Unlock()
	wake(b.ready)
}

// take returns all there is, oldest first; it may be nothing.
func (b *mailbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

// wake leaves a token in a channel of capacity one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
