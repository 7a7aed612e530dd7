package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"raft3d/farm"
)

const benchPrinter = `{"id":%q,"company":"Prusa","model":"MK4S","name":"a printer","labels":{"room":"b12","row":"7"},"notes":"` +
	`cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm"}`

const benchJob = `{"id":%q,"printer_id":"p1","filament_id":"f1","filepath":"/models/bracket/left.gcode","print_weight_in_grams":97.4,` +
	`"name":"a bracket","labels":{"order":"4711","row":"7"},"notes":"two walls, 15 percent infill, brim of 5 mm"}`

// BenchmarkHandler is one call from its parsed request to its answer, over a farm that answers at once: what httpapi
// itself costs.
func BenchmarkHandler(b *testing.B) {
	printer, job := fmt.Sprintf(benchPrinter, "p1"), fmt.Sprintf(benchJob, "j1")
	for _, bench := range []struct{ name, method, target, body string }{
		{"create", "POST", "/api/v1/printers", printer},
		{"create-job", "POST", "/api/v1/print_jobs", job},
		{"create-keyed", "POST", "/api/v1/printers", printer},
		{"read", "GET", "/api/v1/printers/p1", ""},
		{"read-stale", "GET", "/api/v1/printers/p1?consistency=stale", ""},
		{"start", "POST", "/api/v1/print_jobs/j1/status?status=Running", ""},
		{"refuse", "POST", "/api/v1/printers", `{"company":"Prusa"} {}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			handler := newWorld(b, func(c *Config) {
				c.Farm = promptFarm{object: []byte(printer[:len(printer)-1] + `,"revision":1234567}`)}
			}).server.Handler()
			r := httptest.NewRequest(bench.method, bench.target, nil)
			r.Header = http.Header{"User-Agent": {"bench"}, "Accept-Encoding": {"gzip"}}
			if bench.body != "" {
				r.Header["Content-Type"] = []string{contentJSON}
				r.ContentLength = int64(len(bench.body))
			}
			if bench.name == "create-keyed" {
				r.Header[headerKey] = []string{"0198a5c2-7f1e-7c4e-9d1a-3f2b6c5d4e7f"}
			}
			sent := strings.NewReader(bench.body)
			r.Body = io.NopCloser(sent)
			b.ReportAllocs()
			for b.Loop() {
				sent.Reset(bench.body)
				w := &countingWriter{header: http.Header{}}
				if handler.ServeHTTP(w, r); w.sent == 0 || (w.header["Etag"] == nil) != (bench.name == "refuse") {
					b.Fatalf("%d bytes, %v", w.sent, w.header)
				}
			}
		})
	}
}

// countingWriter is a ResponseWriter that keeps nothing but the header.
type countingWriter struct {
	header http.Header
	sent   int // bytes
}

func (w *countingWriter) Header() http.Header         { return w.header }
func (w *countingWriter) WriteHeader(int)             {}
func (w *countingWriter) Write(p []byte) (int, error) { w.sent += len(p); return len(p), nil }

// promptFarm has one object, which is the answer to everything.
type promptFarm struct {
	Farm
	object []byte
}

func (f promptFarm) Do(context.Context, farm.Command, farm.Stamp) (farm.Result, error) {
	return farm.Result{Object: f.object, ID: "p1", Revision: 1234567}, nil
}

func (f promptFarm) Get(context.Context, farm.Kind, farm.ID, farm.ReadOptions) ([]byte, uint64, error) {
	return f.object, 1234567, nil
}

func (f promptFarm) View(context.Context, farm.ReadOptions, func(farm.View) error) error { return nil }

func BenchmarkDecode(b *testing.B) {
	body := fmt.Appendf(nil, benchPrinter, "p1")
	b.ReportAllocs()
	for b.Loop() {
		var id, company, model, name, notes string
		var all map[string]string
		if err := decode(body, fields{
			{"id", text(&id)}, {"company", text(&company)}, {"model", text(&model)}, {"name", text(&name)}, {"notes", text(&notes)}, {"labels", labels(&all)},
		}); err != nil {
			b.Fatal(err)
		}
	}
}
