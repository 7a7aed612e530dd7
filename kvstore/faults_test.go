package kvstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// The faults of eight implementations of the same system, as far as a store can have them. The numbers are those of
// the list that they were collected in; farm tests others of it.

// Fault 1: a snapshot held nothing, and the next write after a restore panicked.
func TestASnapshotIsNotEmptyAndAWriteAfterItsRestoreWorks(t *testing.T) {
	s := busy(t)
	other := newStore(t)
	if err := other.Restore(bytes.NewReader(snapshotOf(t, s.store))); err != nil {
		t.Fatal(err)
	}
	restored := shopOn(t, other)
	for _, kind := range farm.Kinds {
		if got, want := restored.list(farm.Query{Kind: kind}), s.list(farm.Query{Kind: kind}); len(got) == 0 || !reflect.DeepEqual(got, want) {
			t.Fatalf("%ss are %v, were %v", kind, got, want)
		}
	}
	restored.must(job("after", "p1", "f1", farm.Gram))
	restored.must(to("j1", farm.Done))
}

// Fault 3: a snapshot was the live state, written out while commands changed it.
func TestASnapshotIsOfOneMomentWhileWritersGoOn(t *testing.T) {
	s := busy(t)
	var writer sync.WaitGroup
	defer writer.Wait()
	stop := make(chan struct{})
	defer close(stop)
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.do(farm.PatchJob{Patch: farm.Patch{ID: "j2", Notes: ptr(strings.Repeat("x", i%1500))}}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		var b bytes.Buffer
		err := s.store.Snapshot(func(_ uint64, _ []byte, state io.WriterTo) error {
			_, err := state.WriteTo(&b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		other := newStore(t)
		if err := other.Restore(&b); err != nil {
			t.Fatal(err)
		}
		if jobs := shopOn(t, other).list(farm.Query{Kind: farm.KindJob}); len(jobs) != 3 {
			t.Fatalf("%v", jobs)
		}
		if wrong := wrongIn(shopOn(t, other)); wrong != nil {
			t.Fatal(wrong)
		}
	}
}

// wrongIn checks what a state says of itself: each object where its id leads, and figures that add up.
func wrongIn(s *shop) error {
	return seen(s, func(v farm.View) (error, error) {
		var reserved farm.Grams
		for _, kind := range farm.Kinds {
			objects, err := listOf(v, farm.Query{Kind: kind})
			if err != nil {
				return nil, err
			}
			for _, o := range objects {
				decoded, err := decodeObject(kind, []byte(o))
				if err != nil {
					return nil, err
				}
				var id farm.ID
				switch decoded := decoded.(type) {
				case *farm.Printer:
					id = decoded.ID
				case *farm.Filament:
					id = decoded.ID
				case *farm.Job:
					id = decoded.ID
					if decoded.Status.Active() {
						reserved += decoded.Weight
					}
				}
				if found, _ := s.find(kind, id); found != o {
					return fmt.Errorf("%q leads to %s, listed is %s", id, found, o), nil
				}
			}
		}
		if sum := v.Summary(); sum.Reserved != reserved {
			return fmt.Errorf("%v g are reserved, the figures say %v", reserved, sum.Reserved), nil
		}
		return nil, nil
	})
}

// Fault 5: what was checked before the log and not in it let two requests at once promise a spool twice.
func TestOnlyAsManyJobsFitAsTheSpoolHasGrams(t *testing.T) {
	s := newStore(t)
	stamp := farm.Stamp{At: farmtest.Start}
	cmds := [][]byte{encode(t, printer("p"), stamp), encode(t, spool("f", 1000*farm.Gram), stamp)}
	for i := range 200 {
		cmds = append(cmds, encode(t, job(farm.ID(fmt.Sprint("j", i)), "p", "f", 10*farm.Gram), stamp))
	}
	taken := 0
	for i, batch := range slices.Collect(slices.Chunk(cmds, 51)) {
		for _, r := range apply(t, s, uint64(i+1), batch...) {
			if result, ok := r.(farm.Result); ok && strings.HasPrefix(string(result.ID), "j") {
				taken++
			}
		}
	}
	if taken != 100 {
		t.Fatalf("%d jobs of 10 g were taken by 1000 g", taken)
	}
}

// Fault 6: the state machine's refusal was dropped, and the caller told that all was well.
func TestARefusalReachesWhoeverAsked(t *testing.T) {
	s := busy(t)
	refusal := s.refused(to("j3", farm.Running), farm.Conflict)
	if !reflect.DeepEqual(refusal.Allowed, []farm.JobStatus{}) || decodeJob(t, s.get(farm.KindJob, "j3")).Status != farm.Done {
		t.Fatalf("%+v", refusal)
	}
}

// Fault 11: a second creation with the same id overwrote the first, or was said to have worked.
func TestASecondCreationIsNotSaidToHaveWorked(t *testing.T) {
	s := busy(t)
	before := s.get(farm.KindFilament, "f1")
	s.refused(spool("f1", farm.Gram), farm.Conflict)
	if after := s.get(farm.KindFilament, "f1"); after != before {
		t.Fatalf("was %s, is %s", before, after)
	}
}

// Fault 12: an answer was found by comparing fields, and could be that of another job.
func TestEachResultBelongsToItsCommand(t *testing.T) {
	s := busy(t)
	index, _ := s.store.Applied()
	var cmds [][]byte
	for i := range 10 {
		same := job("", "p1", "f1", farm.Gram)
		cmds = append(cmds, encode(t, same, farm.Stamp{At: s.now, NewID: farm.ID(fmt.Sprint("twin-", i))}), []byte("noise"))
	}
	for i, r := range apply(t, s.store, index+20, cmds...) {
		result, ok := r.(farm.Result)
		if ok != (i%2 == 0) || ok && (result.ID != farm.ID(fmt.Sprint("twin-", i/2)) || !bytes.Contains(result.Object, []byte(result.ID))) {
			t.Fatalf("result %d is %+v", i, r)
		}
	}
}

// Fault 13: what a node made up while applying differed from node to node.
func TestNodesThatAppliedTheSameHoldTheSameBytes(t *testing.T) {
	if a, b := dump(t, busy(t).store), dump(t, busy(t).store); a != b {
		t.Fatalf("%s\n%s", a, b)
	}
}

// Fault 20: a reader was given a pointer into the state, and read it while it changed.
func TestAReadersBytesDoNotChangeUnderIt(t *testing.T) {
	s := busy(t)
	err := s.View(t.Context(), farm.ReadOptions{}, func(v farm.View) error {
		var object []byte
		err := v.List(farm.Query{Kind: farm.KindJob}, func(_ uint64, job []byte) error {
			if string(idOf(job)) == "j2" {
				object = job
			}
			return nil
		})
		was := string(object)
		for i := range 200 {
			s.must(farm.PatchJob{Patch: farm.Patch{ID: "j2", Name: ptr(fmt.Sprint(i)), Labels: &farm.LabelPatch{Set: map[string]*string{"n": ptr(fmt.Sprint(i))}}}})
		}
		again, listErr := listOf(v, farm.Query{Kind: farm.KindJob})
		if string(object) != was || was == "" || !slices.Contains(again, was) {
			return fmt.Errorf("was %s, is %s, listed again %s", was, object, again)
		}
		return errors.Join(err, listErr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Fault 20, the other side: a command kept and changed by its sender must not reach into the state.
func TestASendersBytesAreNotPartOfTheState(t *testing.T) {
	s := newStore(t)
	cmd := encode(t, printer("p1"), farm.Stamp{At: farmtest.Start})
	r := apply(t, s, 1, cmd)[0].(farm.Result)
	for i := range cmd {
		cmd[i] = 'x'
	}
	shop := shopOn(t, s)
	shop.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p1", Name: ptr("n")}})
	if got := shop.get(farm.KindPrinter, "p1"); !strings.Contains(got, `"company":"Prusa"`) || !strings.Contains(string(r.Object), `"model":"MK4"`) {
		t.Fatalf("%s, %s", got, r.Object)
	}
}

// Fault 23: lists came in the order of a map, another one each time.
func TestListsKeepTheOrderOfCreation(t *testing.T) {
	s := newShop(t)
	var want []string
	for _, id := range []farm.ID{"zeta", "alpha", "mid", "9", "Alpha"} {
		s.must(printer(id))
		want = append(want, string(id))
	}
	s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "zeta", Name: ptr("changed last")}})
	for range 5 {
		var got []string
		for _, object := range s.list(farm.Query{Kind: farm.KindPrinter}) {
			id, _, _ := strings.Cut(strings.TrimPrefix(object, `{"id":"`), `"`)
			got = append(got, id)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}
