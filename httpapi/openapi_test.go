package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/mux"

	"raft3d/internal/contract"
)

// headersOf is what the routes of a kind take beside the general headers of HTTP.
func headersOf(rt *route) []string {
	var all []string
	switch {
	case rt.kind == read:
		all = []string{headerIfNoneMatch}
	case rt.path == "/api/v1/events":
		all = []string{headerLastEventID}
	case rt.kind == write:
		all = []string{headerIfMatch, headerKey}
	case rt.kind.changes():
		all = []string{headerKey}
	}
	return all
}

// statusesOf is what every call of a route may be answered with, whatever it does: each kind's own refusals.
func statusesOf(rt *route) []int {
	all := []int{400, 408, 413, 500}
	if rt.kind != exempted {
		all = append(all, 429)
	}
	switch rt.kind {
	case read:
		all = append(all, 304, 503, 504)
	case create:
		all = append(all, 409, 422, 503, 507)
	case write:
		all = append(all, 404, 409, 412, 422, 503)
	case manage:
		all = append(all, 409, 422, 503)
	case stream:
		all = append(all, 503)
	}
	if rt.body != noBody {
		all = append(all, 415)
	}
	if strings.Contains(rt.path, "{id}") {
		all = append(all, 404)
	}
	return all
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func TestTheDocumentAndTheRoutesSayTheSame(t *testing.T) {
	d := theDocument()
	mounted := map[string]bool{}
	for i := range routes {
		rt := &routes[i]
		name := rt.method + " " + rt.path
		mounted[strings.ToLower(rt.method)+" "+rt.path] = true
		op := d.Of(rt.method, rt.path)
		if !op.There() {
			t.Errorf("%s is not in the document", name)
			continue
		}
		if want, got := slices.Sorted(slices.Values(rt.params())), sorted(op.Parameters("query")); !slices.Equal(want, got) {
			t.Errorf("%s takes the query parameters %q, the document says %q", name, want, got)
		}
		if want, got := slices.Sorted(slices.Values(headersOf(rt))), sorted(op.Parameters("header")); !slices.Equal(want, got) {
			t.Errorf("%s takes the headers %q, the document says %q", name, want, got)
		}
		if want, got := strings.Contains(rt.path, "{id}"), op.Parameters("path")["id"].Flag("required"); want != got {
			t.Errorf("%s: has an id in its path: %v, the document says %v", name, want, got)
		}
		sent := op.Get("requestBody")
		if sent.There() != (rt.body != noBody) || sent.Flag("required") != (rt.body == neededBody) {
			t.Errorf("%s: the document says of its body: there is one: %v, it is needed: %v", name, sent.There(), sent.Flag("required"))
		}
		if rt.body != noBody {
			want := []string{contentJSON}
			if rt.method == http.MethodPatch {
				want = append(want, "application/merge-patch+json")
			}
			if got := sorted(sent.Get("content").Members); !slices.Equal(want, got) {
				t.Errorf("%s takes %q, the document says %q", name, want, got)
			}
		}
		for _, status := range statusesOf(rt) {
			if !op.Get("responses", strconv.Itoa(status)).There() {
				t.Errorf("%s may answer %d, of which the document says nothing", name, status)
			}
		}
		if op.Text("operationId") == "" || op.Text("summary") == "" || op.Members["tags"] == nil {
			t.Errorf("%s: the document does not say what it is", name)
		}
	}
	for path, item := range d.At("/paths").Members {
		for method := range item.(map[string]any) {
			if method != "parameters" && !mounted[method+" "+path] {
				t.Errorf("the document has %s %s, which is not mounted", method, path)
			}
		}
	}
}

// asDocumented fails unless the answer to r is one of those that the document promises: its status, its headers, its
// body. A request that was answered with success must be one that the document allows. Every call of every test in
// this package comes through here.
func (w *world) asDocumented(r *http.Request, body string, got *httptest.ResponseRecorder) {
	w.Helper()
	for name := range got.Header() {
		if name != http.CanonicalHeaderKey(name) {
			w.Errorf("the header %s of the answer to %s %s is not spelled as net/http sends it", name, r.Method, r.URL)
		}
	}
	if w.madeUp {
		return
	}
	d := theDocument()
	fault := func(format string, args ...any) {
		w.Helper()
		w.Errorf("not as documented: %s %.300s: %d: %.1000s\n%.1000s", r.Method, r.URL, got.Code, fmt.Sprintf(format, args...), got.Body)
	}
	var match mux.RouteMatch
	found := w.server.router.Match(r, &match)
	if !found || w.server.resources[match.Route.GetName()].methods[r.Method] == nil {
		switch {
		case r.Method == http.MethodOptions && found:
			if got.Code != http.StatusNoContent || got.Header().Get("Allow") == "" {
				fault("OPTIONS is answered with 204 and Allow")
			}
		case found != (got.Header().Get("Allow") != ""), found && got.Code != 405, !found && got.Code != 404:
			fault("no operation is here: 404, or 405 with Allow")
		default:
			if err := d.At("/components/schemas/Problem").RefusesJSON(got.Body.String()); err != nil {
				fault("%v", err)
			}
		}
		return
	}
	for _, violation := range d.Violations(match.Route.GetName(), contract.Exchange{
		Method: r.Method, URL: r.URL, Sent: r.Header, Body: body,
		Status: got.Code, Header: got.Header(), Answer: paddingLess(got.Body.String()),
	}) {
		fault("%v", violation)
	}
}

// paddingLess is a feed without what a test filled the history with.
func paddingLess(body string) string {
	if !strings.Contains(body, `"pad":`) {
		return body
	}
	var kept strings.Builder
	for line := range strings.Lines(body) {
		if !strings.Contains(line, `"pad":`) {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestTheDocumentAndItsPageAreServed(t *testing.T) {
	w := newWorld(t)
	a := w.call("GET", "/openapi.json", "").is(http.StatusOK).has("Content-Type", "application/json")
	if a.body != string(openAPI) {
		t.Error("it is not the document")
	}
	page := w.call("GET", "/docs", "").is(http.StatusOK).has("Content-Type", "text/html; charset=utf-8")
	for _, element := range []string{"script", "style"} {
		if strings.Count(page.body, "<"+element) != 1 || !strings.Contains(page.Header.Get("Content-Security-Policy"), inlineHash(page.body, element)) {
			t.Errorf("the policy does not let the page's one %s run: %s", element, page.Header.Get("Content-Security-Policy"))
		}
	}
	for _, elsewhere := range []string{"http://", "https://", "src=", "@import", " style=", "innerHTML"} {
		if strings.Contains(page.body, elsewhere) {
			t.Errorf("the page has %q: it must work without the internet, under its policy", elsewhere)
		}
	}
	w.call("HEAD", "/openapi.json", "").is(http.StatusOK)
	w.call("HEAD", "/docs", "").is(http.StatusOK)
	w.call("POST", "/docs", "").problem(405)
}

// call holds what it gets against the document; this sees to it that the feed has every kind of event.
func TestTheFeedTellsEveryKindOfChangeAsDocumented(t *testing.T) {
	w := stocked(t)
	w.call("POST", "/api/v1/print_jobs/j1/status?status=Canceled", "").is(http.StatusOK)
	for _, path := range []string{"print_jobs/j1", "filaments/f1", "printers/p1"} {
		w.call("DELETE", "/api/v1/"+path, "").is(http.StatusNoContent)
	}
	feed := w.call("GET", "/api/v1/events", "").is(http.StatusOK).body
	for _, action := range []string{"created", "updated", "deleted"} {
		if !strings.Contains(feed, `"action":"`+action+`"`) {
			t.Errorf("nothing was %s in %s", action, feed)
		}
	}
}
