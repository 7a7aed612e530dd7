package kvstore

import (
	"bytes"
	"fmt"
	"slices"

	"raft3d/farm"
)

// filter is a Query made ready for many objects. Objects are stored in one spelling only (object.go), so nearly all
// can be told from their bytes: an object has a field with a value where, behind its labels, it has that field's
// bytes. A quote inside a text is escaped, so no text can look like a field. Labels can, which is why a match of
// labels is decoded to make sure.
type filter struct {
	query  farm.Query
	begin  []byte   // of the kind's own fields, with the end of the labels
	fields [][]byte // each must be among them
	states [][]byte // where there are some: one of them must be
	labels [][]byte // each must be before them
}

func newFilter(q farm.Query) filter {
	f := filter{query: q}
	field := func(name, value string) {
		if value != "" {
			f.fields = append(f.fields, member(name, value))
		}
	}
	switch q.Kind {
	case farm.KindPrinter:
		f.begin = []byte(`},"company":"`)
		field("company", q.Company)
		field("model", q.Model)
	case farm.KindFilament:
		f.begin = []byte(`},"type":"`)
		field("type", q.Type)
		field("color", q.Color)
	case farm.KindJob:
		f.begin = []byte(`},"printer_id":"`)
		field("printer_id", string(q.PrinterID))
		field("filament_id", string(q.FilamentID))
		for _, s := range q.Status {
			f.states = append(f.states, member("status", string(s)))
		}
	}
	for _, l := range q.Labels {
		f.labels = append(f.labels, member(l.Key, l.Value))
	}
	return f
}

// member is how an object spells one member with a text.
func member(name, value string) []byte {
	return appendText(append(appendText(nil, name), ':'), value)
}

// all reports whether every object matches.
func (f *filter) all() bool { return len(f.fields) == 0 && len(f.labels) == 0 && len(f.states) == 0 }

func (f *filter) matches(raw []byte) (bool, error) {
	if f.all() {
		return true, nil
	}
	at := bytes.Index(raw, f.begin)
	if at < 0 {
		return false, fmt.Errorf("stored %s is damaged: %.100q", f.query.Kind, raw)
	}
	common, own := raw[:at], raw[at:]
	if !containsAll(common, f.labels) || !containsAll(own, f.fields) {
		return false, nil
	}
	if len(f.states) > 0 && !slices.ContainsFunc(f.states, func(s []byte) bool { return bytes.Contains(own, s) }) {
		return false, nil
	}
	if len(f.labels) == 0 {
		return true, nil
	}
	object, err := decodeObject(f.query.Kind, raw)
	return err == nil && hasLabels(object, f.query.Labels), err
}

func containsAll(b []byte, parts [][]byte) bool {
	for _, part := range parts {
		if !bytes.Contains(b, part) {
			return false
		}
	}
	return true
}

func hasLabels(object any, asked []farm.Label) bool {
	var labels map[string]string
	switch o := object.(type) {
	case *farm.Printer:
		labels = o.Labels
	case *farm.Filament:
		labels = o.Labels
	case *farm.Job:
		labels = o.Labels
	}
	for _, l := range asked {
		if value, ok := labels[l.Key]; !ok || value != l.Value {
			return false
		}
	}
	return true
}
