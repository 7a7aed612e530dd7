//go:build unix

package damage

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"raft3d/wal"
)

// past is a directory that is to be damaged, and what became of it until then.
type past struct {
	name  string
	files map[string][]byte
	older []map[string][]byte // the same directory earlier
	farms []farmOf            // after each write, oldest first
	// noted is how many of the farms the log is known to have reached: all, but for the writes before a power cut
	// whose note it took back.
	noted int
	// answered says that somebody was told of all of these writes, so that not one may be missing.
	answered bool
}

// maker makes a past, life by life.
type maker struct {
	t    *testing.T
	dir  string
	past past
}

// live starts the node, has it write up to the nth printer and ends it: in order, or by a copy that is taken before.
func (k *maker) live(to int, inOrder bool) {
	k.t.Helper()
	m, err := start(k.dir)
	if err != nil {
		k.t.Fatal(err)
	}
	for from := len(k.past.farms); from < to; from++ {
		if from%10 == 0 {
			k.past.older = append(k.past.older, read(k.t, k.dir))
		}
		k.past.farms = append(k.past.farms, m.write(k.t, from, from+1)...)
	}
	k.past.files = read(k.t, k.dir)
	if err := m.end(inOrder); err != nil {
		k.t.Fatal(err)
	}
	if !inOrder {
		return
	}
	if err := wal.Seal(filepath.Join(k.dir, "state.db")); err != nil {
		k.t.Fatal(err)
	}
	k.past.files = read(k.t, k.dir)
}

// log changes the log as a leader of another term would have.
func (k *maker) log(change func(l *wal.Log, rec wal.Recovered) error) {
	k.t.Helper()
	l, rec, err := wal.Open(k.dir, segments)
	if err == nil {
		err = errors.Join(change(l, rec), l.Close())
	}
	if err != nil {
		k.t.Fatal(err)
	}
}

func hard(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func blanks(from, to, term uint64) (entries []*raftpb.Entry) {
	for i := from; i <= to; i++ {
		entries = append(entries, &raftpb.Entry{Index: &i, Term: &term})
	}
	return entries
}

// overwritten gives the log entries that were never committed, and others in their place.
func (k *maker) overwritten() {
	k.log(func(l *wal.Log, rec wal.Recovered) error {
		last, term := rec.Snapshot.GetIndex()+uint64(len(rec.Entries)), rec.HardState.GetTerm()
		return errors.Join(
			l.Append(hard(term+1, 1, rec.HardState.GetCommit()), blanks(last+1, last+40, term+1)),
			l.Append(hard(term+2, 1, rec.HardState.GetCommit()), blanks(last+3, last+9, term+2)),
			l.Append(hard(term+3, 1, rec.HardState.GetCommit()), blanks(last+2, last+5, term+3)))
	})
}

// installed has the node write in one directory, and goes on in another that got its state as a snapshot, over entries
// that this one does not have.
func (k *maker) installed(to int) {
	first, err := start(k.dir)
	if err != nil {
		k.t.Fatal(err)
	}
	k.past.farms = first.write(k.t, 0, to)
	index, term, _, err := first.node.TakeSnapshot(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	state, meta, err := first.disk.OpenSnapshot(index, term)
	if err != nil {
		k.t.Fatal(err)
	}
	k.dir = filepath.Join(k.t.TempDir(), "other")
	l, err := wal.Create(k.dir, identity, segments)
	if err != nil {
		k.t.Fatal(err)
	}
	err = l.Append(hard(1, 1, 0), blanks(1, 7, 1))
	if err == nil {
		k.past.older = append(k.past.older, read(k.t, k.dir))
		_, err = l.WriteSnapshot(meta, all{state})
	}
	if err == nil {
		err = l.MarkSnapshot(meta)
	}
	if err == nil {
		err = l.Append(hard(term, 1, index), nil)
	}
	if err := errors.Join(err, l.Close(), state.Close(), first.end(false)); err != nil {
		k.t.Fatal(err)
	}
}

// all is a reader that can be written.
type all struct{ io.Reader }

func (a all) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, a.Reader) }

// powerCut takes the note back to where it was so many writes before the end.
func (k *maker) powerCut(writes int) {
	k.t.Helper()
	m, err := start(k.dir)
	if err != nil {
		k.t.Fatal(err)
	}
	from := len(k.past.farms)
	k.past.farms = append(k.past.farms, m.write(k.t, from, from+30)...)
	note := read(k.t, k.dir)["reached"]
	k.past.farms = append(k.past.farms, m.write(k.t, from+30, from+30+writes)...)
	k.past.files = read(k.t, k.dir)
	k.past.files["reached"] = note
	k.past.noted -= writes
	if err := m.end(false); err != nil {
		k.t.Fatal(err)
	}
}

// pasts makes directories of several pasts.
func pasts(t *testing.T) (all []past) {
	for _, p := range []struct {
		name string
		make func(k *maker)
	}{
		{"young, killed", func(k *maker) { k.live(5, false) }},
		{"young, ended", func(k *maker) { k.live(5, true) }},
		{"grown, killed", func(k *maker) { k.live(50, false); k.live(90, false); k.live(130, false) }},
		{"grown, ended", func(k *maker) { k.live(50, true); k.live(90, true); k.live(130, true) }},
		{"restarted often, killed", func(k *maker) {
			for to := 3; to <= 15; to += 3 {
				k.live(to, to%2 == 0)
			}
		}},
		{"overwritten entries, killed", func(k *maker) { k.live(20, false); k.overwritten(); k.live(40, false) }},
		{"overwritten entries, ended", func(k *maker) { k.live(20, true); k.overwritten(); k.live(40, true) }},
		{"installed snapshot, killed", func(k *maker) { k.installed(30); k.live(45, false) }},
		{"installed snapshot, ended", func(k *maker) { k.installed(30); k.live(45, true) }},
		{"power cut in a write", func(k *maker) { k.live(20, false); k.powerCut(1) }},
		{"power cut, note 20 writes old", func(k *maker) { k.live(20, false); k.powerCut(20) }},
	} {
		k := &maker{t: t, dir: filepath.Join(t.TempDir(), "data")}
		p.make(k)
		k.past.name = p.name
		k.past.answered = k.past.noted == 0
		k.past.noted += len(k.past.farms)
		all = append(all, k.past)
	}
	return all
}

// is tells a farm from all others that the node ever had. The empty one counts: it is what a new directory has.
func (p *past) is(f farmOf) (writes int, known bool) {
	if f == (farmOf{}) {
		return 0, true
	}
	i := slices.Index(p.farms, f)
	return i + 1, i >= 0
}

// read returns the files of a directory at one moment. A node that lives removes files by itself, after the last write
// too, so it is read until it was the same twice.
func read(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	var before map[string][]byte
	for {
		files := map[string][]byte{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".tmp") {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			files[name], err = os.ReadFile(path)
			return err
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			before = nil
		case err != nil:
			t.Fatal(err)
		case before != nil && maps.EqualFunc(before, files, bytes.Equal):
			return files
		default:
			before = files
		}
	}
}

func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
