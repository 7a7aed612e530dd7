package farm_test

import (
	"errors"
	"strings"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// workshop has a printer p (revision 1), a spool f (2, then 5 and 7) and the jobs a (4) and b (6).
func workshop(t *testing.T) *farmtest.Farm {
	f := farmtest.New()
	for _, c := range []farm.Command{
		farm.CreatePrinter{Text: farm.Text{ID: "p"}, Company: "Prusa", Model: "MK4"},
		farm.CreateFilament{Text: farm.Text{ID: "f"}, Type: "PLA", Color: "red", Total: 100 * farm.Gram},
		farm.PatchPrinter{Patch: farm.Patch{ID: "p"}},
		farm.CreateJob{Text: farm.Text{ID: "a"}, PrinterID: "p", FilamentID: "f", Filepath: "x", Weight: farm.Gram},
		farm.CreateJob{Text: farm.Text{ID: "b"}, PrinterID: "p", FilamentID: "f", Filepath: "x", Weight: farm.Gram},
	} {
		if _, err := f.Do(c, farm.Stamp{At: farmtest.Start}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestAChangeIsMadeOnlyToTheRevisionThatItsCallerSaw(t *testing.T) {
	name := "new"
	patch := func(id farm.ID) farm.Patch { return farm.Patch{ID: id, Name: &name} }
	for _, c := range []struct {
		what    string
		command farm.Command
		at      uint64
	}{
		{"a patch of a printer", farm.PatchPrinter{Patch: patch("p")}, 3},
		{"a patch of a spool", farm.PatchFilament{Patch: patch("f")}, 7},
		{"a patch of a job", farm.PatchJob{Patch: patch("a")}, 4},
		{"a job's status", farm.SetJobStatus{ID: "a", Status: farm.Canceled}, 4},
		{"a deletion that would be a conflict", farm.Delete{Kind: farm.KindJob, ID: "b"}, 6},
	} {
		f := workshop(t)
		for _, wrong := range [][]uint64{{}, {c.at - 1}, {c.at + 1, c.at + 2}, {0}} {
			_, err := f.Do(c.command, farm.Stamp{At: farmtest.Start, IfMatch: wrong})
			var refusal *farm.Error
			if !errors.As(err, &refusal) || refusal.Kind != farm.PreconditionFailed {
				t.Errorf("%s at revision %d, for %v: %v", c.what, c.at, wrong, err)
			}
		}
		_, unconditional := workshop(t).Do(c.command, farm.Stamp{At: farmtest.Start})
		for _, right := range []farm.Stamp{{IfMatch: []uint64{1, c.at}}, {IfMatchAny: true}, {IfMatchAny: true, IfMatch: []uint64{99}}} {
			right.At = farmtest.Start
			_, err := workshop(t).Do(c.command, right)
			if (err == nil) != (unconditional == nil) || err != nil && err.Error() != unconditional.Error() {
				t.Errorf("%s at revision %d, for %+v: %v, and without a condition %v", c.what, c.at, right, err, unconditional)
			}
		}
	}
}

func TestAConditionOnWhatIsNotThere(t *testing.T) {
	for _, stamp := range []farm.Stamp{{IfMatch: []uint64{1}}, {IfMatchAny: true}} {
		f := workshop(t)
		var refusal *farm.Error
		_, err := f.Do(farm.SetJobStatus{ID: "z", Status: farm.Running}, stamp)
		if !errors.As(err, &refusal) || refusal.Kind != farm.NotFound {
			t.Errorf("a change: %v", err)
		}
		_, err = f.Do(farm.CreatePrinter{Text: farm.Text{ID: "q"}, Company: "c", Model: "m"}, stamp)
		if !errors.As(err, &refusal) || refusal.Kind != farm.PreconditionFailed {
			t.Errorf("a creation: %v", err)
		}
	}
}

func TestAnAnswerIsKeptOnlyUnderAKeyAndInItsForm(t *testing.T) {
	f := farmtest.New()
	right := farm.RecordAnswer{Answer: farm.Answer{Status: 201, Header: map[string]string{"Location": "/x"}, Body: []byte("{}")}}
	if changes, err := f.Do(right, farm.Stamp{Key: "k"}); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
	for what, c := range map[string]struct {
		command farm.Command
		key     string
	}{
		"no key":       {right, ""},
		"a failure":    {farm.RecordAnswer{Answer: farm.Answer{Status: 503}}, "k"},
		"no status":    {farm.RecordAnswer{}, "k"},
		"a long body":  {farm.RecordAnswer{Answer: farm.Answer{Status: 200, Body: make([]byte, farm.MaxAnswerBytes+1)}}, "k"},
		"no UTF-8":     {farm.RecordAnswer{Answer: farm.Answer{Status: 200, Header: map[string]string{"A": "\xff"}}}, "k"},
		"long headers": {farm.RecordAnswer{Answer: farm.Answer{Status: 200, Header: map[string]string{"A": string(make([]byte, farm.MaxAnswerBytes))}}}, "k"},
	} {
		_, err := f.Do(c.command, farm.Stamp{Key: c.key})
		var refusal *farm.Error
		if !errors.As(err, &refusal) || refusal.Kind != farm.Malformed {
			t.Errorf("%s: %v", what, err)
		}
	}
	for key, want := range map[string]bool{
		"": false, "k": true, "0f8fad5b-d9cb-469f-a165-70867728950e": true, "a key, in words": true, "ü": false, "a\n": false,
		string(make([]byte, 3)): false, strings.Repeat("x", farm.MaxKeyLength): true,
		strings.Repeat("x", farm.MaxKeyLength+1): false,
	} {
		if farm.ValidKey(key) != want {
			t.Errorf("%q: %v", key, !want)
		}
	}
}

func TestAKeyIsRefusedForOneCharacterWhereverItStands(t *testing.T) {
	for b := range 256 {
		for at := range 17 { // eight are looked at at once
			key := []byte("abcdefgh ~!@#$%^&")
			key[at] = byte(b)
			if got, want := farm.ValidKey(string(key)), b >= ' ' && b <= '~'; got != want {
				t.Errorf("%q is valid: %v, want %v", key, got, want)
			}
		}
	}
}
