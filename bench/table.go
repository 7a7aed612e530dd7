package main

import (
	"fmt"
	"io"
	"slices"
)

// table is all that was measured.
type table struct{ cells []*cell }

type cell struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Values map[string][]float64 `json:"values"` // by system, in the order in which they came
}

func (t *table) add(name, system, unit string, value float64) {
	i := slices.IndexFunc(t.cells, func(c *cell) bool { return c.Name == name })
	if i < 0 {
		i = len(t.cells)
		t.cells = append(t.cells, &cell{name, unit, map[string][]float64{}})
	}
	t.cells[i].Values[system] = append(t.cells[i].Values[system], value)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// figure has four digits, or all of a large number.
func figure(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

// print writes the table as Markdown: medians, and the ratio of the two.
func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "| %s | raft3d | etcd 3.7.3 | raft3d : etcd |\n| --- | --: | --: | --: |\n", machine())
	for _, c := range t.cells {
		ours, theirs := c.Values["raft3d"], c.Values["etcd"]
		text := []string{"", "", ""}
		if len(ours) > 0 {
			text[0] = figure(median(ours))
		}
		if len(theirs) > 0 {
			text[1] = figure(median(theirs))
		}
		if len(ours) > 0 && len(theirs) > 0 && median(theirs) > 0 {
			text[2] = fmt.Sprintf("%.2f", median(ours)/median(theirs))
		}
		fmt.Fprintf(w, "| %s (%s) | %s | %s | %s |\n", c.Name, c.Unit, text[0], text[1], text[2])
	}
}
