package history

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

// Event is one line of the change feed.
type Event struct {
	Revision uint64
	Kind     string // printer, filament or print_job
	ID       string
	Action   string // created, updated or deleted
	Object   json.RawMessage
	Raw      json.RawMessage // the line as it was sent
}

// Order is the order in which a cluster says that everything happened, from revision 1. It remembers each effect that
// a call of the run may have had, for the whole run, so that one that comes late or again is found whenever it comes.
type Order struct {
	revision uint64
	effects  map[string]*effect
	objects  map[string]*object // by kind and id
	live     map[string][]string
	gone     []string // deleted since Forget
	floor    uint64   // the newest state that any answer has shown before those of the next Check
	digest   [sha256.Size]byte
}

// effect is what one call does, and how often it was seen.
type effect struct {
	op   *Op // nil: no call of that effect is known yet
	at   []uint64
	told bool
}

type object struct {
	versions []version
	notes    string
}

// version is an object from one revision on; nil: it is gone.
type version struct {
	revision uint64
	object   []byte
}

// NewOrder begins before the first change.
func NewOrder() *Order {
	return &Order{effects: map[string]*effect{}, objects: map[string]*object{}, live: map[string][]string{}}
}

// Revision is that of the last event.
func (r *Order) Revision() uint64 { return r.revision }

// Digest is of all events so far, byte by byte: two nodes that tell the same have the same.
func (r *Order) Digest() [sha256.Size]byte { return r.digest }

// Add takes the next event. An error says that it does not follow on the last.
func (r *Order) Add(e Event) error {
	if e.Revision != r.revision+1 {
		return fmt.Errorf("the feed has revision %d after %d", e.Revision, r.revision)
	}
	r.revision = e.Revision
	h := sha256.New()
	h.Write(r.digest[:])
	h.Write(e.Raw)
	h.Sum(r.digest[:0])

	name := e.Kind + " " + e.ID
	o := r.objects[name]
	if (o == nil) != (e.Action == "created") {
		return fmt.Errorf("revision %d: %s is %s, but it was there before: %t", e.Revision, name, e.Action, o != nil)
	}
	var told struct{ Name, Status, Notes string }
	if err := json.Unmarshal(e.Object, &told); err != nil {
		return fmt.Errorf("decode the object of revision %d: %w", e.Revision, err)
	}
	switch {
	case e.Action == "deleted":
		o.versions = append(o.versions, version{e.Revision, nil})
		r.live[e.Kind] = slices.DeleteFunc(r.live[e.Kind], func(id string) bool { return id == e.ID })
		r.gone = append(r.gone, name)
		return nil
	case e.Action == "created":
		o = &object{}
		r.objects[name] = o
		r.live[e.Kind] = append(r.live[e.Kind], e.ID)
		if e.Kind == "print_job" {
			r.happened("create "+told.Name, e.Revision)
		}
	case e.Kind == "print_job":
		r.happened(statusEffect(e.ID, told.Status), e.Revision)
	case e.Kind == "printer" && told.Notes != o.notes:
		r.happened("note "+told.Notes, e.Revision)
	}
	o.notes = told.Notes
	o.versions = append(o.versions, version{e.Revision, compact(e.Object)})
	return nil
}

func (r *Order) happened(name string, revision uint64) {
	f := r.effects[name]
	if f == nil {
		f = &effect{}
		r.effects[name] = f
	}
	f.at = append(f.at, revision)
}

// Live is the array of all objects of that kind, oldest first, as of the last event.
func (r *Order) Live(kind string) [][]byte {
	var all [][]byte
	for _, id := range r.live[kind] {
		v := r.objects[kind+" "+id].versions
		all = append(all, v[len(v)-1].object)
	}
	return all
}

// Forget drops what was deleted: no later call asks for it.
func (r *Order) Forget() {
	for _, name := range r.gone {
		delete(r.objects, name)
	}
	r.gone = nil
}

// Check holds ops against all events so far, which must reach to the newest answer of ops, and returns what is wrong.
// Every call that the farm's jobs and notes may show must come here, once, in some Check of the run.
func (r *Order) Check(ops []Op) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for i := range ops {
		o := &ops[i]
		if o.Fault != "" {
			say("%s: %v", o.Fault, o)
		}
		switch {
		case o.Kind.Reads():
			r.checkRead(o, say)
		case o.Outcome == OK:
			r.checkAnswer(o, say)
			fallthrough
		default:
			r.expect(o)
		}
	}
	r.checkEffects(say)
	r.checkTimes(ops, say)
	return wrong
}

// expect notes that o may have, or must have, its effect. Several calls may ask for the same: to start one job, say.
// The one that was acknowledged stands for all.
func (r *Order) expect(o *Op) {
	f := r.effects[o.Effect()]
	if f == nil {
		f = &effect{}
		r.effects[o.Effect()] = f
	}
	rank := map[Outcome]int{OK: 3, Unknown: 2, NotApplied: 1, Refused: 1}
	kept := &Op{Kind: o.Kind, Token: o.Token, JobID: o.JobID, Outcome: o.Outcome, Revision: o.Revision, Call: o.Call, Return: o.Return, Nodes: o.Nodes}
	if f.op == nil || rank[kept.Outcome] > rank[f.op.Outcome] {
		f.op = kept
	}
}

func (r *Order) checkEffects(say func(string, ...any)) {
	for name, f := range r.effects {
		problem := ""
		switch {
		case f.told:
		case f.op == nil:
			problem = "nobody asked for it"
		case len(f.at) > 1:
			problem = "it happened more than once"
		case f.op.Outcome == OK && len(f.at) == 0:
			problem = "it was acknowledged and is lost"
		case f.op.Outcome == OK && f.at[0] != f.op.Revision:
			problem = "it was acknowledged with another revision"
		case f.op.Outcome != OK && f.op.Outcome != Unknown && len(f.at) > 0:
			problem = "its client was told that it has no effect"
		}
		if problem != "" {
			f.told = true
			say("%s: %s: in the feed at %v, asked for by %v", name, problem, f.at, f.op)
		}
	}
}

func kindOf(o *Op) (kind, id string) {
	switch o.Kind {
	case Note, Printer:
		return "printer", idOf(o.Object)
	case Spool:
		return "filament", idOf(o.Object)
	}
	return "print_job", idOf(o.Object)
}

func idOf(object []byte) string {
	var o struct{ ID string }
	_ = json.Unmarshal(object, &o) // no JSON has no id
	return o.ID
}

// checkAnswer compares the object that a change was answered with to the one that the feed has at its revision.
func (r *Order) checkAnswer(o *Op, say func(string, ...any)) {
	kind, id := kindOf(o)
	history := r.objects[kind+" "+id]
	if history == nil {
		say("what was acknowledged is not in the feed: %v", o)
		return
	}
	i := sort.Search(len(history.versions), func(i int) bool { return history.versions[i].revision >= o.Revision })
	if i == len(history.versions) || history.versions[i].revision != o.Revision || !bytes.Equal(history.versions[i].object, compact(o.Object)) {
		say("the feed has something else at revision %d of %s %s than was acknowledged: %v", o.Revision, kind, id, o)
	}
}

// checkRead compares what was read to what the feed says of the state that the answer shows.
func (r *Order) checkRead(o *Op, say func(string, ...any)) {
	if o.Outcome != OK {
		return
	}
	kind, id := kindOf(o)
	history := r.objects[kind+" "+id]
	if history == nil {
		say("what was read is not in the feed: %v", o)
		return
	}
	i := sort.Search(len(history.versions), func(i int) bool { return history.versions[i].revision > o.Shown })
	if i == 0 || history.versions[i-1].revision != o.Revision || !bytes.Equal(history.versions[i-1].object, compact(o.Object)) {
		say("%s %s at revision %d was something else: %v", kind, id, o.Shown, o)
	}
}

// checkTimes finds what was answered as if an answer given before the call had not been: a change with a revision that
// is not above, a read of a state that is below.
func (r *Order) checkTimes(ops []Op, say func(string, ...any)) {
	var answered []*Op
	for i := range ops {
		if ops[i].Outcome == OK {
			answered = append(answered, &ops[i])
		}
	}
	ended := slices.Clone(answered)
	slices.SortFunc(answered, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	slices.SortFunc(ended, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	floor, before := r.floor, 0
	for _, o := range answered {
		for before < len(ended) && ended[before].Return < o.Call {
			floor = max(floor, ended[before].Revision, ended[before].Shown)
			before++
		}
		switch {
		case !o.Kind.Reads() && o.Revision <= floor:
			say("revision %d was shown before this change was even asked for: %v", floor, o)
		case o.Kind.Reads() && !o.Stale && o.Shown < floor:
			say("revision %d was shown before this read, which shows an older state: %v", floor, o)
		}
	}
	for _, o := range ended {
		r.floor = max(r.floor, o.Revision, o.Shown)
	}
}

func compact(object []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, object); err != nil {
		return bytes.Clone(object) // it will be equal to nothing that is JSON
	}
	return b.Bytes()
}
