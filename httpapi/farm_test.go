package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// memoryFarm is a Farm of one node without a log: farm.Decide over maps. Its hooks, where they are set, come first.
type memoryFarm struct {
	onDo   func(ctx context.Context, c farm.Command, s farm.Stamp) (farm.Result, error)
	onView func(ctx context.Context, o farm.ReadOptions) error

	mu        sync.Mutex
	revision  uint64
	order     map[farm.Kind][]farm.ID // of creation
	printers  map[farm.ID]farm.Printer
	filaments map[farm.ID]farm.Filament
	jobs      map[farm.ID]farm.Job
	commands  []farm.Command    // all that came, refused ones too
	stamps    []farm.Stamp      // of the commands
	born      map[string]uint64 // positions, by kind and id
	keys      map[string]kept
	events    []event
	oldest    uint64        // events before it have been trimmed
	changed   chan struct{} // closed with the next change
	waiting   int           // Waits that have not returned
	onBackup  func(ctx context.Context, clusterID string, w io.Writer) (uint64, error)
}

// kept is what a key was answered with.
type kept struct {
	fingerprint [32]byte
	result      farm.Result
	refusal     *farm.Error
	answer      farm.Answer
}

type event struct {
	revision uint64
	kind     farm.Kind
	id       farm.ID
	sent     []byte
}

func newMemoryFarm() *memoryFarm {
	m := &memoryFarm{}
	m.empty()
	return m
}

// empty makes it as new, but for its hooks.
func (m *memoryFarm) empty() {
	m.revision, m.commands, m.stamps, m.events, m.oldest = 0, nil, nil, nil, 1
	m.born, m.keys = map[string]uint64{}, map[string]kept{}
	m.order = map[farm.Kind][]farm.ID{}
	m.printers = map[farm.ID]farm.Printer{}
	m.filaments = map[farm.ID]farm.Filament{}
	m.jobs = map[farm.ID]farm.Job{}
}

func (m *memoryFarm) Printer(id farm.ID) *farm.Printer   { return farmtest.CopyOf(m.printers, id) }
func (m *memoryFarm) Filament(id farm.ID) *farm.Filament { return farmtest.CopyOf(m.filaments, id) }
func (m *memoryFarm) Job(id farm.ID) *farm.Job           { return farmtest.CopyOf(m.jobs, id) }

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
	if fault := farm.Check(c); fault != nil && s.Key == "" {
		return farm.Result{}, fault
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands, m.stamps = append(m.commands, c), append(m.stamps, s)
	if m.onDo != nil {
		return m.onDo(ctx, c, s)
	}
	if err := ctx.Err(); err != nil {
		return farm.Result{}, &farm.Error{Kind: farm.Unavailable, Detail: "no quorum answered in time", Outcome: farm.NotApplied}
	}
	if before, known := m.keys[s.Key]; s.Key != "" && known {
		switch {
		case before.fingerprint != s.Fingerprint:
			return farm.Result{}, &farm.Error{Kind: farm.Invalid, Field: headerKey, Detail: "was used for another request"}
		case before.refusal != nil:
			again := *before.refusal
			again.Replayed = true
			return farm.Result{}, &again
		}
		before.result.Replayed = true
		return before.result, nil
	}
	if r, ok := c.(farm.RecordAnswer); ok {
		m.keys[s.Key] = kept{fingerprint: s.Fingerprint, answer: r.Answer}
		return farm.Result{Revision: m.revision}, nil
	}
	result, err := m.decide(c, s)
	if s.Key != "" {
		k := kept{fingerprint: s.Fingerprint, result: result}
		errors.As(err, &k.refusal)
		m.keys[s.Key] = k
	}
	return result, err
}

func (m *memoryFarm) decide(c farm.Command, s farm.Stamp) (farm.Result, error) {
	kind, id := subject(c, s)
	if s.IfMatchAny || s.IfMatch != nil {
		object, ok := m.get(kind, id)
		revision := uint64(0)
		if ok {
			revision, _ = revisionOf(object)
		}
		if ok && !s.IfMatchAny && !slices.Contains(s.IfMatch, revision) {
			return farm.Result{}, &farm.Error{Kind: farm.PreconditionFailed, Detail: fmt.Sprintf("its revision is %d", revision)}
		}
	}
	changes, err := farm.Decide(m, c, s)
	if err != nil {
		return farm.Result{}, err
	}
	for _, change := range changes {
		m.apply(change)
	}
	m.wake()
	object, _ := m.get(kind, id)
	return farm.Result{Object: object, ID: id, Revision: m.revision}, nil
}

func (m *memoryFarm) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

func (m *memoryFarm) Wait(ctx context.Context, after uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.revision <= after {
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.waiting++
		m.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = fmt.Errorf("wait for revision %d: %w", after+1, ctx.Err())
		}
		m.mu.Lock()
		m.waiting--
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *memoryFarm) Backup(ctx context.Context, clusterID string, w io.Writer) (uint64, error) {
	return m.onBackup(ctx, clusterID, w)
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
	action := "updated"
	if created {
		action = "created"
		m.born[string(c.Kind)+string(c.ID)] = m.revision
		m.order[c.Kind] = append(m.order[c.Kind], c.ID)
	}
	if deleted {
		action = "deleted"
		m.order[c.Kind] = slices.DeleteFunc(m.order[c.Kind], func(id farm.ID) bool { return id == c.ID })
	}
	m.record(c, action)
}

// record writes the history.
func (m *memoryFarm) record(c farm.Change, action string) {
	object, ok := m.get(c.Kind, c.ID)
	if !ok {
		before := map[farm.Kind]any{farm.KindPrinter: c.PrinterBefore, farm.KindFilament: c.FilamentBefore, farm.KindJob: c.JobBefore}
		object, _ = json.Marshal(before[c.Kind])
	}
	sent := fmt.Appendf(nil, `{"revision":%d,"time":"2026-01-02T03:04:05.678Z","kind":%q,"id":%q,"action":%q,"actor":"","object":%s}`,
		m.revision, c.Kind, c.ID, action, object)
	m.events = append(m.events, event{m.revision, c.Kind, c.ID, sent})
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
		object, ok = m.printers[id]
	case farm.KindFilament:
		object, ok = m.filaments[id]
	case farm.KindJob:
		object, ok = m.jobs[id]
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
	if err := m.await(ctx, o); err != nil {
		return err
	}
	v := memoryView{m, new([][]byte)}
	defer func() {
		for _, b := range *v.lent {
			for i := range b {
				b[i] = '!'
			}
		}
	}()
	return fn(v)
}

func (m *memoryFarm) Get(ctx context.Context, kind farm.Kind, id farm.ID, o farm.ReadOptions) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.await(ctx, o); err != nil {
		return nil, 0, err
	}
	object, _ := m.get(kind, id)
	return object, m.revision, nil
}

func (m *memoryFarm) await(ctx context.Context, o farm.ReadOptions) error {
	if m.onView != nil {
		if err := m.onView(ctx, o); err != nil {
			return err
		}
	}
	if o.MinRevision > m.revision {
		return &farm.Error{Kind: farm.Timeout, Detail: "the revision was not reached in time"}
	}
	return nil
}

type memoryView struct {
	m    *memoryFarm
	lent *[][]byte // what it handed out, which is spoilt when it ends
}

func (v memoryView) lend(b []byte) []byte {
	b = bytes.Clone(b)
	*v.lent = append(*v.lent, b)
	return b
}

func (v memoryView) Revision() uint64 { return v.m.revision }

func (v memoryView) List(q farm.Query, fn func(uint64, []byte) error) error {
	n := 0
	for _, id := range v.m.order[q.Kind] {
		position := v.m.born[string(q.Kind)+string(id)]
		if position <= q.After || !v.matches(q, id) {
			continue
		}
		if n++; q.Limit > 0 && n > q.Limit {
			break
		}
		object, _ := v.m.get(q.Kind, id)
		if err := fn(position, v.lend(object)); err != nil {
			return err
		}
	}
	return nil
}

func (v memoryView) Oldest() uint64 { return v.m.oldest }

func (v memoryView) Events(q farm.EventQuery, fn func(uint64, []byte) error) error {
	if q.Since+1 < v.m.oldest {
		return &farm.Error{Kind: farm.Gone, Field: "since", Detail: fmt.Sprintf("the oldest that is kept is %d", v.m.oldest), Oldest: v.m.oldest}
	}
	n := 0
	for _, e := range v.m.events[min(q.Since, uint64(len(v.m.events))):] {
		if q.Kind != "" && e.kind != q.Kind || q.ID != "" && e.id != q.ID {
			continue
		}
		if n++; q.Limit > 0 && n > q.Limit {
			break
		}
		if err := fn(e.revision, v.lend(e.sent)); err != nil {
			return err
		}
	}
	return nil
}

func (v memoryView) Answered(key string) (fingerprint [32]byte, a farm.Answer, ok bool) {
	k, ok := v.m.keys[key]
	k.answer.Body = v.lend(k.answer.Body)
	return k.fingerprint, k.answer, ok
}

func (v memoryView) Count(q farm.Query) (n int, err error) {
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
