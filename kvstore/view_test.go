package kvstore

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"raft3d/farm"
)

// gallery has objects that differ in what queries ask for, and labels that look like fields.
func gallery(t testing.TB) *shop {
	s := newShop(t)
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p1", Labels: map[string]string{"bay": "7"}}, Company: "Prusa", Model: "MK4"})
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p2", Labels: map[string]string{"company": "Prusa", "model": "MK4"}}, Company: "Bambu", Model: "X1"})
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p3", Notes: `"company":"Prusa"`}, Company: "Prusa \"Research\"", Model: "MK4"})
	s.must(farm.CreateFilament{Text: farm.Text{ID: "f1"}, Type: "PLA", Color: "grün", Total: 1000 * farm.Gram})
	s.must(farm.CreateFilament{Text: farm.Text{ID: "f2"}, Type: "PLA-CF", Color: "red", Total: 1000 * farm.Gram})
	for i, pair := range []struct{ p, f farm.ID }{{"p1", "f1"}, {"p2", "f1"}, {"p1", "f2"}, {"p3", "f2"}} {
		s.must(farm.CreateJob{
			Text:      farm.Text{ID: farm.ID(fmt.Sprint("j", i+1)), Labels: map[string]string{"printer_id": "p1", "status": "Running"}},
			PrinterID: pair.p, FilamentID: pair.f, Filepath: "a", Weight: farm.Gram,
		})
	}
	s.must(to("j1", farm.Running))
	s.must(to("j2", farm.Canceled))
	return s
}

func TestListsShowWhatIsAskedForInOrderOfCreation(t *testing.T) {
	s := gallery(t)
	printers, filaments, jobs := farm.KindPrinter, farm.KindFilament, farm.KindJob
	for _, c := range []struct {
		query farm.Query
		want  []farm.ID
	}{
		{farm.Query{Kind: printers}, []farm.ID{"p1", "p2", "p3"}},
		{farm.Query{Kind: printers, Company: "Prusa"}, []farm.ID{"p1"}},
		{farm.Query{Kind: printers, Company: `Prusa "Research"`}, []farm.ID{"p3"}},
		{farm.Query{Kind: printers, Model: "MK4"}, []farm.ID{"p1", "p3"}},
		{farm.Query{Kind: printers, Model: "MK4", Company: "Bambu"}, nil},
		{farm.Query{Kind: printers, Labels: []farm.Label{{Key: "bay", Value: "7"}}}, []farm.ID{"p1"}},
		{farm.Query{Kind: printers, Labels: []farm.Label{{Key: "company", Value: "Prusa"}}}, []farm.ID{"p2"}},
		{farm.Query{Kind: printers, Labels: []farm.Label{{Key: "company", Value: "Prusa"}, {Key: "bay", Value: "7"}}}, nil},
		{farm.Query{Kind: printers, Type: "PLA"}, []farm.ID{"p1", "p2", "p3"}}, // not a printer's field
		{farm.Query{Kind: filaments, Type: "PLA"}, []farm.ID{"f1"}},
		{farm.Query{Kind: filaments, Color: "grün"}, []farm.ID{"f1"}},
		{farm.Query{Kind: jobs}, []farm.ID{"j1", "j2", "j3", "j4"}},
		{farm.Query{Kind: jobs, PrinterID: "p1"}, []farm.ID{"j1", "j3"}},
		{farm.Query{Kind: jobs, FilamentID: "f1"}, []farm.ID{"j1", "j2"}},
		{farm.Query{Kind: jobs, Status: []farm.JobStatus{farm.Running}}, []farm.ID{"j1"}},
		{farm.Query{Kind: jobs, Status: []farm.JobStatus{farm.Queued, farm.Canceled}}, []farm.ID{"j2", "j3", "j4"}},
		{farm.Query{Kind: jobs, Status: []farm.JobStatus{farm.Queued}, PrinterID: "p1", FilamentID: "f2"}, []farm.ID{"j3"}},
	} {
		var got []farm.ID
		for _, object := range s.list(c.query) {
			decoded, err := decodeObject(c.query.Kind, []byte(object))
			if err != nil {
				t.Fatal(err)
			}
			switch o := decoded.(type) {
			case *farm.Printer:
				got = append(got, o.ID)
			case *farm.Filament:
				got = append(got, o.ID)
			case *farm.Job:
				got = append(got, o.ID)
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.query, got, c.want)
		}
		if n := seen(s, func(v farm.View) (int, error) { return v.Count(c.query) }); n != len(c.want) {
			t.Errorf("%+v: counted %d, want %d", c.query, n, len(c.want))
		}
	}
}

// matchesDecoded is what filter must say, the slow way.
func matchesDecoded(t failer, q farm.Query, raw []byte) bool {
	object, err := decodeObject(q.Kind, raw)
	if err != nil {
		t.Fatal(err)
	}
	is := func(asked, found string) bool { return asked == "" || asked == found }
	switch o := object.(type) {
	case *farm.Printer:
		return is(q.Company, o.Company) && is(q.Model, o.Model) && hasLabels(o, q.Labels)
	case *farm.Filament:
		return is(q.Type, o.Type) && is(q.Color, o.Color) && hasLabels(o, q.Labels)
	case *farm.Job:
		return is(string(q.PrinterID), string(o.PrinterID)) && is(string(q.FilamentID), string(o.FilamentID)) && hasLabels(o, q.Labels) &&
			(len(q.Status) == 0 || slices.Contains(q.Status, o.Status))
	}
	return false
}

func TestNoTextLooksLikeAField(t *testing.T) {
	nasty := rapid.OneOf(
		rapid.SampledFrom([]string{
			"Prusa", `Prusa"`, `"Prusa`, `\`, `\"`, `Prusa\`, `},"company":"Prusa"`, `"company":"Prusa"`, `company":"Prusa`, `x"},"model":"MK4`,
			`},"printer_id":"p1"`, `"status":"Done"`, `,"labels":{"k":"v"}`, "MK4", `{}`, `"`, `","`, `:`,
		}),
		rapid.StringOfN(rapid.SampledFrom([]rune(`a"\:,{}ü`+"\n\u2028")), 0, 8, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		text := func() string { return nasty.Draw(t, "text") }
		common := farm.Common{ID: "x", Name: text(), Notes: text(), Labels: map[string]string{
			"company": text(), "model": text(), "printer_id": text(), "type": text(), "status": "Done", "k": text(),
		}}
		p := farm.Printer{Common: common, Company: text(), Model: text()}
		f := farm.Filament{Common: common, Type: text(), Color: text()}
		j := farm.Job{Common: common, PrinterID: farm.ID(text()), FilamentID: farm.ID(text()), Filepath: text(), Status: rapid.SampledFrom(farm.Statuses).Draw(t, "status")}
		var labels []farm.Label
		if rapid.Bool().Draw(t, "labelled") {
			labels = []farm.Label{{Key: rapid.SampledFrom([]string{"k", "company", "none", `"`, ":"}).Draw(t, "key"), Value: text()}}
		}
		pick := func(found string) string { return rapid.SampledFrom([]string{"", found, text()}).Draw(t, "asked") }
		for _, c := range []struct {
			query farm.Query
			raw   []byte
		}{
			{farm.Query{Kind: farm.KindPrinter, Company: pick(p.Company), Model: pick(p.Model), Labels: labels}, appendPrinter(nil, &p)},
			{farm.Query{Kind: farm.KindFilament, Type: pick(f.Type), Color: pick(f.Color), Labels: labels}, appendFilament(nil, &f)},
			{farm.Query{
				Kind: farm.KindJob, PrinterID: farm.ID(pick(string(j.PrinterID))), FilamentID: farm.ID(pick(string(j.FilamentID))),
				Status: rapid.SliceOfN(rapid.SampledFrom(farm.Statuses), 0, 2).Draw(t, "states"), Labels: labels,
			}, appendJob(nil, &j)},
		} {
			filter := newFilter(c.query)
			if got, err := filter.matches(c.raw); err != nil || got != matchesDecoded(t, c.query, c.raw) {
				t.Fatalf("%+v on %s: %v, %v", c.query, c.raw, got, err)
			}
		}
	})
}

func TestACountIsOfTheWholeListWhateverThePage(t *testing.T) {
	s := gallery(t)
	for _, q := range []farm.Query{
		{Kind: farm.KindJob}, {Kind: farm.KindJob, FilamentID: "f1"}, {Kind: farm.KindPrinter, Model: "MK4"},
		{Kind: farm.KindJob, Labels: []farm.Label{{Key: "status", Value: "Running"}}}, {Kind: farm.KindJob, PrinterID: "p1", FilamentID: "f2"},
	} {
		q.Limit = 1
		first := seen(s, func(v farm.View) (n int, err error) {
			err = v.List(q, func(position uint64, _ []byte) error { q.After = position; return nil })
			if err != nil {
				return 0, err
			}
			return v.Count(q)
		})
		q.After, q.Limit = 0, 0
		if all := len(s.list(q)); all != first {
			t.Errorf("%+v: %d on the way, %d in all", q, first, all)
		}
	}
}

func TestAListEndsWhereItsReaderSays(t *testing.T) {
	s := gallery(t)
	enough := errors.New("enough")
	n := 0
	err := s.View(t.Context(), farm.ReadOptions{}, func(v farm.View) error {
		return v.List(farm.Query{Kind: farm.KindJob}, func(uint64, []byte) error {
			if n++; n == 2 {
				return enough
			}
			return nil
		})
	})
	if err != enough || n != 2 {
		t.Fatalf("%v after %d", err, n)
	}
}

func TestGetFindsObjectsByKindAndID(t *testing.T) {
	s := gallery(t)
	for _, c := range []struct {
		kind farm.Kind
		id   farm.ID
		want bool
	}{
		{farm.KindPrinter, "p1", true}, {farm.KindJob, "j4", true}, {farm.KindJob, "p1", false}, {farm.KindFilament, "f9", false},
		{farm.KindPrinter, "", false}, {"meta", "head", false}, {farm.KindPrinter, farm.ID(make([]byte, 100_000)), false},
	} {
		if _, got := s.find(c.kind, c.id); got != c.want {
			t.Errorf("%s %.20q: %v", c.kind, c.id, got)
		}
	}
	err := s.View(t.Context(), farm.ReadOptions{}, func(v farm.View) error { return v.List(farm.Query{Kind: "meta"}, nil) })
	if err == nil {
		t.Error("a kind that is none was listed")
	}
}
