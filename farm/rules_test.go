package farm_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

func TestNoInterleavingOfCommandsBreaksTheFarm(t *testing.T) {
	counts := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		f := farmtest.New()
		for i, step := range farmtest.Steps(80).Draw(t, "steps") {
			revision := f.Revision
			changes, err := f.Do(step.Command, step.Stamp)
			counts[fmt.Sprintf("%T allowed=%v", step.Command, err == nil)]++
			if err != nil && f.Revision != revision {
				t.Fatalf("step %d, %+v: refused with %v, yet it changed something", i, step.Command, err)
			}
			if err == nil && len(changes) == 0 {
				t.Fatalf("step %d, %+v: neither changes nor a refusal", i, step.Command)
			}
			if err := f.Wrong(); err != nil {
				t.Fatalf("after step %d, %+v: %v", i, step.Command, err)
			}
		}
	})
	// A property over commands that are all refused would hold of anything.
	for _, c := range []farm.Command{
		farm.CreatePrinter{}, farm.CreateFilament{}, farm.CreateJob{}, farm.PatchPrinter{}, farm.PatchFilament{},
		farm.PatchJob{}, farm.SetJobStatus{}, farm.Delete{},
	} {
		for _, allowed := range []bool{true, false} {
			if key := fmt.Sprintf("%T allowed=%v", c, allowed); counts[key] == 0 {
				t.Errorf("%s never happened in %v", key, counts)
			}
		}
	}
}

// frozen is a farm that notices when what it handed out is written to.
type frozen struct {
	*farmtest.Farm
	before string
}

func freeze(f *farmtest.Farm) frozen { return frozen{f, spell(f)} }

func (f frozen) changed() bool { return spell(f.Farm) != f.before }

func spell(f *farmtest.Farm) string {
	b, err := json.Marshal([]any{f.PrinterList(), f.FilamentList(), f.JobList()})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestDecideIsPureAndAnswersEveryCommandTheSameTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := farmtest.New()
		for _, step := range farmtest.Steps(40).Draw(t, "steps") {
			_, _ = f.Do(step.Command, step.Stamp)
		}
		c := farmtest.Commands().Draw(t, "command")
		s := farm.Stamp{At: farmtest.Start, NewID: "fresh"}
		kept := freeze(f)
		given := fmt.Sprintf("%#v", c)
		once, errOnce := farm.Decide(f, c, s)
		again, errAgain := farm.Decide(f, c, s)
		if !reflect.DeepEqual(once, again) || !reflect.DeepEqual(errOnce, errAgain) {
			t.Fatalf("%+v: first %+v, %v, then %+v, %v", c, once, errOnce, again, errAgain)
		}
		if kept.changed() {
			t.Fatalf("%+v wrote to the farm that it was decided on", c)
		}
		if fmt.Sprintf("%#v", c) != given {
			t.Fatalf("%s was written to: %#v", given, c)
		}
		if errOnce != nil {
			if _, ok := errOnce.(*farm.Error); !ok || once != nil {
				t.Fatalf("%+v: %+v with the error %T %v", c, once, errOnce, errOnce)
			}
		}
	})
}

func TestChangesComeInTheDocumentedOrder(t *testing.T) {
	order := map[farm.Kind]int{farm.KindFilament: 1, farm.KindPrinter: 2}
	rapid.Check(t, func(t *rapid.T) {
		f := farmtest.New()
		for _, step := range farmtest.Steps(60).Draw(t, "steps") {
			changes, _ := f.Do(step.Command, step.Stamp)
			for i, c := range changes {
				if i > 1 && order[c.Kind] < order[changes[i-1].Kind] || i > 0 && order[c.Kind] == 0 {
					t.Fatalf("%+v made %s %q after %s", step.Command, c.Kind, c.ID, changes[i-1].Kind)
				}
			}
		}
	})
}

func TestNormalizingTwiceChangesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := farmtest.Commands().Draw(t, "command")
		once, err := farm.Normalize(c)
		if err != nil {
			return
		}
		twice, err := farm.Normalize(once)
		if err != nil || !reflect.DeepEqual(once, twice) {
			t.Fatalf("%+v: first %+v, then %+v, %v", c, once, twice, err)
		}
	})
}

func TestEveryObjectIsReadBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := farmtest.New()
		for _, step := range farmtest.Steps(60).Draw(t, "steps") {
			_, _ = f.Do(step.Command, step.Stamp)
		}
		for _, j := range f.JobList() {
			readBack(t, j)
		}
		for _, s := range f.FilamentList() {
			readBack(t, s)
		}
		for _, p := range f.PrinterList() {
			readBack(t, p)
		}
	})
}

func readBack[T any](t *rapid.T, object T) {
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, object) {
		t.Fatalf("%s came back as %+v: %v", b, back, err)
	}
}
