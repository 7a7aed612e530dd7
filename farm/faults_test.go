package farm_test

import (
	"reflect"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// The faults of eight implementations of the same system, as far as rules can have them. The numbers are those of
// the list that they were collected in; kvstore tests others of it.

// Fault 5: unknown printers and spools, negative weights and a status chosen by the client were taken.
func TestAJobOutOfThinAirIsRefused(t *testing.T) {
	s := oneOfEach(t)
	s.refused(job("j", "nowhere", "f1", g(1)), farm.Invalid, "printer_id")
	s.refused(job("j", "p1", "nothing", g(1)), farm.Invalid, "filament_id")
	s.refused(job("j", "p1", "f1", -g(1)), farm.Invalid, "print_weight_in_grams")
	if _, has := reflect.TypeFor[farm.CreateJob]().FieldByName("Status"); has {
		t.Error("a client can choose the status of a new job")
	}
	s.must(job("j", "p1", "f1", g(1)))
	s.expect("the state of a new job", s.Jobs["j"].Status, farm.Queued)
}

// Fault 7: a new job was held against what remains on the spool, not against what is still free.
func TestJobsThatWaitCountAgainstTheSpool(t *testing.T) {
	s := newStory(t)
	s.must(printer("p"))
	s.must(spool("f", g(100)))
	s.must(job("a", "p", "f", g(60)))
	s.expect("remaining", s.Filaments["f"].Remaining, g(100))
	s.refused(job("b", "p", "f", g(60)), farm.Conflict, "print_weight_in_grams")
}

// Fault 8: a job that was started in one spelling could not be finished in another.
func TestAJobStartedInLowerCaseCanBeFinished(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(1)))
	s.must(to("j", "running"))
	s.expect("the state", s.Jobs["j"].Status, farm.Running)
	s.must(to("j", "DONE"))
	s.expect("the state", s.Jobs["j"].Status, farm.Done)
	s.must(job("k", "p1", "f1", g(1)))
	s.must(to("k", "cancelled"))
	s.expect("the state", s.Jobs["k"].Status, farm.Canceled)
}

// Fault 10: what would have gone below zero was set to zero.
func TestUsingMoreThanThereIsIsRefusedAndNotClamped(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f2", g(50)))
	s.must(to("j", farm.Running))
	s.refused(used("j", farm.Done, g(50)+1), farm.Conflict, "used_weight_in_grams")
	s.expect("remaining", s.Filaments["f2"].Remaining, g(50))
	s.must(to("j", farm.Done))
	s.expect("remaining", s.Filaments["f2"].Remaining, g(0))
}

// Fault 11: creating an object under an id that was taken replaced it, with its weight.
func TestCreatingUnderATakenIDOverwritesNothing(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(700)))
	before := spell(s.Farm)
	s.refused(spool("f1", g(1)), farm.Conflict, "id")
	s.refused(printer("p1"), farm.Conflict, "id")
	s.refused(job("j", "p2", "f2", g(1)), farm.Conflict, "id")
	s.expect("the farm", spell(s.Farm), before)
}

// Fault 12: ids were made from the number of objects, and met those of older ones after a deletion.
func TestNewIDsComeFromTheStampAlone(t *testing.T) {
	f := farmtest.New()
	for _, id := range []farm.ID{"u1", "u2", "u3"} {
		if _, err := f.Do(printer(""), farm.Stamp{NewID: id}); err != nil {
			t.Fatal(err)
		}
		if id == "u2" {
			if _, err := f.Do(farm.Delete{Kind: farm.KindPrinter, ID: "u1"}, farm.Stamp{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if list := f.PrinterList(); len(list) != 2 || list[0].ID != "u2" || list[1].ID != "u3" {
		t.Fatalf("%+v", list)
	}
}

// Fault 13: an id was drawn while the command was applied, so every node drew its own.
func TestTwoNodesDecideAlike(t *testing.T) {
	stamp := farm.Stamp{At: farmtest.Start, Actor: "a", NewID: "fresh"}
	one, errOne := farm.Decide(farmtest.New(), printer(""), stamp)
	other, errOther := farm.Decide(farmtest.New(), printer(""), stamp)
	if errOne != nil || errOther != nil || !reflect.DeepEqual(one, other) || one[0].ID != "fresh" {
		t.Fatalf("%+v %v, %+v %v", one, errOne, other, errOther)
	}
}

// Fault 24: canceling a running print took nothing off the spool, and a job was bound to its printer and spool.
func TestACanceledPrintMaySayWhatItUsedAndAWaitingOneMayMove(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(40)))
	s.must(farm.PatchJob{Patch: farm.Patch{ID: "j"}, PrinterID: ptr(farm.ID("p2")), FilamentID: ptr(farm.ID("f2"))})
	s.must(to("j", farm.Running))
	s.expect("what runs on p2", *s.Printers["p2"].CurrentJobID, farm.ID("j"))
	s.must(used("j", farm.Canceled, 12_500))
	s.expect("remaining", s.Filaments["f2"].Remaining, g(50)-12_500)
	s.expect("available", s.Filaments["f2"].Available, g(50)-12_500)
}
