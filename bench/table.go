package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
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

// print writes the table as Markdown: medians, and their ratios to etcd's. bare is there where it was measured.
func (t *table) print(w io.Writer) {
	heads, rule := []string{"raft3d", "etcd 3.7.3", "raft3d : etcd"}, strings.Repeat(" --: |", 3)
	bare := slices.ContainsFunc(t.cells, func(c *cell) bool { return len(c.Values["bare"]) > 0 })
	if bare {
		heads, rule = append(heads, "HTTP alone", "HTTP alone : etcd"), strings.Repeat(" --: |", 5)
	}
	fmt.Fprintf(w, "| %s | %s |\n| --- |%s\n", machine(), strings.Join(heads, " | "), rule)
	for _, c := range t.cells {
		texts := []string{c.figure("raft3d"), c.figure("etcd"), c.ratio("raft3d")}
		if bare {
			texts = append(texts, c.figure("bare"), c.ratio("bare"))
		}
		fmt.Fprintf(w, "| %s (%s) | %s |\n", c.Name, c.Unit, strings.Join(texts, " | "))
	}
}

func (c *cell) figure(system string) string {
	if len(c.Values[system]) == 0 {
		return ""
	}
	return figure(median(c.Values[system]))
}

// ratio is a system's median in etcd's.
func (c *cell) ratio(system string) string {
	if len(c.Values[system]) == 0 || len(c.Values["etcd"]) == 0 || median(c.Values["etcd"]) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", median(c.Values[system])/median(c.Values["etcd"]))
}
