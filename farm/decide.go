package farm

import (
	"fmt"
	"maps"
	"slices"
)

// Decide says what c does to the farm that r shows: at least one Change (none for RecordAnswer), or a refusal, which
// is an *Error and comes with no changes. Stamp.Key is for whoever keeps answers; Decide only wants it where there is
// an answer to keep. It alters nothing that r handed out. The Changes take c's maps over: c must not be written to
// afterwards.
//
// The Changes come in a fixed order, which is that of their revisions: first the object that the command is about,
// then the spools that it touches (the one that is left before the one that is taken), then the printers. A field
// that is derived (a spool's reserved and available weight, a printer's current job) makes a change of its own
// object, with its UpdatedAt, and only when it differs.
func Decide(r Reader, c Command, s Stamp) ([]Change, error) {
	c, refusal := Normalize(c)
	if refusal != nil {
		return nil, refusal
	}
	if s.At < 0 || s.At > MaxTime {
		return nil, &Error{Kind: Malformed, Detail: "the time of the command is not between the years 1970 and 9999"}
	}
	d := decision{Reader: r, stamp: s}
	if refusal := d.precondition(c); refusal != nil {
		return nil, refusal
	}
	switch c := c.(type) {
	case CreatePrinter:
		refusal = d.createPrinter(c)
	case CreateFilament:
		refusal = d.createFilament(c)
	case CreateJob:
		refusal = d.createJob(c)
	case PatchPrinter:
		refusal = d.patchPrinter(c)
	case PatchFilament:
		refusal = d.patchFilament(c)
	case PatchJob:
		refusal = d.patchJob(c)
	case SetJobStatus:
		refusal = d.setJobStatus(c)
	case Delete:
		refusal = d.delete(c)
	case RecordAnswer:
		if s.Key == "" {
			refusal = &Error{Kind: Malformed, Detail: "an answer can be kept only under a key"}
		}
	default:
		panic(fmt.Sprintf("decide: %T passed Normalize and is not decided", c))
	}
	if refusal != nil {
		return nil, refusal
	}
	return d.changes, nil
}

// decision is one command on its way to its changes.
type decision struct {
	Reader
	stamp   Stamp
	changes []Change
}

func (d *decision) delete(c Delete) *Error {
	switch c.Kind {
	case KindPrinter:
		return d.deletePrinter(c.ID)
	case KindFilament:
		return d.deleteFilament(c.ID)
	case KindJob:
		return d.deleteJob(c.ID)
	}
	panic(fmt.Sprintf("decide: kind %q passed Normalize and is not decided", c.Kind))
}

// common is what a new object of t begins with. taken says whether an id is in use.
func (d *decision) common(t Text, taken func(ID) bool) (Common, Times, *Error) {
	id := t.ID
	if id == "" {
		id = d.stamp.NewID
	}
	if !ValidID(id) {
		return Common{}, Times{}, &Error{Kind: Malformed, Field: "id", Detail: "neither the command nor its stamp has a valid id"}
	}
	if taken(id) {
		return Common{}, Times{}, &Error{Kind: Conflict, Field: "id", Detail: fmt.Sprintf("%s is taken already", quoted(id))}
	}
	return Common{ID: id, Name: t.Name, Notes: t.Notes, Labels: t.Labels},
		Times{CreatedAt: d.stamp.At, UpdatedAt: d.stamp.At}, nil
}

// patched is what c becomes with p. The labels of c are left alone: others hold them.
func patched(c Common, p Patch) (Common, *Error) {
	if p.Name != nil {
		c.Name = *p.Name
	}
	if p.Notes != nil {
		c.Notes = *p.Notes
	}
	if p.Labels != nil {
		c.Labels = p.Labels.applied(c.Labels)
		if n := len(c.Labels); n > MaxLabels {
			return c, &Error{Kind: Invalid, Field: "labels", Detail: fmt.Sprintf("must be at most %d, not the %d that this would leave", MaxLabels, n)}
		}
	}
	return c, nil
}

// applied is a new map: old with p merged into it.
func (p *LabelPatch) applied(old map[string]string) map[string]string {
	merged := make(map[string]string, len(old)+len(p.Set))
	if !p.Clear {
		maps.Copy(merged, old)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Set)) {
		if value := p.Set[key]; value == nil {
			delete(merged, key)
		} else {
			merged[key] = *value
		}
	}
	return merged
}
