package kvstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// spelled is an object as API.md wants it sent.
func spelled(object any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(object); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func spelledAll[T any](objects []T) []string {
	all := []string{}
	for _, o := range objects {
		all = append(all, spelled(o))
	}
	return all
}

// differs says where the store shows something else than the model.
func differs(v farm.View, m *farmtest.Farm) error {
	if v.Revision() != m.Revision {
		return fmt.Errorf("revision %d, the model has %d", v.Revision(), m.Revision)
	}
	want := map[farm.Kind][]string{
		farm.KindPrinter: spelledAll(m.PrinterList()), farm.KindFilament: spelledAll(m.FilamentList()), farm.KindJob: spelledAll(m.JobList()),
	}
	for _, k := range farm.Kinds {
		got, err := listOf(v, farm.Query{Kind: k})
		if err != nil {
			return err
		}
		if strings.Join(got, "\n") != strings.Join(want[k], "\n") {
			return fmt.Errorf("%ss are\n%s\nthe model has\n%s", k, strings.Join(got, "\n"), strings.Join(want[k], "\n"))
		}
		if n, err := v.Count(farm.Query{Kind: k}); err != nil || n != len(want[k]) {
			return fmt.Errorf("%d %ss are counted, the model has %d (%v)", n, k, len(want[k]), err)
		}
	}
	jobs := map[farm.JobStatus]int{farm.Queued: 0, farm.Running: 0, farm.Done: 0, farm.Canceled: 0}
	for _, j := range m.JobList() {
		jobs[j.Status]++
		if object, ok := v.Get(farm.KindJob, j.ID); !ok || string(object) != spelled(j) {
			return fmt.Errorf("job %q is %s, the model has %s", j.ID, object, spelled(j))
		}
	}
	var remaining, reserved farm.Grams
	for _, f := range m.FilamentList() {
		remaining += f.Remaining
		reserved += f.Reserved
	}
	expect := farm.Summary{Printers: len(m.Printers), Filaments: len(m.Filaments), Jobs: jobs, Remaining: remaining, Reserved: reserved}
	if got := v.Summary(); fmt.Sprint(got) != fmt.Sprint(expect) {
		return fmt.Errorf("summary %+v, the model has %+v", got, expect)
	}
	return nil
}

func TestTheStoreDoesWhatTheRulesSay(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir := freshDir(t, base)
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		db, model := NewDB(s, &ownLog{store: s}), farmtest.New()
		ctx := context.Background()
		for i, step := range farmtest.Steps(60).Draw(t, "steps") {
			changes, refusal := model.Do(step.Command, step.Stamp)
			result, err := db.Do(ctx, step.Command, step.Stamp)
			if (err == nil) != (refusal == nil) || err != nil && err.Error() != refusal.Error() {
				t.Fatalf("step %d, %+v: %v, the model says %v", i, step.Command, err, refusal)
			}
			err = db.View(ctx, farm.ReadOptions{}, func(v farm.View) error {
				if refusal == nil {
					object, _ := v.Get(changes[0].Kind, changes[0].ID)
					if result.ID != changes[0].ID || result.Revision != model.Revision || !bytes.Equal(result.Object, object) {
						return fmt.Errorf("the result is %+v with %s, stored is %s", result, result.Object, object)
					}
				}
				return differs(v, model)
			})
			if err != nil {
				t.Fatalf("after step %d, %+v: %v", i, step.Command, err)
			}
		}
	})
}

func freshDir(t *rapid.T, base string) string {
	dir, err := os.MkdirTemp(base, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// cut applies cmds in batches of drawn sizes, with restarts and snapshots between them.
func cut(t *rapid.T, dir string, cmds [][]byte) *Store {
	s, err := Open(filepath.Join(dir, "0"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var index uint64
	for i := 1; len(cmds) > 0; i++ {
		n := rapid.IntRange(0, min(len(cmds), 30)).Draw(t, "batch")
		index += uint64(max(n, 1))
		if _, err := s.Apply(index, cmds[:n], []byte(fmt.Sprint(index))); err != nil {
			t.Fatal(err)
		}
		cmds = cmds[n:]
		switch rapid.IntRange(0, 5).Draw(t, "then") {
		case 0:
			dir := s.dir
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(dir, Options{Keep: true}); err != nil {
				t.Fatal(err)
			}
		case 1:
			other, err := Open(filepath.Join(dir, fmt.Sprint(i)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Restore(bytes.NewReader(snapshotOf(t, s))); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = other
		}
		if applied, meta := s.Applied(); applied != index || string(meta) != fmt.Sprint(index) {
			t.Fatalf("applied %d with meta %q, want %d", applied, meta, index)
		}
	}
	return s
}

func TestHoweverBatchesAreCutTheStateIsTheSame(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var cmds [][]byte
		for _, step := range farmtest.Steps(120).Draw(t, "steps") {
			cmd, err := Encode(step.Command, step.Stamp)
			if err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
			if rapid.IntRange(0, 9).Draw(t, "noise") == 0 {
				cmds = append(cmds, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "garbage"))
			}
		}
		one, other := cut(t, freshDir(t, base), cmds), cut(t, freshDir(t, base), cmds)
		defer one.Close()
		defer other.Close()
		if a, b := dump(t, one), dump(t, other); a != b {
			t.Fatalf("two states from the same commands:\n%s\n%s", a, b)
		}
	})
}
