package wal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// fuzzBase is the directory of a member that ended cleanly: two snapshots, several segments.
type fuzzBase struct {
	dir      string
	files    []string          // what may be damaged: the last segment, the others, the snapshots, the incarnation, the note
	good     map[string][]byte // what is in them
	full     string            // what a reader finds
	older    string            // and without the newest snapshot
	prefixes []string          // after each record of the last segment, from its head on
	last     *crashed          // the last segment
	allowed  uint64            // bytes that a reader may allocate
}

func newFuzzBase(t testing.TB) *fuzzBase {
	t.Helper()
	dir := memoryDir(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fixture{t: t, dir: filepath.Join(dir, "n"), config: Config{SegmentBytes: 1 << 10}}
	var err error
	f.Log, err = Create(f.dir, testIdentity, f.config)
	must(t, err)
	b := &fuzzBase{dir: f.dir, good: map[string][]byte{}, allowed: 8 << 20}
	m := &model{}
	note := func() { b.prefixes = append(b.prefixes, m.with(m.durable)) }
	for i := uint64(1); i <= 40; i++ {
		entries := []*raftpb.Entry{entry(i, 2)}
		if i%8 == 0 {
			entries = append(entries, entry(i+1, 2), entry(i+2, 2)) // overwritten by the next ones
		}
		for _, e := range entries {
			m.append(snapshotID{e.GetIndex(), e.GetTerm()})
			note()
		}
		m.state = hardState{2, 1, i}
		m.durable = m.state
		note()
		f.append(m.state.message(), entries...)
		if i == 20 || i == 25 {
			m.older, m.newest = m.newest, snapshotID{i, 2}
			f.snapshot(i, 2)
			note()
		}
	}
	f.close()
	note() // the unit of Close
	b.full = m.String()
	m.newest = m.older
	b.older = m.String()

	b.last = inspect(t, f.dir)
	b.prefixes = b.prefixes[len(b.prefixes)-1-(len(b.last.ends)-headRecords):]
	list, err := segments(walDir(f.dir))
	must(t, err)
	for _, s := range slices.Backward(list) {
		b.files = append(b.files, filepath.Join(walDir(f.dir), s.name))
	}
	b.files = append(b.files, snapshotID{25, 2}.path(f.dir), snapshotID{20, 2}.path(f.dir), filepath.Join(f.dir, incarnationName),
		filepath.Join(f.dir, reachedName))
	for _, path := range b.files {
		b.good[path], err = os.ReadFile(path)
		must(t, err)
		b.allowed += 16 * uint64(len(b.good[path]))
	}
	r, err := Read(f.dir)
	must(t, err)
	want(t, r, b.full)
	return b
}

// FuzzReadingADamagedDirectory damages one file of a good directory. What is read is the same log, or the part of it in
// front of a tail of which nothing is left, if no note says that it reached farther; else it is refused. It never panics,
// and allocates no more than the files' size accounts for.
func FuzzReadingADamagedDirectory(f *testing.F) {
	for file := range uint8(10) {
		for _, noted := range []bool{true, false} {
			f.Add(file, uint16(0), uint16(0), []byte{1}, noted)
			f.Add(file, uint16(300), uint16(1), []byte(nil), noted)
			f.Add(file, uint16(512), uint16(512), []byte(nil), noted)
			f.Add(file, uint16(700), uint16(8), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}, noted)
			f.Add(file, uint16(600), uint16(0xffff), []byte(nil), noted)
		}
	}
	b := newFuzzBase(f)
	note := filepath.Join(b.dir, reachedName)
	f.Fuzz(func(t *testing.T, file uint8, at, blanks uint16, data []byte, noted bool) {
		path := b.files[int(file)%len(b.files)]
		if !noted {
			must(t, remove(note))
			defer put(t, note, b.good[note])
		}
		good := b.good[path]
		from := int(at) % (len(good) + 1)
		damaged := slices.Clone(good)
		switch {
		case blanks == 0xffff:
			damaged = damaged[:from] // and then something else
			damaged = append(damaged, data...)
		default:
			clear(damaged[from:min(len(good), from+int(blanks))])
			copy(damaged[from:], data)
		}
		to := min(len(good), from+max(int(blanks), len(data)))
		put(t, path, damaged)
		defer put(t, path, good)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Read(b.dir)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > b.allowed+16*uint64(len(data)) {
			t.Fatalf("allocated %d bytes", n)
		}
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, errFormat) {
				t.Fatalf("neither read nor refused as damaged: %v", err)
			}
			if bytes.Equal(damaged, good) {
				t.Fatalf("not damaged, and refused: %v", err)
			}
			return
		}
		got := describe(r)
		switch {
		case got == b.full:
		case path == b.files[len(b.files)-4] && got == b.older:
		case noted || path != b.files[0] || !slices.Contains(b.prefixes, got):
			t.Fatalf("%s, bytes %d to %d: recovered %s", path, from, to, got)
		case int64(to) <= b.last.ends[len(b.last.ends)-2]:
			t.Fatalf("bytes %d to %d are damaged, the last unit from %d on is whole: recovered %s",
				from, to, b.last.ends[len(b.last.ends)-2], got)
		}
	})
}
