//go:build unix

// Package damage harms the files of data directories and sees what a node makes of them. Nothing but its own test is here.
package damage

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var (
	cases = flag.Int("damage.cases", 400, "how many damaged directories TestADamagedDirectoryIsWholeOrRefused tries")
	seed  = flag.Uint64("damage.seed", 1, "where it begins")
)

// outcome is what became of a damaged directory.
type outcome int

const (
	exact   outcome = iota // the node has what it had
	torn                   // the write that a power cut interrupted, of which nobody was told, is gone
	earlier                // and so are writes before it, since their notes were not on the disk either
	refused
	wrong
	outcomes
)

// maxStartBytes is what a start on one of these directories, which have less than 1 MiB, may allocate.
const maxStartBytes = 256 << 20

// A node whose files were damaged has exactly what it had, or refuses with a message that says what to do and leaves the
// files alone. Of a node that lost its power, what no note on the disk tells of may be gone.
func TestADamagedDirectoryIsWholeOrRefused(t *testing.T) {
	all := pasts(t)
	table, byPast := map[string]*[outcomes]int{}, map[string]*[outcomes]int{}
	var heap [2]runtime.MemStats
	for i := range *cases {
		rng := rand.New(rand.NewPCG(*seed, uint64(i)))
		p := &all[i%len(all)]
		files, name, kind := harm(rng, p)
		what := fmt.Sprintf("case %d of -damage.seed=%d, %s, %s: %s", i, *seed, p.name, name, kind)
		dir := filepath.Join(t.TempDir(), "data")
		write(t, dir, files)
		runtime.ReadMemStats(&heap[0])
		got := try(t, what, p, dir, files, i%4 == 0)
		runtime.ReadMemStats(&heap[1])
		if n := heap[1].TotalAlloc - heap[0].TotalAlloc; n > maxStartBytes {
			t.Errorf("%s: the start allocated %d bytes", what, n)
		}
		count(table, p.place(name)+" | "+kind, got)
		count(byPast, p.name+" | (all)", got)
		if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, counted := range []map[string]*[outcomes]int{table, byPast} {
		t.Log("| what | damage | exact | torn write | earlier, not noted | refused | violations |")
		for _, key := range slices.Sorted(maps.Keys(counted)) {
			row := counted[key]
			t.Logf("| %s | %d | %d | %d | %d | %d |", key, row[exact], row[torn], row[earlier], row[refused], row[wrong])
		}
	}
}

func count(table map[string]*[outcomes]int, key string, o outcome) {
	if table[key] == nil {
		table[key] = new([outcomes]int)
	}
	table[key][o]++
}

// try starts a node on the damaged directory and judges what it has. A node that serves must also go on: with again it
// writes, is killed, and must have that.
func try(t *testing.T, what string, p *past, dir string, files map[string][]byte, again bool) outcome {
	t.Helper()
	m, err := start(dir)
	if err != nil {
		switch {
		case !says(err, dir):
			t.Errorf("%s: refused without saying where and what to do: %v", what, err)
		case !untouched(t, dir, files):
			t.Errorf("%s: refused, and changed files: %v", what, err)
		default:
			return refused
		}
		return wrong
	}
	got, err := m.farm(t.Context())
	after := got
	if again && err == nil {
		after, err = m.create(t.Context(), 1000)
	}
	if err != nil {
		t.Errorf("%s: it serves, and then %v; %v", what, err, m.node.Err())
	}
	if err := m.end(false); err != nil {
		t.Errorf("%s: it ends with %v", what, err)
		return wrong
	}
	if again {
		if m, err = start(dir); err != nil {
			t.Errorf("%s: it served, and refused the next start: %v", what, err)
			return wrong
		}
		if is, err := m.farm(t.Context()); is != after || err != nil {
			t.Errorf("%s: it served revision %d, and after the next start %d (%v)", what, after.revision, is.revision, err)
		}
		if err := m.end(false); err != nil {
			t.Errorf("%s: it ends with %v", what, err)
		}
	}
	writes, known := p.is(got)
	switch {
	case known && writes == len(p.farms):
		return exact
	case known && writes >= p.noted && writes == len(p.farms)-1 && !p.answered:
		return torn
	case known && writes >= p.noted && !p.answered:
		return earlier
	}
	t.Errorf("%s: it serves revision %d, it had %d", what, got.revision, p.farms[len(p.farms)-1].revision)
	return wrong
}

// untouched says whether the files are as they were. A refused start may leave LOCK and, of the state that is built
// again from the log, nothing.
func untouched(t *testing.T, dir string, files map[string][]byte) bool {
	t.Helper()
	now := read(t, dir)
	for name, was := range files {
		if strings.HasSuffix(name, ".tmp") {
			continue
		}
		if is, ok := now[name]; !ok || !bytes.Equal(is, was) {
			t.Logf("%s changed", name)
			return false
		}
	}
	return true
}
