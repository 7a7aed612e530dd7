package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"raft3d/farm"
)

// The seed's calls, typed as its users type them: curl -d, no header.
func TestTheSeedsCallsWorkAsPublished(t *testing.T) {
	w := newWorld(t)
	w.curl("POST", "/api/v1/printers", `{"company":"Creality","model":"Ender 3"}`).is(http.StatusCreated).has("Location", "/api/v1/printers/made-1")
	w.curl("POST", "/api/v1/filaments", `{"type":"PLA","color":"blue","total_weight_in_grams":1000}`).is(http.StatusCreated)
	w.curl("POST", "/api/v1/print_jobs", `{"printer_id":"made-1","filament_id":"made-2","filepath":"prints/a.gcode","print_weight_in_grams":97.5}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs/made-3/status?status=Running", "").is(http.StatusOK)
	w.call("POST", "/api/v1/print_jobs/made-3/status?status=Done", "").is(http.StatusOK)
	for _, list := range []string{"printers", "filaments", "print_jobs"} {
		if ids := w.call("GET", "/api/v1/"+list, "").ids(); strings.Count(ids, "made-") != 1 {
			t.Errorf("%s: want one object, got %s", list, ids)
		}
	}
	var f farm.Filament
	w.call("GET", "/api/v1/filaments/made-2", "").is(http.StatusOK).decode(&f)
	if f.Remaining != 902500 || f.Reserved != 0 || f.Available != 902500 {
		t.Errorf("after a print of 97.5 g, want 902.5 g left, got %+v", f)
	}
}

func TestAnObjectIsSentWholeWithItsVersion(t *testing.T) {
	w := newWorld(t)
	created := w.call("POST", "/api/v1/printers", `{"id":"p.1~x","company":" Prusa ","model":"MK4","name":"left","notes":"a\nb","labels":{"room":"1"}}`).
		is(http.StatusCreated).has("Location", "/api/v1/printers/p.1~x").has("ETag", `"1"`).has("Raft3D-Revision", "1").has("Content-Type", "application/json")
	want := `{"id":"p.1~x","name":"left","notes":"a\nb","labels":{"room":"1"},"company":"Prusa","model":"MK4","current_job_id":null,` +
		`"created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:05.678Z","revision":1}` + "\n"
	if created.body != want {
		t.Errorf("want %s\ngot  %s", want, created.body)
	}
	read := w.call("GET", "/api/v1/printers/p.1~x", "").is(http.StatusOK).has("ETag", `"1"`).has("Raft3D-Revision", "1")
	if read.body != want {
		t.Errorf("read back, want %s\ngot  %s", want, read.body)
	}
}

func TestGramsAreExact(t *testing.T) {
	w := newWorld(t)
	for given, want := range map[string]string{"1000": "1000", "12.5": "12.5", "0.001": "0.001", "1e3": "1000", "99999.999": "99999.999"} {
		got := w.call("POST", "/api/v1/filaments", `{"type":"PLA","color":"x","total_weight_in_grams":`+given+`}`).is(http.StatusCreated)
		if !strings.Contains(got.body, `"total_weight_in_grams":`+want+`,`) {
			t.Errorf("%s g: want %s, got %s", given, want, got.body)
		}
	}
	for _, given := range []string{"0.0001", "-1", "0", "100000.001", "1e300"} {
		w.call("POST", "/api/v1/filaments", `{"type":"PLA","color":"x","total_weight_in_grams":`+given+`}`).faults(422, "total_weight_in_grams")
	}
}

func TestAnETagIsTheObjectsOwnRevisionAndTheHeaderTheStates(t *testing.T) {
	w := stocked(t) // a job's creation alters its spool as well
	job := w.call("GET", "/api/v1/print_jobs/j1", "").is(http.StatusOK)
	var j farm.Job
	job.decode(&j)
	spool := w.call("GET", "/api/v1/filaments/f1", "").is(http.StatusOK)
	if job.Header.Get("ETag") == spool.Header.Get("ETag") || job.Header.Get("Raft3D-Revision") != spool.Header.Get("Raft3D-Revision") {
		t.Errorf("job %v, spool %v", job.Header, spool.Header)
	}
	if want := `"` + jsonText(t, j.Revision) + `"`; job.Header.Get("ETag") != want {
		t.Errorf("want ETag %s, got %s", want, job.Header.Get("ETag"))
	}
}

func jsonText(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAChosenIDIsTakenOnce(t *testing.T) {
	w := stocked(t)
	w.call("POST", "/api/v1/printers", `{"id":"p1","company":"Other","model":"X"}`).problem(409)
	for _, id := range []string{`""`, `"a/b"`, `"` + strings.Repeat("x", 65) + `"`, `"é"`, `"a b"`} {
		w.call("POST", "/api/v1/printers", `{"id":`+id+`,"company":"a","model":"b"}`).faults(422, "id")
	}
}

func TestAPatchMergesAndNullRemoves(t *testing.T) {
	w := newWorld(t)
	w.call("POST", "/api/v1/printers", `{"id":"p1","company":"Prusa","model":"MK4","name":"left","notes":"n","labels":{"a":"1","b":"2"}}`).is(http.StatusCreated)
	patch := func(body, want string) {
		t.Helper()
		got := w.call("PATCH", "/api/v1/printers/p1", body, "Content-Type: application/merge-patch+json").is(http.StatusOK)
		if !strings.Contains(got.body, want) {
			t.Errorf("PATCH %s: want %s in %s", body, want, got.body)
		}
	}
	patch(`{"labels":{"a":null,"c":"3"}}`, `"labels":{"b":"2","c":"3"}`)
	patch(`{"name":null}`, `"name":""`)
	patch(`{"notes":null}`, `"notes":""`)
	patch(`{"labels":null}`, `"labels":{}`)
	patch(`{"model":"MK5"}`, `"model":"MK5"`)
	patch(`{}`, `"company":"Prusa","model":"MK5"`)
	w.call("PATCH", "/api/v1/printers/p1", `{"company":null}`).faults(422, "company")
	w.call("PATCH", "/api/v1/printers/p1", `{"company":"  "}`).faults(422, "company")
	w.call("PATCH", "/api/v1/printers/p1", `{"id":"p2"}`).faults(400, "id")
	w.call("PATCH", "/api/v1/printers/p1", `{"labels":{"a":1}}`).faults(400, "labels.a")
	w.call("PATCH", "/api/v1/printers/nobody", `{"model":"x"}`).problem(404)
	w.call("PATCH", "/api/v1/printers/p1", "").problem(400)
}

func TestAPatchOfASpoolKeepsWhatIsReserved(t *testing.T) {
	w := stocked(t)
	w.call("PATCH", "/api/v1/filaments/f1", `{"remaining_weight_in_grams":99.999}`).problem(409)
	w.call("PATCH", "/api/v1/filaments/f1", `{"remaining_weight_in_grams":1000.001}`).problem(409)
	w.call("PATCH", "/api/v1/filaments/f1", `{"remaining_weight_in_grams":null}`).faults(422, "remaining_weight_in_grams")
	got := w.call("PATCH", "/api/v1/filaments/f1", `{"remaining_weight_in_grams":100,"type":"petg"}`).is(http.StatusOK)
	if !strings.Contains(got.body, `"available_weight_in_grams":0,`) || !strings.Contains(got.body, `"type":"PETG"`) {
		t.Errorf("got %s", got.body)
	}
}

func TestAQueuedJobMayBeChangedAndReservedAnew(t *testing.T) {
	w := stocked(t)
	w.call("PATCH", "/api/v1/print_jobs/j1", `{"print_weight_in_grams":1000,"filepath":"b.gcode"}`).is(http.StatusOK)
	if p := w.call("PATCH", "/api/v1/print_jobs/j1", `{"print_weight_in_grams":1000.5}`).problem(409); p.Available == nil {
		t.Errorf("the refusal does not say what is available: %+v", p)
	}
	w.call("PATCH", "/api/v1/print_jobs/j1", `{"status":"Done"}`).faults(400, "status")
	w.call("PATCH", "/api/v1/print_jobs/j1", `{"printer_id":null}`).faults(422, "printer_id")
	w.call("POST", "/api/v1/print_jobs/j1/status?status=running", "").is(http.StatusOK)
	w.call("PATCH", "/api/v1/print_jobs/j1", `{"filepath":"c.gcode"}`).problem(409)
	w.call("PATCH", "/api/v1/print_jobs/j1", `{"name":"c"}`).is(http.StatusOK)
}

func TestANewJobNamesWhatItLacks(t *testing.T) {
	w := stocked(t)
	job := func(printer, filament, rest string) *answer {
		return w.call("POST", "/api/v1/print_jobs", `{"printer_id":"`+printer+`","filament_id":"`+filament+`","filepath":"a",`+rest+`}`)
	}
	job("nobody", "f1", `"print_weight_in_grams":1`).faults(422, "printer_id")
	job("p1", "nothing", `"print_weight_in_grams":1`).faults(422, "filament_id")
	job("p1", "f1", `"print_weight_in_grams":-1`).faults(422, "print_weight_in_grams")
	job("p1", "f1", `"print_weight_in_grams":1,"status":"Queued"`).faults(422, "status")
	p := job("p1", "f1", `"print_weight_in_grams":900.001`).faults(409, "print_weight_in_grams")
	if p.Available == nil || *p.Available != 900*farm.Gram {
		t.Errorf("want 900 g available, got %+v", p)
	}
	job("p1", "f1", `"print_weight_in_grams":900`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs", `{}`).faults(422, "filepath")
}

func TestAJobMovesOnlyAsItMay(t *testing.T) {
	w := stocked(t)
	status := func(body string) *answer { return w.call("POST", "/api/v1/print_jobs/j1/status", body) }
	p := status(`{"status":"Done"}`).problem(409)
	if !slices.Equal(p.Allowed, []farm.JobStatus{farm.Running, farm.Canceled}) {
		t.Errorf("from Queued: want Running and Canceled allowed, got %v", p.Allowed)
	}
	status(`{"status":"RUNNING"}`).is(http.StatusOK)
	w.call("POST", "/api/v1/print_jobs", `{"id":"j2","printer_id":"p1","filament_id":"f1","filepath":"b","print_weight_in_grams":1}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs/j2/status?status=Running", "").problem(409)
	var printer farm.Printer
	w.call("GET", "/api/v1/printers/p1", "").decode(&printer)
	if printer.CurrentJobID == nil || *printer.CurrentJobID != "j1" {
		t.Errorf("want j1 on the printer, got %+v", printer)
	}
	status(`{"status":"Done","used_weight_in_grams":999.001}`).problem(409)
	done := status(`{"status":"Done","used_weight_in_grams":97.4}`).is(http.StatusOK)
	if !strings.Contains(done.body, `"status":"Done","used_weight_in_grams":97.4`) {
		t.Errorf("got %s", done.body)
	}
	if p := status(`{"status":"Running"}`).problem(409); p.Allowed == nil || len(p.Allowed) != 0 {
		t.Errorf("nothing is allowed from Done: want an empty list, got %v", p.Allowed)
	}
	w.call("POST", "/api/v1/print_jobs/nobody/status?status=Done", "").problem(404)
}

func TestTheStatusMayComeInTheQueryOrTheBody(t *testing.T) {
	w := stocked(t)
	const path = "/api/v1/print_jobs/j1/status"
	w.call("POST", path, "").faults(422, "status")
	w.call("POST", path, `{}`).faults(422, "status")
	w.call("POST", path+"?status=", "").faults(400, "status")
	w.call("POST", path+"?status=Flying", "").faults(400, "status")
	w.call("POST", path, `{"status":"Flying"}`).faults(422, "status")
	w.call("POST", path+"?status=Running", `{"status":"Done"}`).faults(400, "status")
	w.call("POST", path+"?status=Running&status=Running", "").faults(400, "status")
	w.call("POST", path, `{"status":"Running","used_weight_in_grams":1}`).faults(422, "used_weight_in_grams")
	w.call("POST", path+"?status=running", `{"status":"Running"}`).is(http.StatusOK)
	w.call("POST", path+"?status=Cancelled", `{"used_weight_in_grams":12.5}`).is(http.StatusOK)
	got := w.call("GET", "/api/v1/print_jobs/j1", "")
	if !strings.Contains(got.body, `"status":"Canceled","used_weight_in_grams":12.5`) {
		t.Errorf("got %s", got.body)
	}
}

func TestDeletionIsRefusedWhileSomethingNeedsTheObject(t *testing.T) {
	w := stocked(t)
	for _, path := range []string{"printers/p1", "filaments/f1", "print_jobs/j1"} {
		w.call("DELETE", "/api/v1/"+path, "").problem(409)
	}
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Canceled", "").is(http.StatusOK)
	for _, path := range []string{"print_jobs/j1", "printers/p1", "filaments/f1"} {
		gone := w.call("DELETE", "/api/v1/"+path, "").is(http.StatusNoContent)
		if gone.body != "" || gone.Header.Get("Raft3D-Revision") == "" || gone.Header.Get("Content-Type") != "" {
			t.Errorf("DELETE %s: %v %q", path, gone.Header, gone.body)
		}
		w.call("GET", "/api/v1/"+path, "").problem(404)
		w.call("DELETE", "/api/v1/"+path, "").problem(404)
	}
}

func TestAListIsOrderedByCreationAndFiltered(t *testing.T) {
	w := stocked(t)
	w.call("POST", "/api/v1/printers", `{"id":"a-later","company":"Bambu","model":"X1","labels":{"room":"a:b","rack":"1"}}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/filaments", `{"id":"f2","type":"ABS","color":"blue","total_weight_in_grams":1}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs", `{"id":"j2","printer_id":"a-later","filament_id":"f2","filepath":"b","print_weight_in_grams":1}`).is(http.StatusCreated)
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Running", "").is(http.StatusOK)
	for target, want := range map[string]string{
		"printers":                                  "p1 a-later",
		"printers?company=Bambu":                    "a-later",
		"printers?company=Bambu&model=MK4":          "",
		"printers?label=room:a:b":                   "a-later",
		"printers?label=room:a:b&label=rack:1":      "a-later",
		"printers?label=room:a:b&label=rack:2":      "",
		"filaments?type=abs":                        "f2",
		"filaments?color=red":                       "f1",
		"print_jobs":                                "j1 j2",
		"print_jobs?status=queued,RUNNING":          "j1 j2",
		"print_jobs?status=Queued":                  "j2",
		"print_jobs?status=Cancelled":               "",
		"print_jobs?printer_id=p1":                  "j1",
		"print_jobs?filament_id=f2&printer_id=p1":   "",
		"print_jobs?consistency=stale":              "j1 j2",
		"print_jobs?consistency=linearizable":       "j1 j2",
		"printers?consistency=stale&min_revision=1": "p1 a-later",
	} {
		if got := w.call("GET", "/api/v1/"+target, "").ids(); got != want {
			t.Errorf("GET %s: want %q, got %q", target, want, got)
		}
	}
	if empty := w.call("GET", "/api/v1/print_jobs?status=Done", "").is(http.StatusOK); empty.body != "[]\n" {
		t.Errorf("want an empty array, got %q", empty.body)
	}
}
