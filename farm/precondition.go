package farm

import (
	"fmt"
	"slices"
)

// precondition holds the stamp's IfMatch against the object that c is about, as it is now. An object that is not there
// is refused as without a condition (RFC 9110, 13.2.1).
func (d *decision) precondition(c Command) *Error {
	if d.stamp.IfMatch == nil && !d.stamp.IfMatchAny {
		return nil
	}
	kind, id := subject(c)
	if id == "" {
		return &Error{Kind: PreconditionFailed, Field: "If-Match", Detail: "there is nothing yet that could match"}
	}
	revision, ok := d.revision(kind, id)
	if !ok || d.stamp.IfMatchAny || slices.Contains(d.stamp.IfMatch, revision) {
		return nil
	}
	return &Error{
		Kind: PreconditionFailed, Field: "If-Match",
		Detail: fmt.Sprintf("%s %s has changed since: it is at revision %d", nounOf[kind], quoted(id), revision),
	}
}

// subject is the object that c changes; none for a command that changes no object that is there.
func subject(c Command) (Kind, ID) {
	switch c := c.(type) {
	case PatchPrinter:
		return KindPrinter, c.ID
	case PatchFilament:
		return KindFilament, c.ID
	case PatchJob:
		return KindJob, c.ID
	case SetJobStatus:
		return KindJob, c.ID
	case Delete:
		return c.Kind, c.ID
	}
	return "", ""
}

func (d *decision) revision(kind Kind, id ID) (revision uint64, ok bool) {
	switch kind {
	case KindPrinter:
		if p := d.Printer(id); p != nil {
			return p.Revision, true
		}
	case KindFilament:
		if f := d.Filament(id); f != nil {
			return f.Revision, true
		}
	default:
		if j := d.Job(id); j != nil {
			return j.Revision, true
		}
	}
	return 0, false
}
