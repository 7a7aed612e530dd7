package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tableWidth = 80   // columns of text
	leastWidth = 6    // of a column that had to give way
	gap        = "  " // between columns
	sampleRows = 500  // after which the widths are settled
)

// column is one column of a table.
type column struct {
	title string
	right bool // it has figures, which stand below each other
}

// table aligns rows for people. The widths come from the first rows, so that a list of any length can be printed as it
// comes. One that would be wider than tableWidth has its widest columns cut in the middle, where ids and paths differ
// least; but never the first, which people copy, and never figures.
type table struct {
	w       io.Writer
	columns []column
	wide    bool
	rows    [][]string // not yet printed
	widths  []int      // nil: not yet settled
}

func newTable(w io.Writer, columns []column, wide bool) *table {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	return &table{w: w, columns: columns, wide: wide, rows: [][]string{titles}}
}

// add prints a row, or keeps it until the widths are settled.
func (t *table) add(cells ...string) error {
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	t.rows = append(t.rows, cells)
	if t.widths == nil && len(t.rows) <= sampleRows {
		return nil
	}
	return t.end()
}

// end prints what is left.
func (t *table) end() error {
	if t.widths == nil {
		t.settle()
	}
	var out bytes.Buffer
	for _, cells := range t.rows {
		var line strings.Builder
		for i, cell := range cells {
			if i > 0 {
				line.WriteString(gap)
			}
			if i > 0 && !t.wide && !t.columns[i].right {
				cell = shorten(cell, t.widths[i])
			}
			padding := strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(cell)))
			if t.columns[i].right {
				line.WriteString(padding + cell)
			} else {
				line.WriteString(cell + padding)
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	t.rows = t.rows[:0]
	_, err := out.WriteTo(t.w)
	return err
}

func (t *table) settle() {
	t.widths = make([]int, len(t.columns))
	total := len(gap) * (len(t.columns) - 1)
	for i := range t.columns {
		for _, cells := range t.rows {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cells[i]))
		}
		total += t.widths[i]
	}
	if t.wide {
		return
	}
	for _, titles := range []bool{true, false} { // a title is cut only where nothing else is left
		for ; total > tableWidth; total-- {
			widest := 0
			for i, width := range t.widths[1:] {
				least := leastWidth
				if titles {
					least = max(least, len(t.columns[i+1].title))
				}
				if !t.columns[i+1].right && width > least && (widest == 0 || width > t.widths[widest]) {
					widest = i + 1
				}
			}
			if widest == 0 {
				break
			}
			t.widths[widest]--
		}
	}
}

// shorten cuts text to width characters, in its middle.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	head := (width - 1) / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-1-head):])
}

// clean makes text safe to show on a terminal: one line, and nothing that moves the cursor.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// writeDetails prints a JSON object, a member a line, in its order and by the names that it has there.
func writeDetails(w io.Writer, object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("read an object: %w", err)
	}
	var out bytes.Buffer
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		out.WriteString(strings.TrimRight(fmt.Sprintf("%-26s%s", clean(fmt.Sprint(name)), detail(value)), " ") + "\n")
	}
	_, err := out.WriteTo(w)
	return err
}

// detail is a JSON value as people read it.
func detail(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil && value[0] == '"' {
		lines := strings.Split(s, "\n")
		for i := range lines {
			lines[i] = clean(lines[i])
		}
		return strings.Join(lines, "\n"+strings.Repeat(" ", 26))
	}
	switch string(value) {
	case "null", "{}", "[]":
		return "-"
	}
	var labels map[string]string
	if json.Unmarshal(value, &labels) == nil {
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			pairs = append(pairs, clean(key)+":"+clean(labels[key]))
		}
		return strings.Join(pairs, ", ")
	}
	return clean(string(value))
}
