package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Recovered is what a restart may believe. It belongs to the caller.
type Recovered struct {
	Identity    Identity
	Incarnation uint64                   // how many times the directory has been opened, this time included
	HardState   *raftpb.HardState        // never nil; its commit index is within the log
	Snapshot    *raftpb.SnapshotMetadata // of the newest snapshot that counts and has a good file; nil: none
	Entries     []*raftpb.Entry          // contiguous from Snapshot.Index+1 on, or from 1
	Bare        uint64                   // Entries up to this index are without their data (Config.CommittedData); 0: none is
	TornBytes   int64                    // what a crash had left half-written at the end, and is cut off
}

// Read is what Open would recover, without changing anything; Incarnation is that of the last Open. No process may
// have the directory open.
func Read(dir string) (Recovered, error) {
	if !Exists(dir) {
		return Recovered{}, fmt.Errorf("read %s: no member is there: %w", dir, fs.ErrNotExist)
	}
	p, err := replay(dir, 0, 0)
	if err != nil {
		return Recovered{}, err
	}
	return p.recovered, nil
}

const remedy = "start nothing on this directory: remove this member from the cluster, empty the directory and join again (a single node: restore a backup)"

// errFormat is in the error for a directory of another version, in which nothing else is wrong.
var errFormat = fmt.Errorf("this version reads format %d; run the one that wrote it", formatVersion)

func damaged(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	var path *fs.PathError
	if errors.Is(err, errFormat) || errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist) { // such as: no permission
		return err
	}
	return fmt.Errorf("%w: %w; %s", ErrDamaged, err, remedy)
}

// plan is what replay found, and what Open has to do about it.
type plan struct {
	recovered Recovered
	rejected  []error        // why newer snapshots were passed over
	reached   reached        // what the note said
	kept      []keptSnapshot // the snapshots that count, older first
	orphans   []string       // files that nothing refers to
	tail      string         // the last segment
	end       int64          // where it goes on
	torn      bool           // it holds something behind end

	state               hardState
	unit, last, dropped uint64
}

// keptSnapshot is a snapshot that counts.
type keptSnapshot struct {
	snapshotID
	segment uint64 // sequence number of the segment that holds its record
}

// replay reads the directory, and changes nothing. All retained segments are read in the order in which they were
// written. Each record has the effect that it had on the log when it was written, so that what raft had dropped is
// dropped again: an entry replaces everything from its index on, and a snapshot keeps what follows it only where the
// log has the very entry that it ends with.
//
// allocated is the length that the last segment was given when it was made, if that is known; a log may have grown
// beyond it, but is not shorter. committedData is that of Config.
func replay(dir string, allocated int64, committedData uint64) (*plan, error) {
	member, incarnation, err := readIncarnation(dir)
	if err != nil {
		return nil, damaged("%w", err)
	}
	list, err := segments(walDir(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("%w", err)
	}
	if len(list) == 0 {
		return nil, damaged("%s holds no log", walDir(dir))
	}
	r := replayer{firstSegment: list[0].seq, allocated: allocated, committedData: committedData}
	p := &plan{}
	for i, s := range list {
		if s.seq != list[0].seq+uint64(i) {
			return nil, damaged("segment %016x is missing before %s", list[0].seq+uint64(i), filepath.Join(walDir(dir), s.name))
		}
		p.tail = filepath.Join(walDir(dir), s.name)
		if p.end, p.recovered.TornBytes, err = r.readSegment(p.tail, s.seq, i == len(list)-1); err != nil {
			return nil, err
		}
	}
	p.torn = p.recovered.TornBytes > 0
	if r.identity.MemberID != member {
		return nil, damaged("%s is of member %x, the log of member %x", filepath.Join(dir, incarnationName), member, r.identity.MemberID)
	}
	p.recovered.Identity, p.recovered.Incarnation = r.identity, incarnation
	if p.reached, err = readReached(dir, member); err != nil {
		return nil, damaged("%w", err)
	}
	switch {
	case incarnation < p.reached.incarnation:
		return nil, damaged("%s tells of %d starts, but there were %d: it is an older copy of it",
			filepath.Join(dir, incarnationName), incarnation, p.reached.incarnation)
	case r.unit < p.reached.unit:
		return nil, damaged("%s: the log ends with unit %d, though unit %d was on the disk", p.tail, r.unit, p.reached.unit)
	case p.reached.snapshot > 0 && !slices.ContainsFunc(r.snapshots, func(s keptSnapshot) bool { return s.index >= p.reached.snapshot }):
		return nil, damaged("%s: the log has no record of snapshot %d, though it was on the disk", p.tail, p.reached.snapshot)
	}
	if err := r.choose(dir, p); err != nil {
		return nil, err
	}
	return p, nil
}

// clean does what replay found to be done before the log is written again.
func (p *plan) clean(dir string, log *slog.Logger) error {
	if p.torn {
		log.Warn("cut off what a crash had left half-written at the end of the log",
			"segment", p.tail, "offset", p.end, "bytes", p.recovered.TornBytes)
		f, err := os.OpenFile(p.tail, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			err = f.Truncate(p.end)
		}
		if err == nil {
			// Zeros: the length shows that nothing was cut off, and etcd's reader wants room for a record's head.
			err = f.Truncate(max(info.Size(), p.end+sectorBytes))
		}
		if err == nil {
			err = f.Sync()
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("cut %s: %w", p.tail, err)
		}
	}
	for _, path := range p.orphans {
		if err := remove(path); err != nil {
			return err
		}
	}
	if err := makeDirs(filepath.Join(dir, snapDirName)); err != nil {
		return err
	}
	// etcd would go on in a segment that it had allocated before, whatever is in it.
	allocated, err := filepath.Glob(filepath.Join(walDir(dir), "*"+tmpSuffix))
	if err != nil {
		return err
	}
	for _, path := range allocated {
		if err := remove(path); err != nil {
			return err
		}
	}
	return nil
}

// segment is one file of the log.
type segment struct {
	seq   uint64 // rises by one from file to file
	index uint64 // one above the last entry written before it
	name  string
}

// segments lists the log's files in order.
func segments(dir string) ([]segment, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".wal") {
			continue
		}
		s := segment{name: f.Name()}
		if _, err := fmt.Sscanf(f.Name(), "%016x-%016x.wal", &s.seq, &s.index); err != nil ||
			fmt.Sprintf("%016x-%016x.wal", s.seq, s.index) != f.Name() {
			return nil, fmt.Errorf("%s is not the name of a segment", filepath.Join(dir, f.Name()))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b segment) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// segmentReader is a file for etcd's decoder. It tells a disk that can't be read from a file that ends.
type segmentReader struct {
	io.Reader
	info fs.FileInfo
	err  error
}

func (s *segmentReader) FileInfo() (fs.FileInfo, error) { return s.info, nil }

func (s *segmentReader) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// readSegment takes in the records of one segment. It returns where they end, and the bytes behind that in the last
// segment which a crash may leave; what it may not leave is an error.
func (r *replayer) readSegment(path string, seq uint64, last bool) (end, torn int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, fmt.Errorf("read the log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("read the log: %w", err)
	}
	reader := &segmentReader{Reader: f, info: info}
	decoder := etcdwal.NewDecoder(reader)
	decoder.UpdateCRC(r.crc)
	rec := &walpb.Record{}
	n := 0
	for ; decoder.Decode(rec) == nil; n++ {
		if decoder.LastOffset()%8 != 0 {
			return 0, 0, damaged("%s: record before byte %d: its length is not a multiple of 8", path, decoder.LastOffset())
		}
		if err := r.record(rec, decoder, seq, n); err != nil {
			return 0, 0, damaged("%s: record before byte %d: %w", path, decoder.LastOffset(), err)
		}
	}
	if reader.err != nil {
		return 0, 0, fmt.Errorf("read the log: %w", reader.err)
	}
	end = decoder.LastOffset()
	if n < headRecords {
		return 0, 0, damaged("%s: the head of the segment is broken at byte %d", path, end)
	}
	r.crc = decoder.LastCRC()
	space := info.Size() - end
	rest, err := writtenPart(f, end, space)
	if err != nil {
		return 0, 0, fmt.Errorf("read the log: %w", err)
	}
	if !last {
		// The next segment exists, so all of this one was synced; that nothing is missing, the next one's head shows.
		if len(rest) > 0 {
			return 0, 0, damaged("%s: broken at byte %d", path, end)
		}
		return end, 0, nil
	}
	// A power cut does not shorten a file. Without this, one that lost its end would look like one whose last writes
	// never were.
	if info.Size() < r.allocated {
		return 0, 0, damaged("%s: it ends at byte %d, though it was made %d bytes long", path, info.Size(), r.allocated)
	}
	if err := judgeTail(rest, space, end, r.unit); err != nil {
		return 0, 0, damaged("%s: after byte %d: %w", path, end, err)
	}
	return end, int64(len(rest)), nil
}

// choose finds the snapshot to start from and the entries behind it, and completes the plan.
func (r *replayer) choose(dir string, p *plan) error {
	// A snapshot is of committed state, whether or not the hard state that says so reached the disk. So is its term.
	commit, state := r.state.commit, r.state
	for _, s := range r.snapshots {
		commit = max(commit, s.index)
		state.seen(s.term)
	}
	first, last := r.bounds()
	if last < commit {
		return damaged("%s: the log ends at entry %d, but entry %d was committed", p.tail, last, commit)
	}
	for _, e := range r.entries {
		state.seen(e.GetTerm())
	}
	state.commit = commit

	files, err := snapshotFiles(dir)
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	candidates := slices.Clone(r.snapshots)
	slices.SortStableFunc(candidates, func(a, b keptSnapshot) int { return b.compare(a.snapshotID) }) // newest first
	candidates = slices.CompactFunc(candidates, func(a, b keptSnapshot) bool { return a.snapshotID == b.snapshotID })
	for _, s := range candidates {
		has, _ := r.has(s.snapshotID)
		if len(p.kept) == 1 { // the second one is not needed now, so it is not read
			if has && slices.Contains(files, s.snapshotID) {
				p.kept = append(p.kept, s)
				break
			}
			continue
		}
		if !has {
			p.rejected = append(p.rejected, fmt.Errorf("snapshot %s: the log does not reach back to it", s.path(dir)))
			continue
		}
		metadata, err := verifySnapshot(dir, s.snapshotID)
		if err != nil {
			p.rejected = append(p.rejected, err)
			continue
		}
		p.recovered.Snapshot = metadata
		p.kept = append(p.kept, s)
	}
	slices.Reverse(p.kept)
	if fromStart, _ := r.has(snapshotID{}); len(p.kept) == 0 && !fromStart {
		return damaged("%s has no snapshot to start from: %w", dir, errors.Join(p.rejected...))
	}
	start := p.recovered.Snapshot.GetIndex()
	p.recovered.Entries = slices.Clone(r.entries[start+1-first:])
	if bare := min(r.bare, last); bare > start {
		p.recovered.Bare = bare
	}
	p.recovered.HardState = state.message()
	p.state, p.unit, p.last, p.dropped = state, r.unit, last, r.dropped

	recorded := map[snapshotID]bool{}
	for _, s := range r.snapshots {
		recorded[s.snapshotID] = true
	}
	for _, id := range files {
		if !recorded[id] {
			p.orphans = append(p.orphans, id.path(dir))
		}
	}
	half, err := filepath.Glob(filepath.Join(dir, snapDirName, "*"+tmpSuffix))
	p.orphans = append(p.orphans, half...)
	return err
}
