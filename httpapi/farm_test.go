package httpapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"raft3d/farm"
)

// memoryFarm is a Farm of one node without a log: farm.Decide over maps. Its hooks, where they are set, come first.
type memoryFarm struct {
	onDo   func(ctx context.Context, c farm.Command, s farm.Stamp) (farm.Result, error)
	onView func(ctx context.Context, o farm.ReadOptions) error

	mu        sync.Mutex
	revision  uint64
	order     map[farm.Kind][]farm.ID // of creation
	created   map[farm.ID]uint64      // positions; the tests don't use an id for two kinds
	printers  map[farm.ID]farm.Printer
	filaments map[farm.ID]farm.Filament
	jobs      map[farm.ID]farm.Job
	commands  []farm.Command // all that came, refused ones too
}

func newMemoryFarm() *memoryFarm {
	m := &memoryFarm{}
	m.empty()
	return m
}

// empty makes it as new, but for its hooks.
func (m *memoryFarm) empty() {
	m.revision, m.commands = 0, nil
	m.order = map[farm.Kind][]farm.ID{}
	m.created = map[farm.ID]uint64{}
	m.printers = map[farm.ID]farm.Printer{}
	m.filaments = map[farm.ID]farm.Filament{}
	m.jobs = map[farm.ID]farm.Job{}
}

func (m *memoryFarm) Printer(id farm.ID) (farm.Printer, bool) { p, ok := m.printers[id]; return p, ok }
func (m *memoryFarm) Filament(id farm.ID) (farm.Filament, bool) {
	f, ok := m.filaments[id]
	return f, ok
}
func (m *memoryFarm) Job(id farm.ID) (farm.Job, bool) { j, ok := m.jobs[id]; return j, ok }

func (m *memoryFarm) RunningJob(printer farm.ID) (farm.ID, bool) {
	for id, j := range m.jobs {
		if j.PrinterID == printer && j.Status == farm.Running {
			return id, true
		}
	}
	return "", false
}

func (m *memoryFarm) ActiveJobs(printer farm.ID) (n int) {
	for _, j := range m.jobs {
		if j.PrinterID == printer && (j.Status == farm.Queued || j.Status == farm.Running) {
			n++
		}
	}
	return n
}

func (m *memoryFarm) Do(ctx context.Context, c farm.Command, s farm.Stamp) (farm.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = append(m.commands, c)
	if m.onDo != nil {
		return m.onDo(ctx, c, s)
	}
	if err := ctx.Err(); err != nil {
		return farm.Result{}, &farm.Error{Kind: farm.Unavailable, Detail: "no quorum answered in time", Outcome: farm.NotApplied}
	}
	changes, err := farm.Decide(m, c, s)
	if err != nil {
		return farm.Result{}, err
	}
	for _, change := range changes {
		m.apply(change)
	}
	kind, id := subject(c, s)
	object, _ := m.get(kind, id)
	return farm.Result{Object: object, ID: id, Revision: m.revision}, nil
}

// subject is the object that a command is about.
func subject(c farm.Command, s farm.Stamp) (farm.Kind, farm.ID) {
	created := func(kind farm.Kind, t farm.Text) (farm.Kind, farm.ID) {
		if t.ID == "" {
			return kind, s.NewID
		}
		return kind, t.ID
	}
	switch c := c.(type) {
	case farm.CreatePrinter:
		return created(farm.KindPrinter, c.Text)
	case farm.CreateFilament:
		return created(farm.KindFilament, c.Text)
	case farm.CreateJob:
		return created(farm.KindJob, c.Text)
	case farm.PatchPrinter:
		return farm.KindPrinter, c.ID
	case farm.PatchFilament:
		return farm.KindFilament, c.ID
	case farm.PatchJob:
		return farm.KindJob, c.ID
	case farm.SetJobStatus:
		return farm.KindJob, c.ID
	case farm.Delete:
		return c.Kind, c.ID
	case farm.RecordAnswer:
		return "", ""
	}
	panic("no such command")
}

func (m *memoryFarm) apply(c farm.Change) {
	m.revision++
	created, deleted := false, false
	switch c.Kind {
	case farm.KindPrinter:
		created, deleted = store(m.printers, c.ID, c.PrinterBefore, c.PrinterAfter, func(p *farm.Printer) { p.Revision = m.revision })
	case farm.KindFilament:
		created, deleted = store(m.filaments, c.ID, c.FilamentBefore, c.FilamentAfter, func(f *farm.Filament) { f.Revision = m.revision })
	case farm.KindJob:
		created, deleted = store(m.jobs, c.ID, c.JobBefore, c.JobAfter, func(j *farm.Job) { j.Revision = m.revision })
	}
	if created {
		m.order[c.Kind] = append(m.order[c.Kind], c.ID)
		m.created[c.ID] = m.revision
	}
	if deleted {
		m.order[c.Kind] = slices.DeleteFunc(m.order[c.Kind], func(id farm.ID) bool { return id == c.ID })
	}
}

func store[T any](objects map[farm.ID]T, id farm.ID, before, after *T, number func(*T)) (created, deleted bool) {
	if after == nil {
		delete(objects, id)
		return false, true
	}
	stored := *after
	number(&stored)
	objects[id] = stored
	return before == nil, false
}

func (m *memoryFarm) get(kind farm.Kind, id farm.ID) ([]byte, bool) {
	var object any
	var ok bool
	switch kind {
	case farm.KindPrinter:
		object, ok = m.Printer(id)
	case farm.KindFilament:
		object, ok = m.Filament(id)
	case farm.KindJob:
		object, ok = m.Job(id)
	}
	if !ok {
		return nil, false
	}
	sent, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return sent, true
}

func (m *memoryFarm) View(ctx context.Context, o farm.ReadOptions, fn func(farm.View) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onView != nil {
		if err := m.onView(ctx, o); err != nil {
			return err
		}
	}
	if o.MinRevision > m.revision {
		return &farm.Error{Kind: farm.Timeout, Detail: "the revision was not reached in time"}
	}
	return fn(memoryView{m})
}

type memoryView struct{ m *memoryFarm }

func (v memoryView) Revision() uint64 { return v.m.revision }

func (v memoryView) Get(kind farm.Kind, id farm.ID) ([]byte, bool) { return v.m.get(kind, id) }

func (v memoryView) List(q farm.Query, fn func(uint64, []byte) error) error {
	shown := 0
	for _, id := range v.m.order[q.Kind] {
		if v.m.created[id] <= q.After || !v.matches(q, id) {
			continue
		}
		object, _ := v.m.get(q.Kind, id)
		if err := fn(v.m.created[id], object); err != nil {
			return err
		}
		if shown++; shown == q.Limit {
			return nil
		}
	}
	return nil
}

func (v memoryView) Events(farm.EventQuery, func(uint64, []byte) error) error { return nil }

func (v memoryView) Oldest() uint64 { return 1 }

func (v memoryView) Answered(string) ([32]byte, farm.Answer, bool) {
	return [32]byte{}, farm.Answer{}, false
}

func (v memoryView) Count(q farm.Query) (n int, err error) {
	q.After, q.Limit = 0, 0
	err = v.List(q, func(uint64, []byte) error { n++; return nil })
	return n, err
}

func (v memoryView) matches(q farm.Query, id farm.ID) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	var common farm.Common
	ok := false
	switch q.Kind {
	case farm.KindPrinter:
		p := v.m.printers[id]
		common, ok = p.Common, same(q.Company, p.Company) && same(q.Model, p.Model)
	case farm.KindFilament:
		f := v.m.filaments[id]
		common, ok = f.Common, same(q.Type, f.Type) && same(q.Color, f.Color)
	case farm.KindJob:
		j := v.m.jobs[id]
		common = j.Common
		ok = same(string(q.PrinterID), string(j.PrinterID)) && same(string(q.FilamentID), string(j.FilamentID)) &&
			(len(q.Status) == 0 || slices.Contains(q.Status, j.Status))
	}
	for _, label := range q.Labels {
		if value, has := common.Labels[label.Key]; !has || value != label.Value {
			return false
		}
	}
	return ok
}

func (v memoryView) Summary() farm.Summary {
	sum := farm.Summary{Printers: len(v.m.printers), Filaments: len(v.m.filaments), Jobs: map[farm.JobStatus]int{}}
	for j := range maps.Values(v.m.jobs) {
		sum.Jobs[j.Status]++
	}
	for f := range maps.Values(v.m.filaments) {
		sum.Remaining += f.Remaining
		sum.Reserved += f.Reserved
	}
	return sum
}

// refuse is an onDo that answers with err.
func refuse(err error) func(context.Context, farm.Command, farm.Stamp) (farm.Result, error) {
	return func(context.Context, farm.Command, farm.Stamp) (farm.Result, error) { return farm.Result{}, err }
}

// refuseView is an onView that answers with err.
func refuseView(err error) func(context.Context, farm.ReadOptions) error {
	return func(context.Context, farm.ReadOptions) error { return err }
}
