package farm_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// story is a farm that is told what happens to it, a second at a time.
type story struct {
	testing.TB
	*farmtest.Farm
	now farm.Time
}

func newStory(t testing.TB) *story { return &story{t, farmtest.New(), farmtest.Start} }

func (s *story) do(c farm.Command) ([]farm.Change, error) {
	s.Helper()
	s.now += 1000
	changes, err := s.Do(c, farm.Stamp{At: s.now, Actor: "tester", NewID: farm.ID(fmt.Sprintf("new-%d", s.now))})
	if wrong := s.Wrong(); wrong != nil {
		s.Fatalf("after %+v: %v", c, wrong)
	}
	return changes, err
}

// must returns what changed, one word an object: "print_job j1 filament f1".
func (s *story) must(c farm.Command) string {
	s.Helper()
	changes, err := s.do(c)
	if err != nil {
		s.Fatalf("%+v was refused: %v", c, err)
	}
	var words []string
	for _, change := range changes {
		words = append(words, string(change.Kind)+" "+string(change.ID))
	}
	return strings.Join(words, " ")
}

func (s *story) refused(c farm.Command, kind farm.ErrorKind, field string) *farm.Error {
	s.Helper()
	changes, err := s.do(c)
	var refusal *farm.Error
	if !errors.As(err, &refusal) || changes != nil {
		s.Fatalf("%+v made %+v and the error %v; want a refusal", c, changes, err)
	}
	if refusal.Kind != kind || refusal.Field != field || refusal.Detail == "" {
		s.Fatalf("%+v was refused with %+v; want kind %d at %q", c, refusal, kind, field)
	}
	return refusal
}

func (s *story) expect(what string, got, want any) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Fatalf("%s is %v, want %v", what, got, want)
	}
}

func g(n int) farm.Grams { return farm.Grams(n) * farm.Gram }

// oneOfEach has the printers p1 and p2, the spools f1 (1000 g) and f2 (50 g of 100 g), and no job.
func oneOfEach(t testing.TB) *story {
	s := newStory(t)
	s.must(printer("p1"))
	s.must(printer("p2"))
	s.must(spool("f1", g(1000)))
	s.must(farm.CreateFilament{Text: farm.Text{ID: "f2"}, Type: "ABS", Color: "black", Total: g(100), Remaining: ptr(g(50))})
	return s
}

func printer(id farm.ID) farm.CreatePrinter {
	return farm.CreatePrinter{Text: farm.Text{ID: id}, Company: "Prusa", Model: "MK4"}
}

func spool(id farm.ID, total farm.Grams) farm.CreateFilament {
	return farm.CreateFilament{Text: farm.Text{ID: id}, Type: "PLA", Color: "red", Total: total}
}

func job(id, printer, filament farm.ID, weight farm.Grams) farm.CreateJob {
	return farm.CreateJob{Text: farm.Text{ID: id}, PrinterID: printer, FilamentID: filament, Filepath: "a.gcode", Weight: weight}
}

func to(id farm.ID, status farm.JobStatus) farm.SetJobStatus {
	return farm.SetJobStatus{ID: id, Status: status}
}

func used(id farm.ID, status farm.JobStatus, grams farm.Grams) farm.SetJobStatus {
	return farm.SetJobStatus{ID: id, Status: status, Used: &grams}
}

func TestANewPrinterIsIdle(t *testing.T) {
	s := newStory(t)
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p1", Name: " left ", Labels: map[string]string{"bay": "7"}}, Company: " Prusa ", Model: "MK4"})
	s.expect("the printer", s.Printers["p1"], farm.Printer{
		Common:  farm.Common{ID: "p1", Name: "left", Labels: map[string]string{"bay": "7"}},
		Company: "Prusa", Model: "MK4",
		Times: farm.Times{CreatedAt: s.now, UpdatedAt: s.now, Revision: 1},
	})
}

func TestANewSpoolIsFullUnlessSaidOtherwise(t *testing.T) {
	s := oneOfEach(t)
	f1, f2 := s.Filaments["f1"], s.Filaments["f2"]
	s.expect("f1", []farm.Grams{f1.Total, f1.Remaining, f1.Reserved, f1.Available}, []farm.Grams{g(1000), g(1000), 0, g(1000)})
	s.expect("f2", []farm.Grams{f2.Total, f2.Remaining, f2.Reserved, f2.Available}, []farm.Grams{g(100), g(50), 0, g(50)})
	if f1.Labels == nil {
		t.Fatal("labels are nil: they would be sent as null")
	}
}

func TestAnIDIsTakenOnceWithinItsKind(t *testing.T) {
	s := oneOfEach(t)
	s.refused(printer("p1"), farm.Conflict, "id")
	s.refused(spool("f1", g(1)), farm.Conflict, "id")
	s.must(spool("p1", g(1)))
	s.must(job("p1", "p1", "p1", g(1)))
	s.refused(job("p1", "p1", "f1", g(1)), farm.Conflict, "id")
}

func TestAnObjectWithoutAnIDGetsTheStamps(t *testing.T) {
	s := newStory(t)
	s.expect("what changed", s.must(printer("")), fmt.Sprintf("printer new-%d", s.now))
	if _, err := s.Do(printer(""), farm.Stamp{At: s.now}); err == nil {
		t.Fatal("an object without any id was made")
	}
}

func TestAStampBeyondTheCalendarIsRefused(t *testing.T) {
	for _, at := range []farm.Time{-1, farm.MaxTime + 1} {
		if changes, err := farm.Decide(farmtest.New(), printer("p"), farm.Stamp{At: at}); err == nil {
			t.Errorf("%d: %+v", at, changes)
		}
	}
}

func TestASpoolIsNeverPromisedTwice(t *testing.T) {
	s := oneOfEach(t)
	s.expect("what changed", s.must(job("a", "p1", "f2", g(30))), "print_job a filament f2")
	refusal := s.refused(job("b", "p1", "f2", g(21)), farm.Conflict, "print_weight_in_grams")
	s.expect("available", *refusal.Available, g(20))
	s.must(job("c", "p1", "f2", g(20)))
	s.expect("available", s.Filaments["f2"].Available, g(0))
}

func TestAJobNamesObjectsThatAreThere(t *testing.T) {
	s := oneOfEach(t)
	s.refused(job("j", "p9", "f1", g(1)), farm.Invalid, "printer_id")
	s.refused(job("j", "p1", "f9", g(1)), farm.Invalid, "filament_id")
	s.must(job("j", "p1", "f1", g(1)))
	s.refused(farm.PatchJob{Patch: farm.Patch{ID: "j"}, PrinterID: ptr(farm.ID("p9"))}, farm.Invalid, "printer_id")
	s.refused(farm.PatchJob{Patch: farm.Patch{ID: "j"}, FilamentID: ptr(farm.ID("f9"))}, farm.Invalid, "filament_id")
}

func TestAJobsLifeFromQueueToDone(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(100)))
	s.expect("starting changes", s.must(to("j", farm.Running)), "print_job j printer p1")
	started := s.now
	s.expect("the printer's job", *s.Printers["p1"].CurrentJobID, farm.ID("j"))
	s.expect("the printer's update", s.Printers["p1"].UpdatedAt, started)
	s.expect("reserved", s.Filaments["f1"].Reserved, g(100))
	s.expect("finishing changes", s.must(to("j", farm.Done)), "print_job j filament f1 printer p1")
	j, f := s.Jobs["j"], s.Filaments["f1"]
	s.expect("started", *j.StartedAt, started)
	s.expect("finished", *j.FinishedAt, s.now)
	s.expect("used", *j.Used, g(100))
	s.expect("the spool", []farm.Grams{f.Remaining, f.Reserved, f.Available}, []farm.Grams{g(900), 0, g(900)})
	s.expect("revisions", []uint64{j.Revision, f.Revision, s.Printers["p1"].Revision}, []uint64{s.Revision - 2, s.Revision - 1, s.Revision})
	if s.Printers["p1"].CurrentJobID != nil {
		t.Fatal("the printer is still taken")
	}
}

func TestOnlyTheStatesThatFollowAreAllowed(t *testing.T) {
	ways := map[farm.JobStatus][]farm.JobStatus{ // how a job comes to be there
		farm.Queued: {}, farm.Running: {farm.Running}, farm.Done: {farm.Running, farm.Done}, farm.Canceled: {farm.Canceled},
	}
	allowed := map[farm.JobStatus][]farm.JobStatus{
		farm.Queued: {farm.Running, farm.Canceled}, farm.Running: {farm.Done, farm.Canceled}, farm.Done: {}, farm.Canceled: {},
	}
	for _, from := range farm.Statuses {
		for _, next := range farm.Statuses {
			t.Run(fmt.Sprintf("%s to %s", from, next), func(t *testing.T) {
				s := oneOfEach(t)
				s.must(job("j", "p1", "f1", g(10)))
				for _, step := range ways[from] {
					s.must(to("j", step))
				}
				for _, a := range allowed[from] {
					if a == next {
						s.must(to("j", next))
						s.expect("the state", s.Jobs["j"].Status, next)
						return
					}
				}
				refusal := s.refused(to("j", next), farm.Conflict, "status")
				s.expect("the states allowed", refusal.Allowed, allowed[from])
			})
		}
	}
}

func TestAPrinterRunsOneJobAtATime(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("a", "p1", "f1", g(10)))
	s.must(job("b", "p1", "f1", g(10)))
	s.must(job("c", "p2", "f1", g(10)))
	s.must(to("a", farm.Running))
	refusal := s.refused(to("b", farm.Running), farm.Conflict, "status")
	if !strings.Contains(refusal.Detail, `"a"`) {
		t.Fatalf("%q does not say which job is in the way", refusal.Detail)
	}
	s.must(to("c", farm.Running))
	s.must(to("a", farm.Canceled))
	s.must(to("b", farm.Running))
}

func TestWhatAJobUsedGoesOffItsSpool(t *testing.T) {
	for name, c := range map[string]struct {
		status    farm.JobStatus
		used      *farm.Grams
		remaining farm.Grams
		recorded  farm.Grams
	}{
		"done as planned":            {farm.Done, nil, g(60), g(40)},
		"done with less":             {farm.Done, ptr(farm.Grams(12_345)), g(100) - 12_345, 12_345},
		"done with nothing":          {farm.Done, ptr(g(0)), g(100), 0},
		"done with all that is free": {farm.Done, ptr(g(70)), g(30), g(70)},
		"canceled":                   {farm.Canceled, nil, g(100), 0},
		"canceled halfway":           {farm.Canceled, ptr(g(20)), g(80), g(20)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.must(printer("p"))
			s.must(spool("f", g(100)))
			s.must(job("other", "p", "f", g(30)))
			s.must(job("j", "p", "f", g(40)))
			s.must(to("j", farm.Running))
			s.must(farm.SetJobStatus{ID: "j", Status: c.status, Used: c.used})
			s.expect("remaining", s.Filaments["f"].Remaining, c.remaining)
			s.expect("reserved", s.Filaments["f"].Reserved, g(30))
			s.expect("used", *s.Jobs["j"].Used, c.recorded)
		})
	}
}

func TestAJobCannotUseWhatOthersHaveReserved(t *testing.T) {
	s := newStory(t)
	s.must(printer("p"))
	s.must(spool("f", g(100)))
	s.must(job("other", "p", "f", g(30)))
	s.must(job("j", "p", "f", g(40)))
	s.must(to("j", farm.Running))
	for _, status := range []farm.JobStatus{farm.Done, farm.Canceled} {
		refusal := s.refused(used("j", status, g(70)+1), farm.Conflict, "used_weight_in_grams")
		s.expect("available", *refusal.Available, g(70))
	}
	s.expect("the state", s.Jobs["j"].Status, farm.Running)
}

func TestAJobThatNeverRanHasUsedNothing(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(10)))
	s.refused(used("j", farm.Canceled, 0), farm.Invalid, "used_weight_in_grams")
	s.expect("canceling changes", s.must(to("j", farm.Canceled)), "print_job j filament f1")
	s.expect("used", *s.Jobs["j"].Used, g(0))
	s.expect("reserved", s.Filaments["f1"].Reserved, g(0))
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	for _, running := range []bool{false, true} {
		s := oneOfEach(t)
		s.must(job("j", "p1", "f1", g(10)))
		if running {
			s.must(to("j", farm.Running))
		}
		s.refused(farm.Delete{Kind: farm.KindPrinter, ID: "p1"}, farm.Conflict, "")
		s.refused(farm.Delete{Kind: farm.KindFilament, ID: "f1"}, farm.Conflict, "")
		s.refused(farm.Delete{Kind: farm.KindJob, ID: "j"}, farm.Conflict, "")
		s.must(to("j", farm.Canceled))
		s.expect("deleting changes", s.must(farm.Delete{Kind: farm.KindPrinter, ID: "p1"}), "printer p1")
		s.must(farm.Delete{Kind: farm.KindFilament, ID: "f1"})
		s.must(farm.Delete{Kind: farm.KindJob, ID: "j"})
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s := oneOfEach(t)
	for _, c := range []farm.Command{
		farm.PatchPrinter{Patch: farm.Patch{ID: "x"}}, farm.PatchFilament{Patch: farm.Patch{ID: "x"}}, farm.PatchJob{Patch: farm.Patch{ID: "x"}},
		to("x", farm.Running),
		farm.Delete{Kind: farm.KindPrinter, ID: "x"}, farm.Delete{Kind: farm.KindFilament, ID: "x"}, farm.Delete{Kind: farm.KindJob, ID: "x"},
	} {
		s.refused(c, farm.NotFound, "")
	}
}

func TestAPatchMergesAndLeavesTheRestAlone(t *testing.T) {
	s := newStory(t)
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p", Name: "n", Notes: "x", Labels: map[string]string{"a": "1", "b": "2"}}, Company: "Prusa", Model: "MK4"})
	made := s.now
	before := s.Printers["p"].Labels
	s.must(farm.PatchPrinter{
		Patch: farm.Patch{ID: "p", Notes: ptr(""), Labels: &farm.LabelPatch{Set: map[string]*string{"a": nil, "c": ptr("3")}}},
		Model: ptr("MK5"),
	})
	s.expect("the printer", s.Printers["p"], farm.Printer{
		Common:  farm.Common{ID: "p", Name: "n", Labels: map[string]string{"b": "2", "c": "3"}},
		Company: "Prusa", Model: "MK5",
		Times: farm.Times{CreatedAt: made, UpdatedAt: s.now, Revision: 2},
	})
	s.expect("the labels as they were", before, map[string]string{"a": "1", "b": "2"})
	s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p", Labels: &farm.LabelPatch{Clear: true}}})
	s.expect("the labels", s.Printers["p"].Labels, map[string]string{})
}

func TestAPatchLeavesAtMost32Labels(t *testing.T) {
	s := newStory(t)
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p", Labels: manyLabels(32)}, Company: "Prusa", Model: "MK4"})
	one := map[string]*string{"one-more": ptr("v")}
	s.refused(farm.PatchPrinter{Patch: farm.Patch{ID: "p", Labels: &farm.LabelPatch{Set: one}}}, farm.Invalid, "labels")
	s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p", Labels: &farm.LabelPatch{Set: map[string]*string{"one-more": ptr("v"), "key0": nil}}}})
}

func TestASpoolKeepsWhatIsReservedAndWhatItHolds(t *testing.T) {
	patch := func(total, remaining *farm.Grams) farm.PatchFilament {
		return farm.PatchFilament{Patch: farm.Patch{ID: "f1"}, Total: total, Remaining: remaining}
	}
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(300)))
	s.refused(patch(nil, ptr(g(300)-1)), farm.Conflict, "remaining_weight_in_grams")
	s.refused(patch(nil, ptr(g(1000)+1)), farm.Conflict, "remaining_weight_in_grams")
	s.refused(patch(ptr(g(999)), nil), farm.Conflict, "total_weight_in_grams")
	s.must(patch(nil, ptr(g(300))))
	s.expect("available", s.Filaments["f1"].Available, g(0))
	s.must(patch(ptr(g(300)), nil))
	s.must(patch(ptr(g(2000)), ptr(g(2000))))
	s.expect("available", s.Filaments["f1"].Available, g(1700))
}

func TestAQueuedJobIsReservedAnewAllOrNothing(t *testing.T) {
	patch := func(spool *farm.ID, weight *farm.Grams) farm.PatchJob {
		return farm.PatchJob{Patch: farm.Patch{ID: "j"}, FilamentID: spool, Weight: weight}
	}
	f1, f2 := ptr(farm.ID("f1")), ptr(farm.ID("f2"))
	s := oneOfEach(t)
	s.must(job("other", "p1", "f1", g(600)))
	s.must(job("j", "p1", "f1", g(100)))
	s.expect("more on the same spool changes", s.must(patch(nil, ptr(g(400)))), "print_job j filament f1")
	refusal := s.refused(patch(f1, ptr(g(400)+1)), farm.Conflict, "print_weight_in_grams")
	s.expect("available to this job", *refusal.Available, g(400))
	refusal = s.refused(patch(f2, nil), farm.Conflict, "filament_id")
	s.expect("available on the other spool", *refusal.Available, g(50))
	s.refused(patch(f2, ptr(g(50)+1)), farm.Conflict, "print_weight_in_grams")
	s.expect("reserved", s.Filaments["f1"].Reserved, g(1000))
	s.expect("moving changes", s.must(patch(f2, ptr(g(50)))), "print_job j filament f1 filament f2")
	s.expect("reserved", []farm.Grams{s.Filaments["f1"].Reserved, s.Filaments["f2"].Reserved}, []farm.Grams{g(600), g(50)})
	s.expect("the same weight changes", s.must(patch(f2, ptr(g(50)))), "print_job j")
	s.expect("another printer changes", s.must(farm.PatchJob{Patch: farm.Patch{ID: "j"}, PrinterID: ptr(farm.ID("p2"))}), "print_job j")
	s.refused(farm.Delete{Kind: farm.KindPrinter, ID: "p2"}, farm.Conflict, "")
}

func TestThePlanOfAJobStandsOnceItRuns(t *testing.T) {
	s := oneOfEach(t)
	s.must(job("j", "p1", "f1", g(100)))
	for _, status := range []farm.JobStatus{farm.Running, farm.Done} {
		s.must(to("j", status))
		for field, c := range map[string]farm.PatchJob{
			"printer_id": {PrinterID: ptr(farm.ID("p1"))}, "filament_id": {FilamentID: ptr(farm.ID("f1"))},
			"filepath": {Filepath: ptr("b")}, "print_weight_in_grams": {Weight: ptr(g(100))},
		} {
			c.ID = "j"
			s.refused(c, farm.Conflict, field)
		}
		s.expect("naming changes", s.must(farm.PatchJob{Patch: farm.Patch{ID: "j", Name: ptr(string(status))}}), "print_job j")
	}
}
