package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"raft3d/farm"
)

func TestTagsAreReadAsTheyAreSpelled(t *testing.T) {
	for given, want := range map[string]tags{
		`*`:                         {any: true},
		` * `:                       {any: true},
		`"5"`:                       {strong: []uint64{5}},
		`"5", "6"`:                  {strong: []uint64{5, 6}},
		`"5","6" ,	W/"7"`:           {strong: []uint64{5, 6}, weak: []uint64{7}},
		`,"5",,`:                    {strong: []uint64{5}}, // RFC 9110, 5.6.1.2
		`W/"5"`:                     {weak: []uint64{5}},
		`""`:                        {},
		`"a,b"`:                     {},
		`"ä"`:                       {},
		`"05"`:                      {}, // no answer ever had it
		`"-5"`:                      {},
		`"18446744073709551616"`:    {},
		`"18446744073709551615"`:    {strong: []uint64{1<<64 - 1}},
		`"a,b", "5"`:                {strong: []uint64{5}},
		strings.Repeat(`"5",`, 100): {strong: slices.Repeat([]uint64{5}, 100)},
	} {
		want.given = true
		got, err := parseTags(http.Header{headerIfMatch: {given}}, headerIfMatch)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: want %+v, got %+v, %v", given, want, got, err)
		}
	}
	for _, bad := range []string{
		``, ` `, `,`, `5`, `"5`, `5"`, `'5'`, `"5" "6"`, `"5"6`, `w/"5"`, `W/5`, `W/`, `W`, `*, "5"`, `"5", *`, `**`, `"5";q=1`, `"a b"`, "\"\x7f\"", `"5"/W`,
		strings.Repeat(`"5",`, 101),
	} {
		if got, err := parseTags(http.Header{headerIfMatch: {bad}}, headerIfMatch); err == nil {
			t.Errorf("%s: taken as %+v", bad, got)
		}
	}
	if got, err := parseTags(http.Header{headerIfMatch: {`"5"`, `"6"`}}, headerIfMatch); err != nil || len(got.strong) != 2 {
		t.Errorf("two lines: %+v, %v", got, err)
	}
	if got, err := parseTags(http.Header{}, headerIfMatch); err != nil || got.given {
		t.Errorf("no header: %+v, %v", got, err)
	}
}

func TestAChangeIsMadeOnlyToTheRevisionThatItsClientKnows(t *testing.T) {
	for _, call := range []string{
		`PATCH /api/v1/printers/p1 {"name":"x"}`, `PATCH /api/v1/filaments/f1 {"name":"x"}`, `PATCH /api/v1/print_jobs/j1 {"name":"x"}`,
		`POST /api/v1/print_jobs/j1/status {"status":"Running"}`, `DELETE /api/v1/printers/p2 `,
	} {
		method, rest, _ := strings.Cut(call, " ")
		target, body, _ := strings.Cut(rest, " ")
		w := stocked(t)
		w.call("POST", "/api/v1/printers", `{"id":"p2","company":"a","model":"b"}`).is(201)
		get := strings.TrimSuffix(target, "/status")
		current := w.call("GET", get, "").Header.Get("ETag")
		before := w.farm.revision
		for _, no := range []string{`"999"`, "W/" + current, `"0"`, `"x"`, `W/"x", "999"`} {
			p := w.call(method, target, body, "If-Match: "+no).problem(http.StatusPreconditionFailed)
			if !strings.Contains(p.Detail, strings.Trim(current, `"`)) {
				t.Errorf("%s: the current revision %s is not in %q", call, current, p.Detail)
			}
		}
		if w.farm.revision != before {
			t.Fatalf("%s was done", call)
		}
		for _, bad := range []string{`999`, `"a`, ``} {
			w.call(method, target, body, "If-Match: "+bad).faults(400, headerIfMatch)
		}
		w.call(method, target, body, "If-None-Match: "+current).faults(400, headerIfNoneMatch)
		yes := `W/"1", "999", ` + current
		if method == "POST" {
			yes = "*"
		}
		if a := w.call(method, target, body, "If-Match: "+yes); a.StatusCode >= 300 {
			t.Errorf("%s with %s: %d %s", call, yes, a.StatusCode, a.body)
		}
	}
	w := stocked(t)
	w.call("PATCH", "/api/v1/printers/nobody", `{"name":"x"}`, "If-Match: *").problem(http.StatusNotFound)
}

func FuzzTags(f *testing.F) {
	for _, given := range []string{`*`, `"5"`, `"5", W/"6",`, `W/`, `"`, `"a`, `"5""6"`, ` , `, "\"\xff\""} {
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got, err := parseTags(http.Header{headerIfMatch: {given}}, headerIfMatch)
		if err != nil || got.any {
			return
		}
		for _, revision := range append(slices.Clone(got.strong), got.weak...) {
			if !strings.Contains(given, etag(revision)) {
				t.Errorf("%q names %d?", given, revision)
			}
		}
		if n := strings.Count(given, `"`); n%2 != 0 || len(got.strong)+len(got.weak) > n/2 {
			t.Errorf("%q was taken as %+v", given, got)
		}
	})
}

func TestTheFarmIsToldWhatTheRevisionMustBe(t *testing.T) {
	for given, want := range map[string]farm.Stamp{
		"":              {},
		"If-Match: *":   {IfMatchAny: true},
		`If-Match: "5"`: {IfMatch: []uint64{5}},
		// A list that matches nothing must not come to the farm as no list at all.
		`If-Match: W/"5"`: {IfMatch: []uint64{0}},
	} {
		w := stocked(t)
		var headers []string
		if given != "" {
			headers = []string{given}
		}
		w.call("PATCH", "/api/v1/printers/p1", `{}`, headers...)
		got := w.farm.stamps[len(w.farm.stamps)-1]
		if !slices.Equal(got.IfMatch, want.IfMatch) || got.IfMatchAny != want.IfMatchAny {
			t.Errorf("%q: %+v", given, got)
		}
	}
}

func TestACallThatTakesNoPreconditionRefusesOne(t *testing.T) {
	w := stocked(t)
	for _, call := range []string{"POST /api/v1/printers", "POST /debug/snapshot", "DELETE /api/v1/cluster/members/node2"} {
		method, target, _ := strings.Cut(call, " ")
		w.call(method, target, "", `If-Match: "1"`).faults(400, headerIfMatch)
		w.call(method, target, "", `If-None-Match: *`).faults(400, headerIfNoneMatch)
	}
	w.call("GET", "/api/v1/printers/p1", "", `If-Match: "999"`).is(200)
}

func TestWhatAClientHasAlreadyIsNotSentAgain(t *testing.T) {
	w := stocked(t)
	for _, target := range []string{"/api/v1/printers/p1", "/api/v1/printers", "/api/v1/print_jobs?status=Queued&limit=1", "/api/v1/filaments?consistency=stale"} {
		tag := w.call("GET", target, "").is(200).Header.Get("ETag")
		for _, method := range []string{"GET", "HEAD"} {
			for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
				a := w.call(method, target, "", "If-None-Match: "+known).is(http.StatusNotModified).has("ETag", tag).has("Raft3D-Revision", fmt.Sprint(w.farm.revision))
				if a.body != "" {
					t.Errorf("%s: a body: %q", target, a.body)
				}
			}
			w.call(method, target, "", `If-None-Match: "999"`).is(200).has("ETag", tag)
			w.call(method, target, "", `If-None-Match: 999`).is(400)
		}
	}
	w.call("GET", "/api/v1/printers/nobody", "", "If-None-Match: *").problem(404)
	tag := w.call("GET", "/api/v1/printers", "").Header.Get("ETag")
	w.call("POST", "/api/v1/printers", aPrinter).is(201)
	w.call("GET", "/api/v1/printers", "", "If-None-Match: "+tag).is(200)
}
