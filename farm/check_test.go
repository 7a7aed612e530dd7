package farm_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"raft3d/farm"
)

func text(n int) string { return strings.Repeat("ü", n) } // two bytes, one character each

func ptr[T any](v T) *T { return &v }

func manyLabels(n int) map[string]string {
	labels := map[string]string{}
	for i := range n {
		labels[fmt.Sprintf("key%d", i)] = "v"
	}
	return labels
}

func TestTheFormOfACommandIsHeldToItsLimits(t *testing.T) {
	printer := func(change func(*farm.CreatePrinter)) farm.Command {
		c := farm.CreatePrinter{Company: "Prusa", Model: "MK4"}
		change(&c)
		return c
	}
	filament := func(change func(*farm.CreateFilament)) farm.Command {
		c := farm.CreateFilament{Type: "PLA", Color: "red", Total: 1000 * farm.Gram}
		change(&c)
		return c
	}
	job := func(change func(*farm.CreateJob)) farm.Command {
		c := farm.CreateJob{PrinterID: "p", FilamentID: "f", Filepath: "a.gcode", Weight: farm.Gram}
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		command farm.Command
		field   string // empty: the form is right
	}{
		"name at its limit":          {printer(func(c *farm.CreatePrinter) { c.Name = text(120) }), ""},
		"name over its limit":        {printer(func(c *farm.CreatePrinter) { c.Name = text(121) }), "name"},
		"name trimmed to its limit":  {printer(func(c *farm.CreatePrinter) { c.Name = " \n" + text(120) + " " }), ""},
		"name with a line break":     {printer(func(c *farm.CreatePrinter) { c.Name = "a\nb" }), "name"},
		"name with a C1 control":     {printer(func(c *farm.CreatePrinter) { c.Name = "a\u0085b" }), "name"},
		"name not UTF-8":             {printer(func(c *farm.CreatePrinter) { c.Name = "a\xffb" }), "name"},
		"notes at their limit":       {printer(func(c *farm.CreatePrinter) { c.Notes = text(2000) }), ""},
		"notes over their limit":     {printer(func(c *farm.CreatePrinter) { c.Notes = text(2001) }), "notes"},
		"notes with line breaks":     {printer(func(c *farm.CreatePrinter) { c.Notes = "a\r\nb" }), ""},
		"notes with a bell":          {printer(func(c *farm.CreatePrinter) { c.Notes = "a\ab" }), "notes"},
		"company missing":            {printer(func(c *farm.CreatePrinter) { c.Company = " " }), "company"},
		"company over its limit":     {printer(func(c *farm.CreatePrinter) { c.Company = text(121) }), "company"},
		"model missing":              {printer(func(c *farm.CreatePrinter) { c.Model = "" }), "model"},
		"model with a tab":           {printer(func(c *farm.CreatePrinter) { c.Model = "a\tb" }), "model"},
		"id at its limit":            {printer(func(c *farm.CreatePrinter) { c.ID = farm.ID(strings.Repeat("a", 64)) }), ""},
		"id over its limit":          {printer(func(c *farm.CreatePrinter) { c.ID = farm.ID(strings.Repeat("a", 65)) }), "id"},
		"id with all its characters": {printer(func(c *farm.CreatePrinter) { c.ID = "aZ09._~-" }), ""},
		"id with a slash":            {printer(func(c *farm.CreatePrinter) { c.ID = "a/b" }), "id"},
		"id with a letter beyond A-Z": {
			printer(func(c *farm.CreatePrinter) { c.ID = "ä" }), "id",
		},
		"32 labels":              {printer(func(c *farm.CreatePrinter) { c.Labels = manyLabels(32) }), ""},
		"33 labels":              {printer(func(c *farm.CreatePrinter) { c.Labels = manyLabels(33) }), "labels"},
		"label key at its limit": {printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{strings.Repeat("k", 63): ""} }), ""},
		"label key too long":     {printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{strings.Repeat("k", 64): ""} }), "labels"},
		"label key empty":        {printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{"": "v"} }), "labels"},
		"label key with a slash": {printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{"a/b._-9": "v"} }), ""},
		"label key with a tilde": {printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{"a~b": "v"} }), "labels"},
		"label value at its limit": {
			printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{"k": text(256)} }), "",
		},
		"label value too long": {
			printer(func(c *farm.CreatePrinter) { c.Labels = map[string]string{"k": text(257)} }), "labels.k",
		},

		"type in lower case":       {filament(func(c *farm.CreateFilament) { c.Type = "pla-cf" }), ""},
		"type unknown":             {filament(func(c *farm.CreateFilament) { c.Type = "wood" }), "type"},
		"type missing":             {filament(func(c *farm.CreateFilament) { c.Type = "" }), "type"},
		"color missing":            {filament(func(c *farm.CreateFilament) { c.Color = "" }), "color"},
		"total of nothing":         {filament(func(c *farm.CreateFilament) { c.Total = 0 }), "total_weight_in_grams"},
		"total negative":           {filament(func(c *farm.CreateFilament) { c.Total = -1 }), "total_weight_in_grams"},
		"total of a milligram":     {filament(func(c *farm.CreateFilament) { c.Total = 1 }), ""},
		"total at its limit":       {filament(func(c *farm.CreateFilament) { c.Total = 100_000 * farm.Gram }), ""},
		"total over its limit":     {filament(func(c *farm.CreateFilament) { c.Total = 100_000*farm.Gram + 1 }), "total_weight_in_grams"},
		"remaining of nothing":     {filament(func(c *farm.CreateFilament) { c.Remaining = ptr(farm.Grams(0)) }), ""},
		"remaining all":            {filament(func(c *farm.CreateFilament) { c.Remaining = ptr(1000 * farm.Gram) }), ""},
		"remaining over the total": {filament(func(c *farm.CreateFilament) { c.Remaining = ptr(1000*farm.Gram + 1) }), "remaining_weight_in_grams"},
		"remaining negative":       {filament(func(c *farm.CreateFilament) { c.Remaining = ptr(farm.Grams(-1)) }), "remaining_weight_in_grams"},

		"a job":                    {job(func(c *farm.CreateJob) {}), ""},
		"no printer":               {job(func(c *farm.CreateJob) { c.PrinterID = "" }), "printer_id"},
		"a printer's id malformed": {job(func(c *farm.CreateJob) { c.PrinterID = "a b" }), "printer_id"},
		"no filament":              {job(func(c *farm.CreateJob) { c.FilamentID = "" }), "filament_id"},
		"no file":                  {job(func(c *farm.CreateJob) { c.Filepath = "" }), "filepath"},
		"a path at its limit":      {job(func(c *farm.CreateJob) { c.Filepath = text(1024) }), ""},
		"a path over its limit":    {job(func(c *farm.CreateJob) { c.Filepath = text(1025) }), "filepath"},
		"a path with a control":    {job(func(c *farm.CreateJob) { c.Filepath = "a\x00b" }), "filepath"},
		"a weight of nothing":      {job(func(c *farm.CreateJob) { c.Weight = 0 }), "print_weight_in_grams"},
		"a weight below nothing":   {job(func(c *farm.CreateJob) { c.Weight = -5 }), "print_weight_in_grams"},
		"a weight over the limit":  {job(func(c *farm.CreateJob) { c.Weight = 100_000*farm.Gram + 1 }), "print_weight_in_grams"},

		"patch with an empty company": {farm.PatchPrinter{Patch: farm.Patch{ID: "p"}, Company: ptr("")}, "company"},
		"patch with an empty name":    {farm.PatchPrinter{Patch: farm.Patch{ID: "p", Name: ptr("")}}, ""},
		"patch that removes a label":  {farm.PatchJob{Patch: farm.Patch{ID: "j", Labels: &farm.LabelPatch{Set: map[string]*string{"k": nil}}}}, ""},
		"patch with a bad label key":  {farm.PatchJob{Patch: farm.Patch{ID: "j", Labels: &farm.LabelPatch{Set: map[string]*string{"k k": nil}}}}, "labels"},
		"patch with a weight of 0":    {farm.PatchJob{Patch: farm.Patch{ID: "j"}, Weight: ptr(farm.Grams(0))}, "print_weight_in_grams"},
		"patch with an empty printer": {farm.PatchJob{Patch: farm.Patch{ID: "j"}, PrinterID: ptr(farm.ID(""))}, "printer_id"},
		"patch of a type":             {farm.PatchFilament{Patch: farm.Patch{ID: "f"}, Type: ptr("abs")}, ""},
		"patch of remaining below 0":  {farm.PatchFilament{Patch: farm.Patch{ID: "f"}, Remaining: ptr(farm.Grams(-1))}, "remaining_weight_in_grams"},

		"status unknown":         {farm.SetJobStatus{ID: "j", Status: "Paused"}, "status"},
		"status missing":         {farm.SetJobStatus{ID: "j"}, "status"},
		"status in lower case":   {farm.SetJobStatus{ID: "j", Status: "running"}, ""},
		"used with Running":      {farm.SetJobStatus{ID: "j", Status: farm.Running, Used: ptr(farm.Gram)}, "used_weight_in_grams"},
		"used below nothing":     {farm.SetJobStatus{ID: "j", Status: farm.Done, Used: ptr(farm.Grams(-1))}, "used_weight_in_grams"},
		"used nothing with Done": {farm.SetJobStatus{ID: "j", Status: farm.Done, Used: ptr(farm.Grams(0))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := farm.Check(c.command)
			switch {
			case c.field == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case c.field != "" && (err == nil || err.Kind != farm.Invalid || err.Field != c.field || err.Detail == ""):
				t.Fatalf("want Invalid at %s, got %+v", c.field, err)
			}
		})
	}
}

func TestEveryFaultOfAFormIsNamedAtOnce(t *testing.T) {
	err := farm.Check(farm.CreatePrinter{Text: farm.Text{Name: "a\tb"}, Company: "", Model: text(121)})
	want := []string{"name", "company", "model"}
	if err == nil {
		t.Fatal("taken")
	}
	got := []string{err.Field}
	for _, more := range err.More {
		got = append(got, more.Field)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("named %v, want %v", got, want)
	}
}

func TestTextsAreTrimmedAndWordsSpelledAsStored(t *testing.T) {
	labels := map[string]string{"k": " v "}
	got, err := farm.Normalize(farm.CreateFilament{
		Text: farm.Text{Name: " n ", Notes: "\na\nb\n", Labels: labels}, Type: " petg", Color: "\u00a0red ", Total: 5,
	})
	want := farm.CreateFilament{
		Text: farm.Text{Name: "n", Notes: "a\nb", Labels: map[string]string{"k": "v"}}, Type: "PETG", Color: "red", Total: 5, Remaining: ptr(farm.Grams(5)),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if labels["k"] != " v " {
		t.Fatal("the command's own labels were written to")
	}
}

func TestAnObjectThatCannotExistIsNotFound(t *testing.T) {
	for _, c := range []farm.Command{
		farm.PatchPrinter{Patch: farm.Patch{ID: "a b"}}, farm.PatchFilament{Patch: farm.Patch{ID: "\xff"}}, farm.PatchJob{},
		farm.SetJobStatus{ID: "/", Status: farm.Done}, farm.Delete{Kind: farm.KindJob, ID: farm.ID(strings.Repeat("x", 1000))},
	} {
		err := farm.Check(c)
		if err == nil || err.Kind != farm.NotFound || len(err.Detail) > 200 {
			t.Errorf("%+v: %+v", c, err)
		}
	}
}

func TestWhatIsNoCommandIsRefused(t *testing.T) {
	for _, c := range []farm.Command{nil, (*farm.Delete)(nil), &farm.CreateJob{}, farm.Delete{Kind: "spool", ID: "x"}} {
		if err := farm.Check(c); err == nil || err.Kind != farm.Malformed {
			t.Errorf("%T: %+v", c, err)
		}
	}
}
