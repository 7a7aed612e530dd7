package main

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// benchReport is what -o json prints.
type benchReport struct {
	Version   string           `json:"version"`
	Nodes     []string         `json:"nodes"`
	Size      int              `json:"record_bytes"`
	Workloads []workloadReport `json:"workloads"`
}

// workloadReport is what one workload has shown. Latencies are in milliseconds, of successful calls.
type workloadReport struct {
	Workload string           `json:"workload"`
	Clients  int              `json:"clients"`
	Rate     float64          `json:"rate,omitempty"`
	Duration float64          `json:"duration_seconds"`
	Calls    int64            `json:"calls"`
	PerSec   float64          `json:"calls_per_second"`
	Mean     float64          `json:"mean_ms"`
	P50      float64          `json:"p50_ms"`
	P90      float64          `json:"p90_ms"`
	P99      float64          `json:"p99_ms"`
	P999     float64          `json:"p99_9_ms"`
	Max      float64          `json:"max_ms"`
	Errors   map[string]int64 `json:"errors"`
	Seconds  []second         `json:"seconds"`
}

// second is what happened in one of them.
type second struct {
	At     float64 `json:"at"` // its end, in seconds from the beginning
	Calls  float64 `json:"calls"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Errors int64   `json:"errors"`
}

func (s second) line(what string, of time.Duration) string {
	return fmt.Sprintf("%s  %.0f of %.0f s  %.0f calls/s  p50 %.2f ms  p99 %.2f ms  %d errors", what, s.At, of.Seconds(), s.Calls, s.P50, s.P99, s.Errors)
}

func (r *workloadReport) finish(took time.Duration, h *hdrhistogram.Histogram) {
	r.Duration, r.Calls = took.Seconds(), h.TotalCount()
	r.PerSec = float64(r.Calls) / r.Duration
	r.Mean = h.Mean() / 1000
	for quantile, to := range map[float64]*float64{50: &r.P50, 90: &r.P90, 99: &r.P99, 99.9: &r.P999, 100: &r.Max} {
		*to = float64(h.ValueAtQuantile(quantile)) / 1000
	}
}

func (r benchReport) table(w io.Writer, wide bool) error {
	columns := []column{{title: "WORKLOAD"}}
	for _, title := range []string{"CLIENTS", "CALLS/S", "P50", "P90", "P99", "P99.9", "MAX ms", "ERRORS"} {
		columns = append(columns, column{title: title, right: true})
	}
	t := newTable(w, columns, wide)
	var faults []string
	for _, l := range r.Workloads {
		failed := int64(0)
		for _, what := range slices.Sorted(maps.Keys(l.Errors)) {
			failed += l.Errors[what]
			faults = append(faults, fmt.Sprintf("%s: %d times %s", l.Workload, l.Errors[what], what))
		}
		cells := []string{l.Workload, fmt.Sprint(l.Clients), fmt.Sprintf("%.0f", l.PerSec)}
		for _, ms := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
			cells = append(cells, fmt.Sprintf("%.2f", ms))
		}
		if err := t.add(append(cells, fmt.Sprint(failed))...); err != nil {
			return err
		}
	}
	if err := t.end(); err != nil || len(faults) == 0 {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+strings.Join(faults, "\n"))
	return err
}

// plot draws each workload's seconds: calls above, latencies below.
func (r benchReport) plot() []byte {
	const width, height, left, panel = 640, 130, 110, 180
	type line struct{ Points, Color, Name string }
	type chart struct {
		Title, Most, End string
		Y                int
		Lines            []line
	}
	draw := func(title, scale string, y int, all []second, values map[string]func(second) float64) chart {
		most, end := 0.0, 0.0
		for _, s := range all {
			end = s.At
			for _, value := range values {
				most = max(most, value(s))
			}
		}
		c := chart{Title: title, Y: y, Most: fmt.Sprintf(scale, most), End: fmt.Sprintf("%.0f s", end)}
		colors := map[string]string{"calls": "#2563eb", "p50": "#16a34a", "p99": "#dc2626"}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			var points strings.Builder
			from := 0.0
			for _, s := range all {
				y := height * (1 - values[name](s)/max(most, 1e-9))
				fmt.Fprintf(&points, "%.1f,%.1f %.1f,%.1f ", left+from/end*width, y, left+s.At/end*width, y)
				from = s.At
			}
			c.Lines = append(c.Lines, line{points.String(), colors[name], name})
		}
		return c
	}
	var charts []chart
	for _, l := range r.Workloads {
		title := fmt.Sprintf("%s, %d clients: %.0f calls/s, p99 %.2f ms", l.Workload, l.Clients, l.PerSec, l.P99)
		y := 40 + len(charts)*panel
		charts = append(charts,
			draw(title, "%.0f calls/s", y, l.Seconds, map[string]func(second) float64{"calls": func(s second) float64 { return s.Calls }}),
			draw("latency", "%.2f ms", y+panel, l.Seconds, map[string]func(second) float64{
				"p50": func(s second) float64 { return s.P50 }, "p99": func(s second) float64 { return s.P99 },
			}))
	}
	var b bytes.Buffer
	// It can't fail: the template is ours, and so is what it is given.
	_ = plotTemplate.Execute(&b, map[string]any{
		"Width": left + width + 80, "Height": 40 + len(charts)*panel, "Left": left, "Right": left + width, "Bottom": height, "Charts": charts,
	})
	return b.Bytes()
}

var plotTemplate = template.Must(template.New("plot").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
{{range .Charts}}<g transform="translate(0,{{.Y}})">
<text x="{{$.Left}}" y="-8" font-weight="bold">{{.Title}}</text>
<text x="{{$.Left}}" dx="-6" y="10" text-anchor="end">{{.Most}}</text><text x="{{$.Left}}" dx="-6" y="{{$.Bottom}}" text-anchor="end">0</text>
<text x="{{$.Left}}" y="{{$.Bottom}}" dy="1.2em" text-anchor="middle">0</text><text x="{{$.Right}}" y="{{$.Bottom}}" dy="1.2em" text-anchor="middle">{{.End}}</text>
<path d="M{{$.Left}} 0V{{$.Bottom}}H{{$.Right}}" fill="none" stroke="#999"/>
{{range $i, $l := .Lines}}<polyline points="{{$l.Points}}" fill="none" stroke="{{$l.Color}}" stroke-width="1.5"/>
<text x="{{$.Right}}" dx="8" y="20" dy="{{$i}}em" fill="{{$l.Color}}">{{$l.Name}}</text>
{{end}}</g>
{{end}}</svg>
`))
