// Package kvstore keeps the replicated state of the farm in one bbolt file and serves it.
//
// There are two nouns. The Store is the state machine: it applies the commands of the log in order, makes snapshots
// and takes them. The DB is the farm as the cluster has agreed on it: Do puts a command into the log and waits for
// what became of it, View shows one consistent state, as fresh as is asked for, Get one object of it, Backup copies it. A
// third, the batch, stands inside: what was applied since the file was last written, and becomes one transaction when
// somebody wants to read more than one object, or when it has grown (docs/decisions/0010, 0016).
//
// It promises:
//   - The file has the effects of the first so many calls of Apply, with the index and the meta of the last of them,
//     and nothing of the others. Whoever reads sees all that was applied before.
//   - Stores that were given the same commands hold the same objects, revisions and running hash, however the
//     commands were cut into batches, and whatever snapshots and restarts came between.
//   - Apply takes any bytes. What is no command is a refusal, the same everywhere, and changes nothing but the index.
//   - Of all commands with one key the first in the log is decided; the others get its answer (keys.go).
//   - Every change is kept as the event that is sent, in the transaction that made it (history.go).
//   - A View shows one revision from its first byte to its last, also while Apply and Restore go on.
//
// The file is written without fsync: the log has every command. After anything but a clean shutdown it must not be
// believed; Open then begins anew, and a snapshot and the log bring the state back.
//
// The package owns no goroutine. One goroutine calls Apply and Restore; any may call the rest. No clock is read
// here and nothing is random: time and new ids come in the commands. Never keep a slice or a View beyond the
// function that it was handed to.
package kvstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// ErrClosed is returned by every method of a Store that was closed.
var ErrClosed = errors.New("the store is closed")

const (
	stateFile    = "state.db"
	incomingFile = "state.db.incoming" // a snapshot that Restore is still receiving
)

// Options says how to open a Store. The zero value begins anew.
type Options struct {
	// Keep goes on from the file that is there. Say so only of a file that was synced and closed, and is unchanged
	// since: bbolt checks no page that it reads. Without Keep it is discarded.
	Keep   bool
	Logger *slog.Logger // nil: nothing is logged

	// History is how many events are kept, the newest; 0: a million. Nodes may differ in it.
	History uint64
	// Keys is how many answers are kept under their keys, the newest; 0: a million. It must be the same on all nodes:
	// what one has forgotten it would do again.
	Keys uint64
}

// limits are the figures of Options, with their defaults.
type limits struct{ history, keys uint64 }

func (o *Options) limits() limits {
	return limits{history: cmp.Or(o.History, 1_000_000), keys: cmp.Or(o.Keys, 1_000_000)}
}

// Store is the replicated state of one node.
type Store struct {
	dir    string
	log    *slog.Logger
	limits limits
	sums   sums

	unread  atomic.Bool // Open found a state, and nobody has read it yet
	writing sync.Mutex  // held by Apply, flush, Restore, Sync and Close, each from its beginning to its end
	memo    memo        // guarded as pending
	spare   *batch      // guarded by writing: the last one, for its memory
	pending *batch      // guarded by writing, and to be read by unwritten: what was applied and is not in the file yet; nil: nothing
	alive   *os.File    // guarded by writing: alive.go; nil: nothing is noted yet
	broken  error       // as pending: what became of the write after which the store must not be used

	// unwritten is held, with writing, while what was applied changes, or becomes the file's; not while the file is written.
	unwritten sync.RWMutex

	mu      sync.Mutex
	current *file         // guarded by mu, like all that follows
	behind  bool          // pending has what a reader of the file would miss
	head    head          // as the last Apply or Restore left it
	meta    []byte        // the same; never written to, only replaced
	changed chan struct{} // closed when head moves; nil: nobody waits
	closed  bool
	readers sync.WaitGroup // open reads of all files; added to under mu while not closed
}

// file is one bbolt file. A Restore brings a new one; the old one lives until its last reader has gone.
type file struct {
	db      *bbolt.DB
	readers int  // guarded by Store.mu
	retired bool // guarded by Store.mu: the last reader closes it
}

// Open opens the state in dir, which it makes if need be. With Keep it goes on from the state that is there, and without
// where only the process ended that wrote it, and nobody has touched it since (Linux from 6.8 on can tell). Else the
// state is empty and Applied is 0.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, log: o.Logger, limits: o.limits()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	fresh, err := s.clear(o.Keep)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	db, err := openFile(s.path(stateFile))
	if err != nil {
		return nil, err
	}
	s.current = &file{db: db}
	if fresh {
		err = makeLayout(db)
	}
	if err == nil {
		s.head, s.meta, err = readState(db)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.unread.Store(!fresh)
	s.sums.begin(s.head.mark(), s.head.Hash)
	return s, nil
}

// clear makes room for what Open is to open, and reports whether that is a new file.
func (s *Store) clear(keep bool) (fresh bool, err error) {
	if err := removeIfThere(s.path(incomingFile)); err != nil {
		return false, err
	}
	survived := Survived(s.dir)
	if err := removeIfThere(s.path(aliveFile)); err != nil {
		return false, err
	}
	if !keep && !survived {
		return true, removeIfThere(s.path(stateFile))
	}
	_, err = os.Stat(s.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Applied is the index and the meta of the last Apply or Restore; 0 and nil for a new state. It never blocks. The
// meta is the caller's own copy.
func (s *Store) Applied() (index uint64, meta []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.Applied, bytes.Clone(s.meta)
}

// Hash is the running hash over every change up to that index. Stores that were given the same commands have the
// same. It never blocks.
func (s *Store) Hash() (index uint64, hash [32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.Applied, s.head.Hash
}

// Size is the length of the file in bytes, free pages included. It never blocks on a reader or a writer.
func (s *Store) Size() (int64, error) {
	info, err := os.Stat(s.path(stateFile))
	if err != nil {
		return 0, fmt.Errorf("size of the state: %w", err)
	}
	return info.Size(), nil
}

// publish makes what was applied the state that all see, and wakes those who wait for it.
func (s *Store) publish(h head, meta []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = true
	s.head = h
	if meta != nil {
		s.meta = meta
	}
	s.wake()
}

// wake must be called with mu held.
func (s *Store) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// awaitRevision returns once the state has reached revision. After ctx ended it returns the cause.
func (s *Store) awaitRevision(ctx context.Context, revision uint64) error {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return ErrClosed
		}
		if s.head.Revision >= revision {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read calls fn in a read transaction that has all that was applied before the call. The file stays open until fn
// returns, also when Restore replaces it.
func (s *Store) read(fn func(tx *bbolt.Tx) error) error {
	if err := s.catchUp(); err != nil {
		return err
	}
	f, _, err := s.hold()
	if err != nil {
		return err
	}
	err = func() error {
		defer s.release(f)
		return f.db.View(fn)
	}()
	if err == nil && s.unread.CompareAndSwap(true, false) {
		s.noteRead() // after the release, which Close waits for
	}
	return err
}

// hold keeps the file open until release. revision is the newest that was applied, which the file may not have yet.
func (s *Store) hold() (f *file, revision uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, ErrClosed
	}
	s.readers.Add(1)
	s.current.readers++
	return s.current, s.head.Revision, nil
}

// get is an object as it is now, and the revision of that state; nil: there is none. Unlike read it does not have the
// file written first: what is pending is looked up where it is.
func (s *Store) get(key slotKey) (object []byte, revision uint64, err error) {
	s.unwritten.RLock()
	if s.broken != nil {
		defer s.unwritten.RUnlock()
		return nil, 0, s.broken
	}
	if b := s.pending; b != nil {
		if found := b.find(key); found != nil {
			defer s.unwritten.RUnlock()
			return found.raw, b.head.Revision, nil
		}
	}
	// What is not pending is in the file as it stands.
	f, revision, err := s.hold()
	if err != nil {
		s.unwritten.RUnlock()
		return nil, 0, err
	}
	defer s.release(f)
	tx, err := f.db.Begin(false)
	s.unwritten.RUnlock()
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }() // also where a damaged page makes bbolt panic
	return bytes.Clone(objectOf(tx, key)), revision, nil
}

func (s *Store) release(f *file) {
	s.mu.Lock()
	f.readers--
	last := f.retired && f.readers == 0
	s.mu.Unlock()
	if last {
		s.closeRetired(f)
	}
	s.readers.Done()
}

// closeRetired closes a file that nobody will ask again: it has been replaced, and its name belongs to another.
func (s *Store) closeRetired(f *file) {
	if err := f.db.Close(); err != nil {
		s.log.Warn("replaced state did not close", "err", err)
	}
}

// Sync brings what was applied to the disk.
func (s *Store) Sync() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	if err := s.flush(); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	if err := s.current.db.Sync(); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	return nil
}

// Close waits for every open read and closes the file. It does not sync. A second call does nothing.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.wake()
	s.mu.Unlock()
	err := s.flush()
	s.readers.Wait()
	if err = errors.Join(err, s.current.db.Close(), s.forgetAlive()); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
