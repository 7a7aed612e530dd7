package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestATableOfAnyLengthIsPrintedAsItComesAndStaysAligned(t *testing.T) {
	var out strings.Builder
	table := newTable(&out, []column{{title: "ID"}, {title: "N", right: true}, {title: "FILE"}}, false)
	for n := range 3 * sampleRows {
		if n == 2*sampleRows && out.Len() == 0 {
			t.Error("nothing was printed yet")
		}
		file := "a.gcode"
		if n > 2*sampleRows {
			file = strings.Repeat("long/", 30) + "b.gcode" // wider than what the widths were settled by
		}
		if err := table.add(fmt.Sprintf("job%04d", n), fmt.Sprint(n), file); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3*sampleRows+1 {
		t.Errorf("%d lines", len(lines))
	}
	for at, want := range map[int]string{0: "ID         N  FILE", 1: "job0000    0  a.gcode", 1000: "job0999  999  a.gcode", 1500: "job1499  1499  lon…ode"} {
		if lines[at] != want {
			t.Errorf("line %d: want %q, got %q", at, want, lines[at])
		}
	}
}

func TestATableIsNoWiderThanATerminalWhateverIsInIt(t *testing.T) {
	long := strings.Repeat("x", 100)
	var out strings.Builder
	table := newTable(&out, []column{{title: "ID"}, {title: "A"}, {title: "A LONG TITLE"}, {title: "C"}}, false)
	if err := table.add("0198a2b4-7c1e-7d00-8a52-3f1f0c9b6a10", long, "short", long); err != nil {
		t.Fatal(err)
	}
	if err := table.end(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tableWidth {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	if !strings.Contains(out.String(), "A LONG TITLE") || !strings.Contains(out.String(), "0198a2b4-7c1e-7d00-8a52-3f1f0c9b6a10") {
		t.Errorf("cut what need not be:\n%s", out.String())
	}
}
