// Package wal keeps what a member must still know after its machine loses power: who it is, the raft log, the hard
// state, and snapshots of the store. It is the only package that calls fsync.
//
// There are two nouns: a Log, which is the data directory of one member, open for writing, and the Recovered that
// Open finds in it. Under the directory it owns
//
//	wal/          segments of etcd's write-ahead log
//	snap/         INDEX-TERM.snap: copies of the store, each with a SHA-256 at its end; the last two that count are kept
//	incarnation   how many times the directory was opened
//	reached       how far the log has come, so that one that lost its end is noticed (reached.go)
//	LOCK          locked while a process uses the directory
//
// Promises. What Append has returned for is on the disk, in so far as raft needs it there: a hard state in which only
// the commit index moved is kept in memory until the next write, Sync or Close, since raft may forget a commit index.
// What Open returns is on the disk too, also after a process was killed in the middle of a write. A snapshot counts
// from MarkSnapshot on: first its file, then its record; a file without a record is harmless, a record without its
// file could not be recovered.
//
// After a failed write or fsync the Log is dead: every later call returns that first error, because the kernel may
// have dropped the page that failed and would say yes to the next fsync. The caller must end the process. Disk errors
// while a snapshot is written count, except for a full disk, which leaves nothing behind that anyone believes.
//
// One goroutine at a time calls Append, MarkSnapshot, Sync and Close; any may call the rest. The package starts no goroutine of
// its own; etcd's writer has one, which allocates the next segment and ends in Close.
//
// Writing is etcd's; reading back is ours (see replay.go, and tail.go for the line between a torn and a damaged log),
// because etcd's reader resurrects truncated entries (etcd#22442) and takes damage for an end. Never open a directory
// with etcd's tools for writing.
package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

var (
	// ErrDead is in every error of a Log whose disk failed once.
	ErrDead = errors.New("the log is dead, since its disk failed")
	// ErrDamaged is what Open and Read return for a directory that must not be used as it is. Nothing was changed.
	ErrDamaged = errors.New("the data directory is damaged")
	// ErrInUse is what Create and Open return while another process has the directory.
	ErrInUse = errors.New("another process uses the data directory")
)

const (
	defaultSegmentBytes = 16 << 20 // two are allocated at any time; etcd's 64 MB are much for a small card

	// maxUnitBytes bounds what one fsync covers, and so how far from the end a power cut can reach (tail.go). Over
	// the biggest request body (1 MiB), so that an entry hardly ever needs more.
	maxUnitBytes = 2 << 20
	frameBytes   = 64 // at most, what etcd's encoder adds to an entry
)

// Config is how a Log works. The zero value does.
type Config struct {
	Logger *slog.Logger // nil: silent
	// SegmentBytes is the size at which a segment of the log ends and the next one begins; 0: 16 MiB. It is one
	// variable in etcd's package: every Log of a process must use the same one at a time.
	SegmentBytes int64
	// CommittedData is how many of the committed entries Open gives with their data, the newest; 0: all. Whoever has the
	// effects of the others needs no more of them, and they are most of what a start would hold in memory; Reread brings
	// them back.
	CommittedData uint64
	// ObserveSync is told how long each durable append took, write and fsync together. nil: nobody is told.
	ObserveSync func(time.Duration)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.ObserveSync == nil {
		c.ObserveSync = func(time.Duration) {}
	}
	return c
}

var segmentBytes sync.Mutex // guards etcdwal.SegmentSizeBytes against a second Open; etcd reads it without asking

func setSegmentBytes(n int64) {
	segmentBytes.Lock()
	defer segmentBytes.Unlock()
	if etcdwal.SegmentSizeBytes != n {
		etcdwal.SegmentSizeBytes = n
	}
}

// Log is the data directory of one member, open for writing.
type Log struct {
	dir         string
	identity    Identity
	incarnation uint64
	config      Config
	lock        *os.File

	appended atomic.Int64

	// Of the goroutine that appends.
	etcd    *etcdwal.WAL
	note    *os.File  // reached.go
	state   hardState // the newest one
	durable hardState // the newest one that is on the disk
	unit    uint64    // number of the last unit that was written
	last    uint64    // index of the last entry, or of the snapshot that replaced it
	dropped uint64    // highest index that was ever overwritten

	closed   bool
	closeErr error

	mu   sync.Mutex
	dead error          // guarded by mu; what every call returns from now on
	kept []keptSnapshot // guarded by mu; the snapshots that count, older first, at most two. Only the appender changes it
}

// Exists says whether dir holds a member, complete or damaged: whether Open is the call to make, and Create would
// refuse. It is false for a directory that is empty or absent, and for what a Create that did not finish left.
func Exists(dir string) bool {
	if names, err := segments(walDir(dir)); !errors.Is(err, fs.ErrNotExist) && (err != nil || len(names) > 0) {
		return true
	}
	if files, err := snapshotFiles(dir); err != nil || len(files) > 0 {
		return true
	}
	_, n, err := readIncarnation(dir)
	return !errors.Is(err, fs.ErrNotExist) && (err != nil || n > 0)
}

// Create makes dir the directory of a new member and opens it. It returns an error that is fs.ErrExist where one is
// there, and ErrInUse where another process is about to. A crash in the middle leaves a directory that either does not
// exist in the sense of Exists, so that Create may be tried again, or is complete.
func Create(dir string, id Identity, c Config) (_ *Log, err error) {
	c = c.withDefaults()
	metadata, err := id.encode()
	if err != nil {
		return nil, err
	}
	if Exists(dir) {
		return nil, fmt.Errorf("create a member in %s: %w", dir, fs.ErrExist)
	}
	if err := makeDirs(filepath.Join(dir, snapDirName)); err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if Exists(dir) { // made by another process before we had the lock
		return nil, fmt.Errorf("create a member in %s: %w", dir, fs.ErrExist)
	}
	// Number zero is a directory that is being made; the rename of the segments' directory, in etcd's Create, is the
	// moment from which it is a member. In this order a log without an incarnation is always damage.
	if err := writeIncarnation(dir, id.MemberID, 0); err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	setSegmentBytes(c.SegmentBytes)
	w, err := etcdwal.Create(zapLogger(c.Logger), walDir(dir), metadata)
	if err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	// etcd syncs the directory that it renamed into dir, but not the name of the segment in it.
	if err := syncDir(walDir(dir)); err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	if err := writeIncarnation(dir, id.MemberID, 1); err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	note, err := openReached(dir, id.MemberID, reached{incarnation: 1})
	if err != nil {
		return nil, fmt.Errorf("create a member in %s: %w", dir, err)
	}
	return &Log{dir: dir, identity: id, incarnation: 1, config: c, lock: lock, etcd: w, note: note}, nil
}

// Open opens the directory of a member and says what may be believed of it. An error that is ErrDamaged tells the
// operator what to do, and nothing was changed on the disk; ErrInUse means that another process has it; fs.ErrNotExist
// that no member is there.
func Open(dir string, c Config) (_ *Log, _ Recovered, err error) {
	c = c.withDefaults()
	if !Exists(dir) {
		return nil, Recovered{}, fmt.Errorf("open %s: no member is there: %w", dir, fs.ErrNotExist)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, Recovered{}, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	// Ours comes first: etcd's ReadAll erases what it does not understand.
	p, err := replay(dir, c.SegmentBytes, c.CommittedData)
	if err != nil {
		return nil, Recovered{}, err
	}
	for _, reason := range p.rejected {
		c.Logger.Warn("fell back from a snapshot that can't be used", "err", reason)
	}
	p.recovered.Incarnation++
	if err := writeIncarnation(dir, p.recovered.Identity.MemberID, p.recovered.Incarnation); err != nil {
		return nil, Recovered{}, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := p.clean(dir, c.Logger); err != nil {
		return nil, Recovered{}, fmt.Errorf("open %s: %w", dir, err)
	}
	w, err := position(dir, c)
	if err != nil {
		return nil, Recovered{}, fmt.Errorf("open %s: %w", dir, err)
	}
	note, err := openReached(dir, p.recovered.Identity.MemberID, p.reached)
	if err != nil {
		w.Close()
		return nil, Recovered{}, fmt.Errorf("open %s: %w", dir, err)
	}
	l := &Log{
		dir: dir, identity: p.recovered.Identity, incarnation: p.recovered.Incarnation, config: c, lock: lock, etcd: w, note: note,
		state: p.state, unit: p.unit, last: p.last, dropped: p.dropped, kept: p.kept,
	}
	for _, e := range p.recovered.Entries {
		l.appended.Add(int64(proto.Size(e)))
	}
	// A killed process may have left bytes that we read but no disk has yet, and raft will answer for them at once.
	if err := l.writeUnit(p.state, nil); err != nil {
		w.Close()
		note.Close()
		return nil, Recovered{}, fmt.Errorf("open %s: %w", dir, err)
	}
	return l, p.recovered, nil
}

// position has etcd read the last segment, which is how its writer learns where to go on. No entry is behind the
// highest index there is, so its reader finds none, and none of its mistakes either; what it returns does not matter.
func position(dir string, c Config) (*etcdwal.WAL, error) {
	setSegmentBytes(c.SegmentBytes)
	w, err := etcdwal.Open(zapLogger(c.Logger), walDir(dir), &walpb.Snapshot{Index: proto.Uint64(math.MaxUint64)})
	if err != nil {
		return nil, err
	}
	if _, _, _, err := w.ReadAll(); err != nil && !errors.Is(err, etcdwal.ErrSnapshotNotFound) {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Reread is the entries that Open recovered, with the data of all. It must come before the first write.
func (l *Log) Reread() ([]*raftpb.Entry, error) {
	p, err := replay(l.dir, 0, 0)
	if err != nil {
		return nil, err
	}
	return p.recovered.Entries, nil
}

// Identity is what Create was given.
func (l *Log) Identity() Identity { return l.identity }

// Incarnation is how many times the directory has been opened, this time included.
func (l *Log) Incarnation() uint64 { return l.incarnation }

// Appended is the bytes of entries appended since the last snapshot that counts. It never blocks.
func (l *Log) Appended() int64 { return l.appended.Load() }

// Append writes entries in the order given, then the hard state, and returns when they are on the disk; entries may
// hold several runs, each of which replaces what it overlaps. A nil or empty hard state leaves the last one valid.
// With no entries, and neither term nor vote changed, nothing is written: the commit index is kept until the next
// write. The caller may go on using entries and hard, but may not change them meanwhile.
//
// Entries that leave a gap, or a commit index beyond the last entry, are a bug of the caller: Append panics.
func (l *Log) Append(hard *raftpb.HardState, entries []*raftpb.Entry) error {
	if err := l.failed(); err != nil {
		return err
	}
	state := l.state
	if next := hardStateOf(hard); next != (hardState{}) {
		state = next
	}
	if len(entries) == 0 && state.sameVote(l.durable) {
		l.check(state)
		l.state = state
		return nil
	}
	size := 0
	begin := 0
	for i, e := range entries {
		if e.GetIndex() == 0 || e.GetTerm() == 0 || e.GetIndex() > l.last+1 {
			panic(fmt.Sprintf("wal: append entry %d of term %d to a log that ends at %d", e.GetIndex(), e.GetTerm(), l.last))
		}
		if e.GetIndex() <= l.last {
			l.dropped = max(l.dropped, l.last)
		}
		l.last = e.GetIndex()
		state.seen(e.GetTerm())
		n := proto.Size(e)
		if size > 0 && size+n+frameBytes > maxUnitBytes {
			// The commit index may be that of a later run, so it waits for the last unit.
			early := hardState{state.term, state.vote, l.state.commit}
			if err := l.writeUnit(early, entries[begin:i]); err != nil {
				return err
			}
			begin, size = i, 0
		}
		size += n + frameBytes
		l.appended.Add(int64(n))
	}
	l.check(state)
	return l.writeUnit(state, entries[begin:])
}

func (l *Log) check(state hardState) {
	if state.commit > l.last {
		panic(fmt.Sprintf("wal: commit index %d, but the log ends at %d", state.commit, l.last))
	}
}

// writeUnit writes entries, then the hard state with the next unit's number, and syncs. A unit always ends with its
// hard state: that is how a reader knows that what came before it was synced (tail.go).
func (l *Log) writeUnit(state hardState, entries []*raftpb.Entry) error {
	begin := time.Now()
	err := l.etcd.Save(state.numbered(l.unit+1), entries)
	if err == nil && len(entries) == 0 {
		err = l.etcd.Sync() // Save itself syncs only where raft needs it
	}
	if err != nil {
		return l.die(fmt.Errorf("append to the log in %s: %w", l.dir, err))
	}
	l.config.ObserveSync(time.Since(begin))
	l.state, l.durable = state, state
	if state != (hardState{}) {
		l.unit++
	}
	return l.noteReached()
}

// Sync puts on the disk what Append may have kept in memory: a commit index.
func (l *Log) Sync() error {
	if err := l.failed(); err != nil {
		return err
	}
	if l.state == l.durable {
		return nil
	}
	return l.writeUnit(l.state, nil)
}

// Close syncs and gives the directory back; calls after it are refused. Of a dead Log it returns the error that killed
// it. It is idempotent.
func (l *Log) Close() error {
	if l.closed {
		return l.closeErr
	}
	l.closed = true
	err := l.failed()
	if err == nil {
		// Written even where nothing changed: it proves to the next Open that the unit before it was synced.
		err = l.writeUnit(l.state, nil)
	}
	if closeErr := l.etcd.Close(); err == nil && closeErr != nil {
		err = l.die(fmt.Errorf("close the log in %s: %w", l.dir, closeErr))
	}
	l.lock.Close() // nothing was written through it
	l.note.Close() // and what was, need not be on the disk
	l.closeErr = err
	if err == nil {
		l.mu.Lock()
		l.dead = fmt.Errorf("use the log in %s: %w", l.dir, fs.ErrClosed)
		l.mu.Unlock()
	}
	return err
}

// Size is what the log and the snapshots take on the disk, in bytes; segments that are allocated but not written yet
// count. Any goroutine may call it.
func (l *Log) Size() (walBytes, snapBytes int64, err error) {
	if walBytes, err = dirSize(walDir(l.dir)); err != nil {
		return 0, 0, err
	}
	snapBytes, err = dirSize(filepath.Join(l.dir, snapDirName))
	return walBytes, snapBytes, err
}

// failed is the error that killed the Log, or nil.
func (l *Log) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// die keeps the first error for ever and returns it.
func (l *Log) die(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == nil {
		l.dead = fmt.Errorf("%w: %w", ErrDead, err)
	}
	return l.dead
}
