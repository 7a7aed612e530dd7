package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"raft3d/farm"
)

func TestABodyOfTheWrongFormIsRefusedWithItsField(t *testing.T) {
	for _, test := range []struct{ name, body, field string }{
		{"empty", ``, ""},
		{"blank", `  `, ""},
		{"not JSON", `company=Prusa`, ""},
		{"cut short", `{"company":"Prusa"`, ""},
		{"a comma too many", `{"company":"Prusa","model":"MK4",}`, ""},
		{"a second value", `{"company":"Prusa","model":"MK4"} {}`, ""},
		{"rubbish behind", `{"company":"Prusa","model":"MK4"}]`, ""},
		{"an array", `[{"company":"Prusa","model":"MK4"}]`, ""},
		{"a string", `"x"`, ""},
		{"null", `null`, ""},
		{"not UTF-8", "{\"company\":\"\xff\",\"model\":\"MK4\"}", ""},
		{"nested without end", strings.Repeat(`{"a":`, 20000), ""},
		{"an unknown field", `{"company":"Prusa","model":"MK4","colour":"x"}`, "colour"},
		{"a read-only field", `{"company":"Prusa","model":"MK4","created_at":"2026-01-01T00:00:00.000Z"}`, "created_at"},
		{"the revision", `{"company":"Prusa","model":"MK4","revision":1}`, "revision"},
		{"a name in another case", `{"Company":"Prusa","model":"MK4"}`, "Company"},
		{"a name twice", `{"company":"Prusa","model":"MK4","company":"Prusa"}`, "company"},
		{"a name twice, once escaped", `{"company":"Prusa","model":"MK4","\u0063ompany":"Prusa"}`, "company"},
		{"a number for text", `{"company":5,"model":"MK4"}`, "company"},
		{"null for text", `{"company":null,"model":"MK4"}`, "company"},
		{"null for what may be left out", `{"company":"Prusa","model":"MK4","name":null}`, "name"},
		{"an object for text", `{"company":{},"model":"MK4"}`, "company"},
		{"an array for labels", `{"company":"Prusa","model":"MK4","labels":[]}`, "labels"},
		{"a number in labels", `{"company":"Prusa","model":"MK4","labels":{"a":1}}`, "labels.a"},
		{"null in labels", `{"company":"Prusa","model":"MK4","labels":{"a":null}}`, "labels.a"},
		{"a label twice", `{"company":"Prusa","model":"MK4","labels":{"a":"1","a":"2"}}`, "labels.a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			got := w.call("POST", "/api/v1/printers", test.body)
			if test.field == "" {
				got.problem(400)
			} else {
				got.faults(400, test.field)
			}
			if len(w.farm.commands) > 0 {
				t.Errorf("it reached the farm: %+v", w.farm.commands)
			}
		})
	}
}

func TestAWeightIsANumber(t *testing.T) {
	w := newWorld(t)
	for _, value := range []string{`"1000"`, `null`, `true`, `[1]`, `{}`} {
		w.call("POST", "/api/v1/filaments", `{"type":"PLA","color":"x","total_weight_in_grams":`+value+`}`).faults(400, "total_weight_in_grams")
	}
}

func TestAWellFormedBodyThatBreaksARuleIs422(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("ä", 121)
	for _, test := range []struct{ path, body, field string }{
		{"printers", `{"model":"MK4"}`, "company"},
		{"printers", `{"company":"","model":"MK4"}`, "company"},
		{"printers", `{"company":"` + long + `","model":"MK4"}`, "company"},
		{"printers", `{"company":"a\u0000b","model":"MK4"}`, "company"},
		{"printers", `{"company":"a","model":"b","name":"x\ny"}`, "name"},
		{"printers", `{"company":"a","model":"b","notes":"` + strings.Repeat("x", 2001) + `"}`, "notes"},
		{"filaments", `{"type":"WOOD","color":"x","total_weight_in_grams":1}`, "type"},
		{"filaments", `{"type":"PLA","color":"x","total_weight_in_grams":1,"remaining_weight_in_grams":2}`, "remaining_weight_in_grams"},
		{"filaments", `{"type":"PLA","color":"x"}`, "total_weight_in_grams"},
	} {
		w.call("POST", "/api/v1/"+test.path, test.body).faults(422, test.field)
	}
	if p := w.call("POST", "/api/v1/printers", `{}`).faults(422, "company"); len(p.Errors) != 2 {
		t.Errorf("want company and model named, got %+v", p.Errors)
	}
	if len(w.farm.commands) > 0 {
		t.Errorf("the wrong form entered the log: %+v", w.farm.commands)
	}
}

func TestAnAnswerToManyFaultsStaysSmall(t *testing.T) {
	w := newWorld(t)
	var body strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&body, `"%0100d":1,`, i)
	}
	got := w.call("POST", "/api/v1/printers", "{"+strings.TrimSuffix(body.String()[:maxBodyBytes*9/10], ",")+`":1}`)
	got.is(400)
	labelled := w.call("POST", "/api/v1/printers", `{"company":"a","model":"b","labels":{`+strings.TrimSuffix(body.String()[:104*5000], ",")+`}}`)
	labelled.is(400)
	asked := w.call("GET", "/api/v1/printers?x=1&"+strings.Repeat("y", 20000)+"=1", "")
	asked.is(400)
	for _, a := range []*answer{got, labelled, asked} {
		if len(a.body) > 8<<10 {
			t.Errorf("%.60s: an answer of %d bytes", a.request, len(a.body))
		}
	}
}

func TestTheMediaTypeMustBeTakenAsJSON(t *testing.T) {
	w := newWorld(t)
	const body = `{"company":"Prusa","model":"MK4"}`
	for _, header := range []string{"", "application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", "application/x-www-form-urlencoded"} {
		var headers []string
		if header != "" {
			headers = []string{"Content-Type: " + header}
		}
		w.call("POST", "/api/v1/printers", body, headers...).is(http.StatusCreated)
	}
	for _, header := range []string{"text/plain", "application/xml", "application/json; charset=latin1", "multipart/form-data; boundary=x", "json", "application/merge-patch+json", "application/"} {
		w.call("POST", "/api/v1/printers", body, "Content-Type: "+header).problem(415)
	}
	w.call("POST", "/api/v1/printers", body, "Content-Encoding: gzip").problem(415)
	w.call("POST", "/api/v1/printers", body, "Content-Type: application/json", "Content-Type: text/plain").problem(415)
	w.call("PATCH", "/api/v1/printers/made-1", `{}`, "Content-Type: application/merge-patch+json").is(http.StatusOK)
	w.curl("PATCH", "/api/v1/printers/made-1", `{}`).is(http.StatusOK)
	w.call("PATCH", "/api/v1/printers/made-1", `{}`, "Content-Type: application/json-patch+json").problem(415)
	w.call("GET", "/api/v1/printers", "", "Content-Type: text/plain").is(http.StatusOK)
}

func TestABodyOverOneMebibyteIsRefused(t *testing.T) {
	w := newWorld(t)
	fits := `{"company":"Prusa","model":"MK4"}`
	fits += strings.Repeat(" ", maxBodyBytes-len(fits))
	w.call("POST", "/api/v1/printers", fits).is(http.StatusCreated)
	w.call("POST", "/api/v1/printers", fits+" ").problem(413)

	r := httptest.NewRequest("POST", "/api/v1/printers", iotest.ErrReader(errors.New("read a body that says that it is too large")))
	r.ContentLength = maxBodyBytes + 1
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, r)
	if recorder.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
}

func TestACallThatTakesNoBodyRefusesOne(t *testing.T) {
	w := stocked(t)
	for _, call := range []string{"GET /api/v1/printers", "DELETE /api/v1/print_jobs/j1", "POST /debug/snapshot"} {
		method, path, _ := strings.Cut(call, " ")
		w.call(method, path, `{"force":true}`).problem(400)
	}
}

func TestAQueryParameterMustBeKnownSingleAndWellFormed(t *testing.T) {
	w := stocked(t)
	for target, field := range map[string]string{
		"/api/v1/printers?limit=0":                                   "limit",
		"/api/v1/printers?colour=red":                                "colour",
		"/api/v1/printers?Company=x":                                 "Company",
		"/api/v1/printers?company=":                                  "company",
		"/api/v1/printers?company=a&company=b":                       "company",
		"/api/v1/printers?type=PLA":                                  "type",
		"/api/v1/printers?label=room":                                "label",
		"/api/v1/printers?label=:x":                                  "label",
		"/api/v1/filaments?type=WOOD":                                "type",
		"/api/v1/print_jobs?status=Queued,Flying":                    "status",
		"/api/v1/print_jobs?status=,":                                "status",
		"/api/v1/print_jobs?printer_id=a/b":                          "printer_id",
		"/api/v1/print_jobs?consistency=strong":                      "consistency",
		"/api/v1/print_jobs?consistency=stale&min_revision=-1":       "min_revision",
		"/api/v1/print_jobs?consistency=stale&min_revision=x":        "min_revision",
		"/api/v1/print_jobs?min_revision=1":                          "min_revision",
		"/api/v1/print_jobs?consistency=linearizable&min_revision=1": "min_revision",
		"/api/v1/print_jobs?timeout=0":                               "timeout",
		"/api/v1/print_jobs?timeout=61s":                             "timeout",
		"/api/v1/print_jobs?timeout=61":                              "timeout",
		"/api/v1/print_jobs?timeout=1us":                             "timeout",
		"/api/v1/print_jobs?timeout=-1s":                             "timeout",
		"/api/v1/print_jobs?timeout=soon":                            "timeout",
		"/api/v1/print_jobs/j1?status=Queued":                        "status",
		"/api/v1/cluster?consistency=stale":                          "consistency",
		"/version?x":                                                 "x",
		"/livez?verbose=maybe":                                       "verbose",
		"/metrics?name=x":                                            "name",
	} {
		w.call("GET", target, "").faults(400, field)
	}
	w.call("GET", "/api/v1/printers?company=%zz", "").problem(400)
	w.call("GET", "/api/v1/printers?a;b", "").problem(400)
	w.call("POST", "/api/v1/printers?consistency=stale", `{"company":"a","model":"b"}`).faults(400, "consistency")
	w.call("DELETE", "/api/v1/cluster/members/node2?force=maybe", "").faults(400, "force")
	for _, timeout := range []string{"1ms", "60s", "60", "2.5", "1m"} {
		w.call("GET", "/api/v1/printers?timeout="+timeout, "").is(http.StatusOK)
	}
}

func TestPathsAreMatchedAsTheyAreSentAndNeverRedirected(t *testing.T) {
	w := stocked(t)
	for _, path := range []string{
		"/nothing", "/api/v1/printers/", "//api/v1/printers", "/api//v1/printers", "/api/v1/../v1/printers", "/api/v1/printers/p1/x",
		"/api/v1/printers/a%2Fb", "/api/v1/printers/%00", "/api/v1/printers/%20p1", "/api/v1/printers/" + strings.Repeat("x", 65),
		"/api/v1/printers/..", "/API/v1/printers", "/debug/pprof/",
	} {
		a := w.call("GET", path, "")
		a.problem(404)
		if a.Header.Get("Location") != "" {
			t.Errorf("GET %s: redirected to %s", path, a.Header.Get("Location"))
		}
	}
	w.call("POST", "/api/v1/print_jobs/j1%2Fstatus?status=Running", "").is(405)
	w.call("DELETE", "/api/v1/printers/a%2Fb", "").problem(404)
	w.call("DELETE", "/api/v1/cluster/members/a%2Fb", "").problem(404) // and the cluster is not asked
	w.call("GET", "/api/v1/printers/p%31", "").is(http.StatusOK)
}

func TestAnUnknownMethodIsToldTheKnownOnes(t *testing.T) {
	w := stocked(t)
	for path, allow := range map[string]string{
		"/api/v1/printers":             "GET, HEAD, POST, OPTIONS",
		"/api/v1/printers/p1":          "DELETE, GET, HEAD, PATCH, OPTIONS",
		"/api/v1/print_jobs/j1/status": "POST, OPTIONS",
		"/metrics":                     "GET, HEAD, OPTIONS",
	} {
		for _, method := range []string{"PUT", "BREW"} {
			a := w.call(method, path, "")
			a.has("Allow", allow).problem(405)
		}
		w.call("OPTIONS", path, "").is(http.StatusNoContent).has("Allow", allow)
	}
	w.call("OPTIONS", "/nothing", "").problem(404)
}

func TestHeadIsAGetWithoutItsBody(t *testing.T) {
	w := stocked(t)
	got, head := w.call("GET", "/api/v1/printers/p1", ""), w.call("HEAD", "/api/v1/printers/p1", "")
	head.is(http.StatusOK)
	for _, header := range []string{"ETag", "Content-Type", "Content-Length", "Raft3D-Revision"} {
		head.has(header, got.Header.Get(header))
	}
	list := w.call("HEAD", "/api/v1/print_jobs", "").is(http.StatusOK).has("X-Total-Count", "1").has("Content-Type", "application/json")
	if list.body != "" {
		t.Errorf("a body: %q", list.body)
	}
	w.call("HEAD", "/api/v1/printers/nobody", "").is(404)
}

func TestEveryAnswerNamesAState(t *testing.T) {
	w := stocked(t)
	state := fmt.Sprint(w.farm.revision)
	for _, call := range []string{
		"GET /api/v1/printers", "GET /api/v1/printers/p1", "GET /api/v1/printers/nobody", "GET /nothing", "PUT /metrics", "GET /metrics",
		"OPTIONS /version", "GET /livez", "GET /readyz", "GET /version", "GET /", "GET /api/v1/cluster", "GET /api/v1/printers?x",
		"DELETE /api/v1/printers/p1",
	} {
		method, path, _ := strings.Cut(call, " ")
		w.call(method, path, "").has("Raft3D-Revision", state)
	}
}

// A node whose store has moved on by its log, not by its own calls, says so on refusals too.
func TestARefusalShowsTheStateThatItWasDecidedIn(t *testing.T) {
	w := stocked(t)
	w.farm.revision = 500
	w.call("DELETE", "/api/v1/printers/p1", "").is(409)
	w.call("GET", "/api/v1/printers?x", "").is(400)
	if w.server.seen.Load() != 500 {
		t.Errorf("want state 500, got %d", w.server.seen.Load())
	}
}

func TestEachKindOfErrorHasItsStatus(t *testing.T) {
	grams := 5 * farm.Gram
	for _, test := range []struct {
		err    *farm.Error
		status int
	}{
		{&farm.Error{Kind: farm.Malformed, Detail: "d"}, 400},
		{&farm.Error{Kind: farm.NotFound, Detail: "d"}, 404},
		{&farm.Error{Kind: farm.Conflict, Detail: "d", Available: &grams}, 409},
		{&farm.Error{Kind: farm.Invalid, Field: "model", Detail: "d", More: []farm.FieldError{{Field: "company", Detail: "e"}}}, 422},
		{&farm.Error{Kind: farm.Overloaded, Detail: "d"}, 429},
		{&farm.Error{Kind: farm.Unavailable, Detail: "d", Outcome: farm.NotApplied}, 503},
		{&farm.Error{Kind: farm.Unavailable, Detail: "d", Outcome: farm.Unknown}, 503},
		{&farm.Error{Kind: farm.Timeout, Detail: "d"}, 504},
		{&farm.Error{Kind: farm.Full, Detail: "d"}, 507},
	} {
		w := newWorld(t)
		w.madeUp = true
		w.farm.onDo = refuse(fmt.Errorf("wrapped once more: %w", test.err))
		a := w.call("POST", "/api/v1/printers", `{"company":"a","model":"b"}`)
		p := a.problem(test.status)
		if p.Outcome != test.err.Outcome {
			t.Errorf("%v: outcome %q", test.err, p.Outcome)
		}
		if retry := a.Header.Get("Retry-After") != ""; retry != (test.status == 429 || test.status == 503) {
			t.Errorf("%d: Retry-After %q", test.status, a.Header.Get("Retry-After"))
		}
		if test.err.Available != nil && (p.Available == nil || *p.Available != grams) {
			t.Errorf("%s", a.body)
		}
		if test.err.Field != "" && len(p.Errors) != 2 {
			t.Errorf("%s", a.body)
		}
		if w.log.Len() > 0 {
			t.Errorf("logged: %s", w.log)
		}
	}
}
