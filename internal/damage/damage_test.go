//go:build unix

// Package damage harms the files of data directories and sees what a node makes of them. Nothing but its own test is here.
package damage

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"raft3d/farm"
	"raft3d/kvstore"
	"raft3d/raftnode"
	"raft3d/wal"
)

var (
	cases = flag.Int("damage.cases", 400, "how many damaged directories TestADamagedDirectoryIsWholeOrRefused tries")
	seed  = flag.Uint64("damage.seed", 1, "where it begins")
)

var segments = wal.Config{SegmentBytes: 16 << 10}

// member is a node that is alone, without its ports.
type member struct {
	disk  *wal.Log
	store *kvstore.Store
	node  *raftnode.Node
	db    *kvstore.DB
}

// log is the node as the store's DB wants it.
type log struct{ *raftnode.Node }

func (l log) Propose(ctx context.Context, cmd []byte) (any, error) { return l.Node.Propose(ctx, cmd) }

// start opens a directory as the program does. The error is what an operator would be told.
func start(dir string) (_ *member, err error) {
	m := &member{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.end(false))
		}
	}()
	var rec wal.Recovered
	if wal.Exists(dir) {
		m.disk, rec, err = wal.Open(dir, segments)
	} else if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		return m, fmt.Errorf("%s has %s but no log: keep it aside", dir, left[0])
	} else {
		id := wal.Identity{ClusterID: 1, MemberID: 1, Name: "node1", Founder: true}
		if m.disk, err = wal.Create(dir, id, segments); err == nil {
			rec = wal.Recovered{Identity: id, Incarnation: m.disk.Incarnation()}
		}
	}
	if err != nil {
		return m, err
	}
	state := filepath.Join(dir, "state.db")
	intact, err := wal.Unseal(state)
	if err != nil {
		return m, err
	}
	if m.store, err = kvstore.Open(dir, kvstore.Options{Keep: intact}); err != nil {
		return m, err
	}
	m.node, err = raftnode.Start(raftnode.Config{
		Name: "node1", RaftAddr: "127.0.0.1:1", HTTPAddr: "127.0.0.1:2", Version: "test",
		Heartbeat: 5 * time.Millisecond, Election: 50 * time.Millisecond, SnapshotEntries: 60, Logger: slog.New(slog.DiscardHandler),
	}, m.disk, rec, m.store)
	if err != nil {
		return m, err
	}
	m.db = kvstore.NewDB(m.store, log{m.node})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.node.ReadBarrier(ctx); err != nil {
		return m, errors.Join(err, m.node.Err())
	}
	return m, nil
}

// end stops the node; in order, its state is kept for the next start.
func (m *member) end(inOrder bool) error {
	var errs []error
	if m.node != nil {
		errs = append(errs, m.node.Close())
	}
	if m.store != nil {
		if inOrder {
			errs = append(errs, m.store.Sync())
		}
		errs = append(errs, m.store.Close())
	}
	if m.disk != nil {
		errs = append(errs, m.disk.Close())
	}
	return errors.Join(errs...)
}

// farmOf is what a node holds: its revision and the hash over all changes.
type farmOf struct {
	revision uint64
	hash     [32]byte
}

func (m *member) farm(t testing.TB) (f farmOf) {
	t.Helper()
	err := m.db.View(t.Context(), farm.ReadOptions{}, func(v farm.View) error { f.revision = v.Revision(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	_, f.hash = m.store.Hash()
	return f
}

func (m *member) write(t testing.TB, from, to int) (after []farmOf) {
	t.Helper()
	for i := from; i < to; i++ {
		c := farm.CreatePrinter{Text: farm.Text{ID: farm.ID(fmt.Sprint("p", i)), Notes: strings.Repeat("x", i%700)}, Company: "Prusa", Model: "MK4"}
		if _, err := m.db.Do(t.Context(), c, farm.Stamp{At: farm.Time(i) + 1_700_000_000_000, Actor: "t"}); err != nil {
			t.Fatal(err)
		}
		after = append(after, m.farm(t))
	}
	return after
}

// history is a directory that is to be damaged, and the farms that were ever acknowledged in it, oldest first.
type history struct {
	name  string
	files map[string][]byte
	farms []farmOf
	clean bool // the node ended in order
}

// histories makes directories of several pasts: young and grown, ended in order and killed.
func histories(t *testing.T) (all []history) {
	for _, h := range []struct {
		name   string
		writes []int // between them the node is started anew
		clean  bool
	}{
		{"young, killed", []int{5}, false},
		{"young, ended", []int{5}, true},
		{"grown, killed", []int{50, 90, 130}, false},
		{"grown, ended", []int{50, 90, 130}, true},
		{"restarted often, killed", []int{3, 6, 9, 12, 15}, false},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		made := history{name: h.name, clean: h.clean}
		from := 0
		for i, to := range h.writes {
			m, err := start(dir)
			if err != nil {
				t.Fatal(err)
			}
			made.farms = append(made.farms, m.write(t, from, to)...)
			from = to
			last := i == len(h.writes)-1
			if last && !h.clean {
				made.files = read(t, dir)
			}
			if err := m.end(h.clean); err != nil {
				t.Fatal(err)
			}
			if last && h.clean {
				if err := wal.Seal(filepath.Join(dir, "state.db")); err != nil {
					t.Fatal(err)
				}
				made.files = read(t, dir)
			}
		}
		all = append(all, made)
	}
	return all
}

func read(t testing.TB, dir string) map[string][]byte {
	t.Helper()
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
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What a killed node cannot notice, since it looks like a log that was not written yet: zeros up to the end of what is
// written, or to within its last unit; and the newest segment gone.
const (
	wipe      = "wipe the end"
	lastUnit  = 800 // bytes; about what a write here takes
	newestOne = "delete the newest"
)

// harm damages one file, or two, and says how.
func harm(rng *rand.Rand, files map[string][]byte) (kind, name string) {
	names := slices.Sorted(maps.Keys(files))
	for {
		name = names[rng.IntN(len(names))]
		b := bytes.Clone(files[name])
		if name == "LOCK" {
			continue
		}
		// Most of a segment is space: damage what is written in it, mostly.
		written := max(1, len(bytes.TrimRight(b, "\x00")))
		at := rng.IntN(written)
		switch kind = []string{"flip", "zero", "truncate", "swap", "delete", "extend", "garble"}[rng.IntN(7)]; kind {
		case "flip":
			if len(b) == 0 {
				continue
			}
			b[at] ^= 1 << rng.IntN(8)
		case "zero":
			end := at + 1 + rng.IntN(600)
			clear(b[min(at, len(b)):min(len(b), end)])
			if end >= written-lastUnit {
				kind = wipe
			}
		case "truncate":
			b = b[:min(at, len(b))]
		case "swap":
			other := names[rng.IntN(len(names))]
			if other == "LOCK" || bytes.Equal(files[other], b) {
				continue
			}
			files[name], files[other] = files[other], b
			return kind, name
		case "delete":
			delete(files, name)
			if strings.HasPrefix(name, "wal/") && !slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, "wal/") && other > name }) {
				kind = newestOne
			}
			return kind, name
		case "extend":
			b = append(b, bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(600))...)
		case "garble":
			for i := at; i < min(len(b), at+8); i++ {
				b[i] = byte(rng.IntN(256))
			}
		}
		if bytes.Equal(b, files[name]) {
			continue
		}
		files[name] = b
		return kind, name
	}
}

// A node whose files were damaged has exactly what it had, or refuses with a message that says what to do and leaves
// the files alone. Of a node that was killed the last acknowledged write may be gone where its own unit, the last of the
// log, was hit: nothing on one machine tells that from a write that a power cut tore. And zeros from some byte of the
// log to its end are what the log looks like before it is written, and a log without its newest segment like one that
// was about to begin it: then the node has an earlier state. A node that ended in order notices all of these. Nothing
// else may be lost.
func TestADamagedDirectoryIsWholeOrRefused(t *testing.T) {
	all := histories(t)
	outcomes := map[string]int{}
	for i := range *cases {
		rng := rand.New(rand.NewPCG(*seed, uint64(i)))
		h := all[i%len(all)]
		files := maps.Clone(h.files)
		kind, name := harm(rng, files)
		what := fmt.Sprintf("case %d, %s, %s %s", i, h.name, kind, name)
		dir := filepath.Join(t.TempDir(), "data")
		write(t, dir, files)
		place := strings.Trim(filepath.Dir(name)+"/"+filepath.Ext(name), "./")
		m, err := start(dir)
		if err != nil {
			outcomes[place+" | "+kind+" | refused"]++
			if !says(err) {
				t.Errorf("%s: refused without saying what to do: %v", what, err)
			}
			for name, b := range read(t, dir) {
				if was, ok := files[name]; ok && strings.HasPrefix(name, "wal/") && !bytes.Equal(was, b) && errors.Is(err, wal.ErrDamaged) {
					t.Errorf("%s: refused, and changed %s", what, name)
				}
			}
			continue
		}
		got, n := m.farm(t), len(h.farms)
		if err := m.end(false); err != nil {
			t.Errorf("%s: it ends with %v", what, err)
		}
		switch {
		case got == h.farms[n-1]:
			outcomes[place+" | "+kind+" | exact"]++
		case !h.clean && (kind == wipe || kind == newestOne) && strings.HasPrefix(name, "wal/") && (got == farmOf{} || slices.Contains(h.farms, got)):
			outcomes[place+" | "+kind+" | an earlier state"]++
		case !h.clean && got == h.farms[n-2] && strings.HasPrefix(name, "wal/"):
			outcomes[place+" | "+kind+" | last write lost"]++
		default:
			t.Errorf("%s: it serves revision %d, it had %d", what, got.revision, h.farms[n-1].revision)
		}
		os.RemoveAll(filepath.Dir(dir))
	}
	for _, o := range slices.Sorted(maps.Keys(outcomes)) {
		t.Logf("| %s | %d", o, outcomes[o])
	}
}

// says reports whether a message tells an operator what to do.
func says(err error) bool {
	for _, advice := range []string{"join again", "keep it aside", "run the one that wrote it", "restore a backup"} {
		if strings.Contains(err.Error(), advice) {
			return true
		}
	}
	return false
}
