package kvstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	}
	if err := listsDiffer(v, m); err != nil {
		return err
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

// listsDiffer asks for jobs in every way that has an index, whole and by pages.
func listsDiffer(v farm.View, m *farmtest.Farm) error {
	jobs := m.JobList()
	for _, status := range [][]farm.JobStatus{nil, {farm.Queued}, {farm.Done, farm.Running}, farm.Statuses, {farm.Done, farm.Done}} {
		for _, printer := range []farm.ID{"", "p1", "p2", "p"} {
			for _, filament := range []farm.ID{"", "f1", "f3"} {
				q := farm.Query{Kind: farm.KindJob, Status: status, PrinterID: printer, FilamentID: filament}
				want := []string{}
				for _, j := range jobs {
					if raw := spelled(j); (len(status) == 0 || slices.Contains(status, j.Status)) &&
						(printer == "" || j.PrinterID == printer) && (filament == "" || j.FilamentID == filament) {
						want = append(want, raw)
					}
				}
				if n, err := v.Count(q); err != nil || n != len(want) {
					return fmt.Errorf("%+v: %d are counted, the model has %d (%v)", q, n, len(want), err)
				}
				for _, q.Limit = range []int{0, 1, 2} {
					if got, err := pagesOf(v, q); err != nil || !slices.Equal(got, want) {
						return fmt.Errorf("%+v:\n%s\nthe model has\n%s (%v)", q, strings.Join(got, "\n"), strings.Join(want, "\n"), err)
					}
				}
			}
		}
	}
	return nil
}

// pagesOf is a list that was read in pages of q.Limit.
func pagesOf(v farm.View, q farm.Query) (objects []string, err error) {
	for more := true; more && err == nil; {
		n := 0
		err = v.List(q, func(position uint64, object []byte) error {
			if n++; position <= q.After || q.Limit > 0 && n > q.Limit {
				return fmt.Errorf("position %d after %d, the %d. of %d", position, q.After, n, q.Limit)
			}
			q.After = position
			objects = append(objects, string(object))
			return nil
		})
		more = q.Limit > 0 && n == q.Limit
	}
	return objects, err
}

// eventsOf are the events that the changes must make.
func eventsOf(changes []farm.Change, stamp farm.Stamp, last uint64) (events []string) {
	for i, c := range changes {
		var before, after any
		switch c.Kind {
		case farm.KindPrinter:
			before, after = given(c.PrinterBefore), given(c.PrinterAfter)
		case farm.KindFilament:
			before, after = given(c.FilamentBefore), given(c.FilamentAfter)
		case farm.KindJob:
			before, after = given(c.JobBefore), given(c.JobAfter)
		}
		e := struct {
			Revision uint64    `json:"revision"`
			Time     farm.Time `json:"time"`
			Kind     farm.Kind `json:"kind"`
			ID       farm.ID   `json:"id"`
			Action   string    `json:"action"`
			Actor    string    `json:"actor"`
			Object   any       `json:"object"`
		}{last - uint64(len(changes)-1-i), stamp.At, c.Kind, c.ID, "updated", stamp.Actor, after}
		switch {
		case before == nil:
			e.Action = "created"
		case after == nil:
			e.Action, e.Object = "deleted", before
		}
		events = append(events, spelled(e))
	}
	return events
}

// given is nil for a nil pointer.
func given[T any](object *T) any {
	if object == nil {
		return nil
	}
	return *object
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
		var history []string
		for i, step := range farmtest.Steps(60).Draw(t, "steps") {
			changes, refusal := model.Do(step.Command, step.Stamp)
			result, err := db.Do(ctx, step.Command, step.Stamp)
			if (err == nil) != (refusal == nil) || err != nil && err.Error() != refusal.Error() {
				t.Fatalf("step %d, %+v: %v, the model says %v", i, step.Command, err, refusal)
			}
			step.Stamp.At = max(step.Stamp.At, model.Time)
			history = append(history, eventsOf(changes, step.Stamp, model.Revision)...)
			if refusal == nil {
				object, revision, err := db.Get(ctx, changes[0].Kind, changes[0].ID, farm.ReadOptions{})
				if err != nil || result.ID != changes[0].ID || result.Revision != model.Revision || revision != model.Revision || !bytes.Equal(result.Object, object) {
					t.Fatalf("step %d: the result is %+v with %s, at revision %d there is %s (%v)", i, result, result.Object, revision, object, err)
				}
			}
			err = db.View(ctx, farm.ReadOptions{}, func(v farm.View) error {
				if got, err := feedOf(v, farm.EventQuery{}); err != nil || !slices.Equal(got, history) {
					return fmt.Errorf("the history is\n%s\nthe model's\n%s (%v)", strings.Join(got, "\n"), strings.Join(history, "\n"), err)
				}
				return differs(v, model)
			})
			if err != nil {
				t.Fatalf("after step %d, %+v: %v", i, step.Command, err)
			}
			if err := jobsDiffer(db, model); err != nil {
				t.Fatalf("after step %d, %+v: %v", i, step.Command, err)
			}
		}
	})
}

// jobsDiffer looks up each of the model's jobs by its id.
func jobsDiffer(db *DB, m *farmtest.Farm) error {
	for _, j := range m.JobList() {
		object, _, err := db.Get(context.Background(), farm.KindJob, j.ID, farm.ReadOptions{})
		if err != nil || string(object) != spelled(j) {
			return fmt.Errorf("job %q is %s, the model has %s (%v)", j.ID, object, spelled(j), err)
		}
	}
	return nil
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
	o := Options{History: 20, Keys: 5}
	s, err := Open(filepath.Join(dir, "0"), o)
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
			o.Keep = true
			if s, err = Open(dir, o); err != nil {
				t.Fatal(err)
			}
		case 1:
			o.Keep = false
			other, err := Open(filepath.Join(dir, fmt.Sprint(i)), o)
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
			if n := rapid.IntRange(0, 12).Draw(t, "key"); n > 0 {
				step.Stamp.Key = fmt.Sprint("key-", n) // known to some, so that all is there: replays, refusals, first uses
				step.Stamp.At += farm.Time(n) * keyLife / 8
			}
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
		newest, _, _ := one.Checkpoint(0)
		for mark := newest; mark > 0; mark-- { // as far back as both have come without a restart
			_, a, here := one.Checkpoint(mark)
			_, b, there := other.Checkpoint(mark)
			if mark == newest && !(here && there) || here && there && a != b {
				t.Fatalf("at mark %d of %d the one has %x %v, the other %x %v", mark, newest, a, here, b, there)
			}
		}
		if at, _, ok := other.Checkpoint(newest + 1); ok {
			t.Fatalf("a sum for mark %d, beyond all that happened", at)
		}
	})
}
