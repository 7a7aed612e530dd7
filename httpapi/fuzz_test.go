package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"raft3d/farm"
)

// judge fails on what no client may ever cause: a server's fault, or something in its log.
func judge(t *testing.T, w *world, method, target, body, mediaType string) {
	t.Helper()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return // net/http answers such a request line itself
	}
	r.URL = parsed
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, r)
	switch {
	case recorder.Code == 504 && strings.Contains(target, "min_revision"):
		return // nobody will bring it
	case recorder.Code == 503 && strings.HasPrefix(target, "/api/v1/p") && strings.Contains(target, "timeout="):
		return // a timeout of a millisecond may run out
	case recorder.Code >= 500 || w.log.Len() > 0:
		t.Fatalf("%s %q %q: %d %s\n%s", method, target, body, recorder.Code, recorder.Body, w.log)
	case recorder.Code >= 300 && recorder.Code < 400:
		t.Fatalf("%s %q: redirected to %s", method, target, recorder.Header().Get("Location"))
	}
}

// FuzzJSONMembers walks objects as encoding/json does, and must see the same.
func FuzzJSONMembers(f *testing.F) {
	for _, body := range []string{`{}`, ` { "a" : 1 , "b":[{"c":"]}\\""},null],"a":-1.5e3}`, `{"\u00e9\ud800":"\\","é":{"x":{}} ,"t":true}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		object := bytes.TrimSpace(body)
		if !utf8.Valid(object) || !json.Valid(object) || object[0] != '{' {
			return
		}
		var seen []string
		members(object, func(name string, value json.RawMessage, again bool) {
			seen = append(seen, name, string(value))
			if typeOf(value) == "a string" {
				var want string
				if err := json.Unmarshal(value, &want); err != nil || stringOf(value) != want {
					t.Fatalf("%s is read as %q, not %q (%v)", value, stringOf(value), want, err)
				}
			}
		})
		d := json.NewDecoder(bytes.NewReader(object))
		_, _ = d.Token()
		for d.More() {
			name, _ := d.Token()
			var value json.RawMessage
			if err := d.Decode(&value); err != nil || len(seen) < 2 || seen[0] != name || seen[1] != string(value) {
				t.Fatalf("%s: %.2q, encoding/json has %q: %s (%v)", object, seen, name, value, err)
			}
			seen = seen[2:]
		}
		if len(seen) > 0 {
			t.Fatalf("%s: %q is too much", object, seen)
		}
	})
}

func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		aPrinter, `{}`, `null`, `[]`, `"x"`, `{"a":{"b":[1,{"c":null}]}}`, ` {"company" : "a" , "model":"b"} `, `{"company":"\ud800","model":"\u0000"}`,
		`{"type":"pla","color":"red","total_weight_in_grams":1e2,"remaining_weight_in_grams":0.5}`, `{"total_weight_in_grams":1e-999999999999}`,
		`{"printer_id":"p1","filament_id":"f1","filepath":"a","print_weight_in_grams":1}`, `{"labels":{"a":null,"":"","b":"c"},"name":null}`,
		`{"status":"done","used_weight_in_grams":-0}`, `{"id":"node4","raft":"a:1","http":"[::1]:2","voter":false,"member_id":"00000000000000ff"}`,
		`{"":1}`, "{\"\xff\":1}", `{"company":"a"}{}`,
	} {
		f.Add(body, "application/json")
	}
	f.Add(aPrinter, "application/x-www-form-urlencoded; a=\"")
	w := newWorld(f)
	w.cluster.onTransfer = func(id string) (string, error) { return id, nil }
	w.cluster.onAdd = echoMember
	f.Fuzz(func(t *testing.T, body, mediaType string) {
		for _, call := range []string{
			"POST /api/v1/printers", "POST /api/v1/filaments", "POST /api/v1/print_jobs", "PATCH /api/v1/printers/p1", "PATCH /api/v1/filaments/f1",
			"PATCH /api/v1/print_jobs/j1", "POST /api/v1/print_jobs/j1/status", "POST /api/v1/cluster/leader", "POST /api/v1/cluster/members", "DELETE /api/v1/printers/p1",
		} {
			w.TB = t
			w.farm.empty()
			w.stock()
			method, path, _ := strings.Cut(call, " ")
			judge(t, w, method, path, body, mediaType)
		}
	})
}

func FuzzTargets(f *testing.F) {
	for _, target := range []string{
		"/", "/api/v1/printers", "/api/v1/printers/p1", "/api/v1/printers/%2F", "/api/v1/printers/%", "/api/v1/print_jobs/j1/status?status=Done", "//", "/%00", "/api/v1/..//x",
		"/api/v1/print_jobs?status=Queued,running&printer_id=p1&label=a:b&label=c:d&consistency=stale&min_revision=0&timeout=1s",
		"/api/v1/filaments?type=pla&color=%zz;&timeout=9999999h", "/readyz?verbose", "/metrics?x", "/api/v1/printers?company=%ff", "/version?=",
		"/api/v1/events?since=2&kind=filament&id=f1&min_revision=0&timeout=1s", "/api/v1/backup?timeout=1s", "/api/v1/printers?limit=1&label=a:b",
		"/api/v1/printers?cursor=" + cursor(farm.KindPrinter, 1),
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS", "HEAD", "BREW"} {
			f.Add(method, target)
		}
	}
	w := stocked(f)
	w.cluster.onTransfer = func(id string) (string, error) { return id, nil }
	w.cluster.onRemove = func(string, bool) error { return nil }
	w.cluster.onPromote = func(string) error { return nil }
	w.cluster.onSnapshot = func() (uint64, uint64, int64, error) { return 1, 1, 1, nil }
	w.cluster.onAdd = echoMember
	w.farm.onBackup = copies(1, nil)
	f.Fuzz(func(t *testing.T, method, target string) {
		if method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			return // no token, so no request
		}
		judge(t, w, method, target, "", "")
	})
}
