package raftnode

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"raft3d/wal"
)

// realDisk is a directory that the production wal writes and reads beside the records of a memoryDisk. What it recovers
// after each crash is what the member goes on with, and must be what the records amount to. A crash may tear the last
// write sector by sector.
type realDisk struct {
	c    *cluster
	root string // of this member; each life in a directory of its own, since the last one is left as the crash left it
	life int
	id   wal.Identity
	log  *wal.Log // nil: nobody runs
	torn *raftpb.Message
	held *raftpb.HardState // what was in memory when that was under way
}

const sector = 512 // bytes; what a disk writes whole

// testDir is a directory in memory, where the machine has one: nothing here outlives the test, and fsync costs nothing.
func (c *cluster) testDir() string {
	if c.root == "" {
		dir, err := os.MkdirTemp("/dev/shm", "raftnode")
		if err != nil {
			dir, err = os.MkdirTemp("", "raftnode")
		}
		if err != nil {
			c.fatalf("%v", err)
		}
		c.root = dir
		c.t.Cleanup(func() { os.RemoveAll(dir) })
	}
	c.dirs++
	return filepath.Join(c.root, fmt.Sprint(c.dirs))
}

var smallSegments = wal.Config{SegmentBytes: 32 << 10}

func newRealDisk(c *cluster, id uint64) *realDisk {
	d := &realDisk{c: c, root: c.testDir(), id: wal.Identity{ClusterID: 1, MemberID: id, Name: fmt.Sprint("node", id), Founder: id == 1}}
	var err error
	if d.log, err = wal.Create(d.dir(), d.id, smallSegments); err != nil {
		c.fatalf("%v", err)
	}
	c.t.Cleanup(func() { d.close() })
	return d
}

func (d *realDisk) dir() string { return filepath.Join(d.root, fmt.Sprint(d.life)) }

func (d *realDisk) must(err error) {
	if err != nil {
		d.c.fatalf("the disk of %d: %v", d.id.MemberID, err)
	}
}

func (d *realDisk) close() {
	if d.log != nil {
		d.must(d.log.Close())
		d.log = nil
	}
}

// crash leaves the directory as a power cut does: what was appended is there, and of the append that was under way
// those sectors that happened to be written. The member goes on in a copy.
func (d *realDisk) crash(underWay *raftpb.Message) {
	if d.log == nil {
		return
	}
	if underWay != nil {
		d.tear(underWay)
	}
	from := d.dir()
	d.life++
	d.must(os.CopyFS(d.dir(), os.DirFS(from)))
	if err := d.log.Close(); !errors.Is(err, wal.ErrDead) { // in the old directory, which nobody looks at any more
		d.must(err)
	}
	d.log = nil
	d.must(os.RemoveAll(from))
}

// tear appends m and takes back some of the sectors in which that changed the log.
func (d *realDisk) tear(m *raftpb.Message) {
	before := d.segments()
	note := filepath.Join(d.dir(), "reached") // which comes after the write that is torn here
	reached, err := os.ReadFile(note)
	d.must(err)
	d.must(d.log.Append(hardState(m), m.GetEntries()))
	after := d.segments()
	if len(before) != len(after) {
		return // it began another segment, and all before that is synced
	}
	last := slices.Max(keysOf(after))
	was, is := before[last], after[last]
	var changed []int
	for at := 0; at < len(is); at += sector {
		if end := min(at+sector, len(is)); !bytes.Equal(padded(was, len(is))[at:end], is[at:end]) {
			changed = append(changed, at)
		}
	}
	for _, at := range changed {
		if d.c.rng.IntN(3) == 0 {
			copy(is[at:min(at+sector, len(is))], padded(was, len(is))[at:])
		}
	}
	d.must(os.WriteFile(filepath.Join(d.dir(), "wal", last), is, 0o600))
	d.must(os.WriteFile(note, reached, 0o600))
	d.torn = m
}

func padded(b []byte, n int) []byte {
	return append(slices.Clone(b), make([]byte, max(0, n-len(b)))...)
}

func keysOf(m map[string][]byte) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func (d *realDisk) segments() map[string][]byte {
	all := map[string][]byte{}
	dir := filepath.Join(d.dir(), "wal")
	files, err := os.ReadDir(dir)
	d.must(err)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".wal") {
			all[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name()))
			d.must(err)
		}
	}
	return all
}

// open recovers the directory, and holds that against the records.
func (d *realDisk) open(records *memoryDisk) recoveredDisk {
	d.close()
	log, found, err := wal.Open(d.dir(), smallSegments)
	d.must(err)
	d.log = log
	if found.TornBytes > 0 {
		d.c.count("torn tail cut")
	}
	got := recoveredDisk{found.Snapshot, found.Entries, found.HardState}
	candidates := []recoveredDisk{records.replay()}
	if d.torn != nil {
		candidates = append(candidates, records.replayTorn(d.torn)...)
		d.torn = nil
	}
	for _, want := range candidates {
		if got.same(want) {
			records.adopt(got)
			return got
		}
	}
	d.c.fatalf("the log of %d recovers %v, want one of %v", d.id.MemberID, got, candidates)
	return got
}

// replayTorn is what may be there after a crash in the middle of an append: some of its entries, perhaps its hard state.
func (d *memoryDisk) replayTorn(m *raftpb.Message) (all []recoveredDisk) {
	for n := range len(m.GetEntries()) + 1 {
		for _, hard := range []*raftpb.HardState{nil, cmp.Or(hardState(m), d.real.held)} {
			torn := &memoryDisk{records: slices.Clone(d.records), files: d.files, hard: d.durable, durable: d.durable}
			for _, e := range m.GetEntries()[:n] {
				torn.records = append(torn.records, diskRecord{entry: e})
			}
			if hard != nil {
				torn.records = append(torn.records, diskRecord{hard: hard})
			}
			all = append(all, torn.replay())
		}
	}
	return all
}

// adopt makes the records those of what was recovered.
func (d *memoryDisk) adopt(r recoveredDisk) {
	d.records = nil
	if r.snapshot != nil {
		d.records = append(d.records, diskRecord{mark: r.snapshot})
	}
	for _, e := range r.entries {
		d.records = append(d.records, diskRecord{entry: e})
	}
	if !raft.IsEmptyHardState(r.hard) {
		d.records = append(d.records, diskRecord{hard: r.hard})
		d.hard, d.durable = r.hard, r.hard
	}
}

// same compares two logs. The wal raises term and commit to what entries and snapshots prove.
func (r recoveredDisk) same(o recoveredDisk) bool {
	if r.snapshot.GetIndex() != o.snapshot.GetIndex() || r.snapshot.GetTerm() != o.snapshot.GetTerm() || len(r.entries) != len(o.entries) {
		return false
	}
	for i, e := range r.entries {
		if e.GetIndex() != o.entries[i].GetIndex() || e.GetTerm() != o.entries[i].GetTerm() || !bytes.Equal(e.GetData(), o.entries[i].GetData()) {
			return false
		}
	}
	return r.proven() == o.proven()
}

func (r recoveredDisk) proven() (h [3]uint64) {
	h = [3]uint64{r.hard.GetTerm(), r.hard.GetVote(), max(r.hard.GetCommit(), r.snapshot.GetIndex())}
	terms := []uint64{r.snapshot.GetTerm()}
	if n := len(r.entries); n > 0 {
		terms = append(terms, r.entries[n-1].GetTerm())
	}
	for _, term := range terms {
		if term > h[0] {
			h[0], h[1] = term, 0
		}
	}
	return h
}

func (r recoveredDisk) String() string {
	var entries []string
	for _, e := range r.entries {
		entries = append(entries, fmt.Sprintf("%d/%d", e.GetIndex(), e.GetTerm()))
	}
	return fmt.Sprintf("{snapshot %d/%d, entries %v, hard state %v}", r.snapshot.GetIndex(), r.snapshot.GetTerm(), entries, r.proven())
}
