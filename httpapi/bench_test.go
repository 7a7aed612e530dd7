package httpapi

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

const benchPrinter = `{"id":%q,"company":"Prusa","model":"MK4S","name":"a printer","labels":{"room":"b12","row":"7"},"notes":"` +
	`cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm"}`

// BenchmarkHandler is one call from its parsed request to its answer, over a farm in memory.
func BenchmarkHandler(b *testing.B) {
	b.Run("create", func(b *testing.B) {
		w := newWorld(b)
		handler := w.server.Handler()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r := httptest.NewRequest("POST", "/api/v1/printers", strings.NewReader(fmt.Sprintf(benchPrinter, fmt.Sprint("p", i))))
			recorder := httptest.NewRecorder()
			if handler.ServeHTTP(recorder, r); recorder.Code != 201 {
				b.Fatal(recorder.Body)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		w := newWorld(b)
		handler := w.server.Handler()
		w.call("POST", "/api/v1/printers", fmt.Sprintf(benchPrinter, "p1"))
		b.ReportAllocs()
		for b.Loop() {
			recorder := httptest.NewRecorder()
			if handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/api/v1/printers/p1", nil)); recorder.Code != 200 {
				b.Fatal(recorder.Body)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := fmt.Appendf(nil, benchPrinter, "p1")
	b.ReportAllocs()
	for b.Loop() {
		var id, company, model, name, notes string
		var all map[string]string
		if err := decode(body, fields{
			"id": text(&id), "company": text(&company), "model": text(&model), "name": text(&name), "notes": text(&notes), "labels": labels(&all),
		}); err != nil {
			b.Fatal(err)
		}
	}
}
