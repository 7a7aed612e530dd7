// Package farmtest helps to test what stands on the rules of a farm: a Farm held in plain maps, and commands drawn at
// random.
//
// The Farm is the simplest thing that Decide can be run on. It derives what a store keeps at hand (which job runs on
// a printer, how many are active) from the jobs themselves, so that the two can be held against each other. Nothing
// but tests may import this package.
package farmtest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"raft3d/farm"
)

// Farm is a print farm in memory, with a ledger of every gram. It is not for more than one goroutine.
type Farm struct {
	Printers  map[farm.ID]farm.Printer
	Filaments map[farm.ID]farm.Filament
	Jobs      map[farm.ID]farm.Job

	Revision uint64    // of the last change
	Time     farm.Time // of the last change

	In   farm.Grams // on spools that came, and what patches added
	Used farm.Grams // by prints
	Gone farm.Grams // with spools that were deleted

	created map[object]uint64
}

type object struct {
	kind farm.Kind
	id   farm.ID
}

var _ farm.Reader = (*Farm)(nil)

// New is a farm with nothing in it.
func New() *Farm {
	return &Farm{
		Printers: map[farm.ID]farm.Printer{}, Filaments: map[farm.ID]farm.Filament{}, Jobs: map[farm.ID]farm.Job{},
		created: map[object]uint64{},
	}
}

// Do decides c and takes up its changes. Time does not run backwards.
func (f *Farm) Do(c farm.Command, s farm.Stamp) ([]farm.Change, error) {
	s.At = max(s.At, f.Time)
	changes, err := farm.Decide(f, c, s)
	if err != nil {
		return nil, err
	}
	f.Time = s.At
	for _, change := range changes {
		f.take(change)
		f.enter(c, change)
	}
	return changes, nil
}

func (f *Farm) take(c farm.Change) {
	f.Revision++
	key := object{c.Kind, c.ID}
	if _, known := f.created[key]; !known {
		f.created[key] = f.Revision
	}
	var gone bool
	switch c.Kind {
	case farm.KindPrinter:
		gone = put(f.Printers, c.ID, c.PrinterAfter, func(p *farm.Printer) { p.Revision = f.Revision })
	case farm.KindFilament:
		gone = put(f.Filaments, c.ID, c.FilamentAfter, func(s *farm.Filament) { s.Revision = f.Revision })
	case farm.KindJob:
		gone = put(f.Jobs, c.ID, c.JobAfter, func(j *farm.Job) { j.Revision = f.Revision })
	}
	if gone {
		delete(f.created, key)
	}
}

func put[T any](objects map[farm.ID]T, id farm.ID, after *T, finish func(*T)) (gone bool) {
	if after == nil {
		delete(objects, id)
		return true
	}
	finish(after)
	objects[id] = *after
	return false
}

// enter writes a change that c made into the ledger. Only two commands may bring grams or take them away; what a
// spool loses otherwise must be what a print used.
func (f *Farm) enter(c farm.Command, made farm.Change) {
	if j := made.JobAfter; j != nil && j.Used != nil && made.JobBefore.Used == nil {
		f.Used += *j.Used
	}
	before, after := made.FilamentBefore, made.FilamentAfter
	switch c.(type) {
	case farm.CreateFilament:
		f.In += after.Remaining
	case farm.PatchFilament:
		f.In += after.Remaining - before.Remaining
	case farm.Delete:
		if before != nil {
			f.Gone += before.Remaining
		}
	}
}

// Printer, Filament, Job, RunningJob and ActiveJobs make the Farm a farm.Reader.

func (f *Farm) Printer(id farm.ID) *farm.Printer { return CopyOf(f.Printers, id) }

func (f *Farm) Filament(id farm.ID) *farm.Filament { return CopyOf(f.Filaments, id) }

func (f *Farm) Job(id farm.ID) *farm.Job { return CopyOf(f.Jobs, id) }

// CopyOf is a copy of the object with that id, as a farm.Reader hands it out; nil: there is none.
func CopyOf[T any](objects map[farm.ID]T, id farm.ID) *T {
	object, ok := objects[id]
	if !ok {
		return nil
	}
	return &object
}

func (f *Farm) RunningJob(printer farm.ID) (farm.ID, bool) {
	for _, j := range f.JobList() {
		if j.PrinterID == printer && j.Status == farm.Running {
			return j.ID, true
		}
	}
	return "", false
}

func (f *Farm) ActiveJobs(printer farm.ID) int {
	n := 0
	for _, j := range f.JobList() {
		if j.PrinterID == printer && j.Status.Active() {
			n++
		}
	}
	return n
}

// PrinterList, FilamentList and JobList are the objects in order of creation.

func (f *Farm) PrinterList() []farm.Printer {
	return inOrder(f.Printers, func(p farm.Printer) uint64 { return f.created[object{farm.KindPrinter, p.ID}] })
}

func (f *Farm) FilamentList() []farm.Filament {
	return inOrder(f.Filaments, func(s farm.Filament) uint64 { return f.created[object{farm.KindFilament, s.ID}] })
}

func (f *Farm) JobList() []farm.Job {
	return inOrder(f.Jobs, func(j farm.Job) uint64 { return f.created[object{farm.KindJob, j.ID}] })
}

func inOrder[T any](objects map[farm.ID]T, created func(T) uint64) []T {
	return slices.SortedFunc(maps.Values(objects), func(a, b T) int { return cmp.Compare(created(a), created(b)) })
}

// Wrong says what in this farm cannot be, or nil.
func (f *Farm) Wrong() error {
	reserved := map[farm.ID]farm.Grams{}
	running := map[farm.ID]farm.ID{}
	for _, j := range f.JobList() {
		ended := j.Status == farm.Done || j.Status == farm.Canceled
		if ended != (j.Used != nil) || ended != (j.FinishedAt != nil) {
			return fmt.Errorf("job %+v says it ended, or does not, and means the other", j)
		}
		if !j.Status.Active() {
			continue
		}
		reserved[j.FilamentID] += j.Weight
		if _, ok := f.Filaments[j.FilamentID]; !ok {
			return fmt.Errorf("active job %+v has no spool", j)
		}
		if _, ok := f.Printers[j.PrinterID]; !ok {
			return fmt.Errorf("active job %+v has no printer", j)
		}
		if j.Status == farm.Running {
			if other, busy := running[j.PrinterID]; busy {
				return fmt.Errorf("printer %q runs %q and %q", j.PrinterID, other, j.ID)
			}
			running[j.PrinterID] = j.ID
		}
	}
	for _, p := range f.PrinterList() {
		job, busy := running[p.ID]
		if busy != (p.CurrentJobID != nil) || busy && *p.CurrentJobID != job {
			return fmt.Errorf("printer %+v should show job %q", p, job)
		}
	}
	var remaining farm.Grams
	for _, s := range f.FilamentList() {
		remaining += s.Remaining
		switch {
		case s.Reserved != reserved[s.ID]:
			return fmt.Errorf("spool %+v: its active jobs need %v g", s, reserved[s.ID])
		case s.Available != s.Remaining-s.Reserved || s.Available < 0 || s.Remaining > s.Total:
			return fmt.Errorf("spool %+v does not add up", s)
		}
	}
	if f.In != remaining+f.Used+f.Gone {
		return fmt.Errorf("%v g came, %v g remain, %v g were used, %v g went", f.In, remaining, f.Used, f.Gone)
	}
	return nil
}
