package kvstore

import (
	"bytes"
	"slices"

	"raft3d/farm"
)

// filter is a Query made ready for many objects. Objects are stored in one spelling only, so what cannot match lacks
// some run of bytes that what matches has; only those that have them all are decoded and looked at for true.
type filter struct {
	query farm.Query
	needs [][]byte // each is in every object that matches
	any   [][]byte // where there are some: at least one is
}

func newFilter(q farm.Query) filter {
	f := filter{query: q}
	need := func(name, value string) {
		if value != "" {
			f.needs = append(f.needs, member(name, value))
		}
	}
	switch q.Kind {
	case farm.KindPrinter:
		need("company", q.Company)
		need("model", q.Model)
	case farm.KindFilament:
		need("type", q.Type)
		need("color", q.Color)
	case farm.KindJob:
		need("printer_id", string(q.PrinterID))
		need("filament_id", string(q.FilamentID))
		for _, s := range q.Status {
			f.any = append(f.any, member("status", string(s)))
		}
	}
	for _, l := range q.Labels {
		f.needs = append(f.needs, member(l.Key, l.Value))
	}
	return f
}

// member is how an object spells one member with a text.
func member(name, value string) []byte {
	return appendText(append(appendText(nil, name), ':'), value)
}

// all reports whether nothing but the state of jobs is asked for.
func (f *filter) all() bool { return len(f.needs) == 0 }

func (f *filter) matches(raw []byte) (bool, error) {
	if len(f.needs) == 0 && len(f.any) == 0 {
		return true, nil
	}
	for _, need := range f.needs {
		if !bytes.Contains(raw, need) {
			return false, nil
		}
	}
	has := func(run []byte) bool { return bytes.Contains(raw, run) }
	if len(f.any) > 0 && !slices.ContainsFunc(f.any, has) {
		return false, nil
	}
	object, err := decodeObject(f.query.Kind, raw)
	if err != nil {
		return false, err
	}
	q := &f.query
	switch o := object.(type) {
	case *farm.Printer:
		return is(q.Company, o.Company) && is(q.Model, o.Model) && hasLabels(o.Labels, q.Labels), nil
	case *farm.Filament:
		return is(q.Type, o.Type) && is(q.Color, o.Color) && hasLabels(o.Labels, q.Labels), nil
	case *farm.Job:
		return is(q.PrinterID, o.PrinterID) && is(q.FilamentID, o.FilamentID) &&
			(len(q.Status) == 0 || slices.Contains(q.Status, o.Status)) && hasLabels(o.Labels, q.Labels), nil
	}
	return false, nil
}

func is[T ~string](asked, found T) bool { return asked == "" || asked == found }

func hasLabels(labels map[string]string, asked []farm.Label) bool {
	for _, l := range asked {
		if value, ok := labels[l.Key]; !ok || value != l.Value {
			return false
		}
	}
	return true
}
