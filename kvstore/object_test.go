package kvstore

import (
	"testing"
	"unicode/utf8"

	"raft3d/farm"
)

// FuzzObjects holds the encoder against encoding/json.
func FuzzObjects(f *testing.F) {
	for _, seed := range []string{"", "plain", `"\/`, "a\nb\rc\td\be\ff\x00g\x1fh\x7fi", "<b>&amp;", "größer 打印 \u2028\u2029 \U0001f5a8", "\u0085\ufffd"} {
		f.Add(seed, int64(12_500), uint64(7))
	}
	for _, special := range []string{"\x00", "\x1f", " ", `"`, `\`, "\x7f", "\u0080", "\u2028"} {
		for at := range 9 { // plain looks at eight
			f.Add("abcdefgh~!#[]^_`"[:at]+special+"xxxxxxxxxxxxxxxx", int64(1), uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, text string, number int64, revision uint64) {
		if !utf8.ValidString(text) {
			return
		}
		at := farm.Time(uint64(number) % uint64(farm.MaxTime))
		common := farm.Common{ID: farm.ID(text), Name: text, Notes: text, Labels: map[string]string{}}
		times := farm.Times{CreatedAt: at, UpdatedAt: at / 2, Revision: revision}
		g := farm.Grams(number)
		id := farm.ID(text)
		labelled := common
		labelled.Labels = map[string]string{"b": text, text: "", "a": "x"}
		for _, p := range []farm.Printer{{Common: common, Company: text, Model: "m", Times: times}, {Common: labelled, CurrentJobID: &id}} {
			same(t, appendPrinter(nil, &p), p)
		}
		for _, s := range []farm.Filament{{Common: common, Type: text, Color: text, Total: g, Remaining: -g, Reserved: 1, Available: g / 7, Times: times}} {
			same(t, appendFilament(nil, &s), s)
		}
		for _, j := range []farm.Job{
			{Common: common, PrinterID: id, FilamentID: id, Filepath: text, Weight: g, Status: farm.Queued, Times: times},
			{Common: labelled, Status: farm.Done, Used: &g, StartedAt: &at, FinishedAt: &at},
		} {
			same(t, appendJob(nil, &j), j)
		}
	})
}

func same(t *testing.T, got []byte, object any) {
	t.Helper()
	if want := spelled(object); string(got) != want {
		t.Fatalf("%s\nencoding/json has\n%s", got, want)
	}
}
