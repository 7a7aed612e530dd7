package httpapi

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/mux"
)

// of is the operation at a method and a path, HEAD being GET without a body.
func (d *document) of(method, path string) node {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return d.at("/paths/" + escapePointer(path) + "/" + strings.ToLower(method))
}

// parameters lists the operation's parameters of one place (query, header, path), those of its path too.
func (n node) parameters(in string) map[string]node {
	found := map[string]node{}
	for _, at := range []node{n, n.doc.at(n.pointer[:strings.LastIndex(n.pointer, "/")])} {
		given, _ := at.members["parameters"].([]any)
		for i := range given {
			if parameter := at.get("parameters", strconv.Itoa(i)); parameter.text("in") == in {
				found[parameter.text("name")] = parameter
			}
		}
	}
	return found
}

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
		op := d.of(rt.method, rt.path)
		if !op.there() {
			t.Errorf("%s is not in the document", name)
			continue
		}
		if want, got := slices.Sorted(slices.Values(rt.params())), sorted(op.parameters("query")); !slices.Equal(want, got) {
			t.Errorf("%s takes the query parameters %q, the document says %q", name, want, got)
		}
		if want, got := slices.Sorted(slices.Values(headersOf(rt))), sorted(op.parameters("header")); !slices.Equal(want, got) {
			t.Errorf("%s takes the headers %q, the document says %q", name, want, got)
		}
		if want, got := strings.Contains(rt.path, "{id}"), op.parameters("path")["id"].flag("required"); want != got {
			t.Errorf("%s: has an id in its path: %v, the document says %v", name, want, got)
		}
		sent := op.get("requestBody")
		if sent.there() != (rt.body != noBody) || sent.flag("required") != (rt.body == neededBody) {
			t.Errorf("%s: the document says of its body: there is one: %v, it is needed: %v", name, sent.there(), sent.flag("required"))
		}
		if rt.body != noBody {
			want := []string{contentJSON}
			if rt.method == http.MethodPatch {
				want = append(want, "application/merge-patch+json")
			}
			if got := sorted(sent.get("content").members); !slices.Equal(want, got) {
				t.Errorf("%s takes %q, the document says %q", name, want, got)
			}
		}
		for _, status := range statusesOf(rt) {
			if !op.get("responses", strconv.Itoa(status)).there() {
				t.Errorf("%s may answer %d, of which the document says nothing", name, status)
			}
		}
		if op.text("operationId") == "" || op.text("summary") == "" || op.members["tags"] == nil {
			t.Errorf("%s: the document does not say what it is", name)
		}
	}
	for path, item := range d.at("/paths").members {
		for method := range item.(map[string]any) {
			if method != "parameters" && !mounted[method+" "+path] {
				t.Errorf("the document has %s %s, which is not mounted", method, path)
			}
		}
	}
}

// generalHeaders are those that any answer of HTTP may have, which a document need not list.
var generalHeaders = []string{"Content-Type", "Content-Length", "Date", "X-Content-Type-Options", "Vary", "Cache-Control"}

// asDocumented fails unless the answer to r is one of those that the document promises: its status, its headers, its
// body. A request that was answered with success must be one that the document allows. Every call of every test in
// this package comes through here.
func (w *world) asDocumented(r *http.Request, body string, got *httptest.ResponseRecorder) {
	w.Helper()
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
			if err := d.at("/components/schemas/Problem").refusesJSON(got.Body.String()); err != nil {
				fault("%v", err)
			}
		}
		return
	}
	op := d.of(r.Method, match.Route.GetName())
	answer := op.get("responses", strconv.Itoa(got.Code))
	if !answer.there() {
		fault("the document has %q", sorted(op.get("responses").members))
		return
	}
	for name, header := range answer.get("headers").members {
		schema := answer.get("headers", name)
		value, given := got.Header()[http.CanonicalHeaderKey(name)]
		switch {
		case !given && schema.flag("required"):
			fault("has no %s; the document says %v", name, header)
		case given && !schema.get("schema").takesText(value[0]):
			fault("%s: %q is not as the document says", name, value)
		}
	}
	for name := range got.Header() {
		if !slices.Contains(generalHeaders, name) && !hasFold(answer.get("headers").members, name) {
			fault("the document does not say that there is %s: %s", name, got.Header().Get(name))
		}
	}
	if err := answer.refusesBody(r.Method == http.MethodHead, got); err != nil {
		fault("%v", err)
	}
	if got.Code < 300 {
		if err := op.refusesRequest(r, body); err != nil {
			fault("the document does not allow what was taken: %v", err)
		}
	}
}

func hasFold(members map[string]any, name string) bool {
	for member := range members {
		if strings.EqualFold(member, name) {
			return true
		}
	}
	return false
}

// takesText holds a header or a parameter against a schema: as text, or as the number or the truth that it spells.
func (n node) takesText(value string) bool {
	return n.refuses(value) == nil || n.refusesJSON(value) == nil
}

// refusesBody holds the body of an answer against what the document says of it.
func (n node) refusesBody(head bool, got *httptest.ResponseRecorder) error {
	content, given := n.get("content"), got.Header().Get("Content-Type")
	if !content.there() {
		if got.Body.Len() > 0 {
			return fmt.Errorf("has a body, the document has none")
		}
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(given)
	if err != nil || content.members[mediaType] == nil {
		return fmt.Errorf("is %q, the document has %q", given, sorted(content.members))
	}
	schema := content.get(mediaType, "schema")
	switch {
	case head && mediaType != contentProblem, !schema.there():
		return nil
	case mediaType == contentNDJSON:
		for line := range strings.Lines(got.Body.String()) {
			if strings.Contains(line, `"pad":`) {
				continue // what a test filled the history with
			}
			if err := n.doc.at("/components/schemas/Event").refusesJSON(line); err != nil {
				return err
			}
		}
		return nil
	case strings.HasSuffix(mediaType, "json"):
		return schema.refusesJSON(got.Body.String())
	}
	return schema.refuses(got.Body.String())
}

// refusesRequest holds a request against the document.
func (n node) refusesRequest(r *http.Request, body string) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	taken := n.parameters("query")
	for name, given := range values {
		parameter, ok := taken[name]
		if !ok {
			return fmt.Errorf("the parameter %s is not in the document", name)
		}
		schema := parameter.get("schema")
		if items := schema.get("items"); items.there() {
			if parameter.members["explode"] == false {
				given = strings.Split(given[0], ",")
			}
			schema = items
		}
		for _, value := range given {
			if !schema.takesText(strings.TrimSpace(value)) {
				return fmt.Errorf("%s=%q", name, value)
			}
		}
	}
	for name, parameter := range n.parameters("header") {
		if value := strings.Join(r.Header.Values(name), ", "); value != "" && !parameter.get("schema").takesText(value) {
			return fmt.Errorf("%s: %q", name, value)
		}
	}
	if sent := n.get("requestBody"); sent.there() && body != "" {
		return sent.get("content", contentJSON, "schema").refusesJSON(body)
	}
	return nil
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
