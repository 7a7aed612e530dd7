package contract

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Exchange is a call and its whole answer.
type Exchange struct {
	Method string
	URL    *url.URL
	Sent   http.Header
	Body   string // of the request

	Status int
	Header http.Header
	Answer string // the body of the answer
}

// generalHeaders are those that any answer of HTTP may have, which a document need not list.
var generalHeaders = []string{"Content-Type", "Content-Length", "Date", "X-Content-Type-Options", "Vary", "Cache-Control"}

// Operation is what the document has for a call: the path of its table ("/api/v1/printers/{id}"), or "" where nothing
// fits the path and the method.
func (d *Document) Operation(method, path string) string {
	given := strings.Split(path, "/")
	found := ""
	for template := range d.At("/paths").Members {
		steps := strings.Split(template, "/")
		fits := len(steps) == len(given) && slices.EqualFunc(steps, given, func(step, is string) bool {
			return step == is || strings.HasPrefix(step, "{") && is != ""
		})
		// A path without a placeholder is the closer one.
		if fits && d.Of(method, template).There() && (found == "" || strings.Contains(found, "{")) {
			found = template
		}
	}
	return found
}

// Violations says where an exchange is not as the document has it for the operation at this path of its table: the
// status of the answer, its headers, its body; and the request, where it was answered with success.
func (d *Document) Violations(path string, x Exchange) []error {
	op := d.Of(x.Method, path)
	answer := op.Get("responses", strconv.Itoa(x.Status))
	if !answer.There() {
		return []error{fmt.Errorf("the document has the statuses %q", sorted(op.Get("responses").Members))}
	}
	var all []error
	fault := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	for _, name := range sorted(answer.Get("headers").Members) {
		header := answer.Get("headers", name)
		value, given := x.Header[http.CanonicalHeaderKey(name)]
		switch {
		case !given && header.Flag("required"):
			fault("it has no %s", name)
		case given && !header.Get("schema").takesText(value[0]):
			fault("%s: %q is not as the document says", name, value)
		}
	}
	for _, name := range sorted(x.Header) {
		if !slices.Contains(generalHeaders, name) && !hasFold(answer.Get("headers").Members, name) {
			fault("the document does not say that there is %s: %s", name, x.Header.Get(name))
		}
	}
	if err := answer.refusesAnswer(x); err != nil {
		fault("its body: %w", err)
	}
	if x.Status < 300 {
		if err := op.refusesRequest(x); err != nil {
			fault("the document does not allow what was taken: %w", err)
		}
	}
	return all
}

func sorted[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func hasFold(members map[string]any, name string) bool {
	for member := range members {
		if strings.EqualFold(member, name) {
			return true
		}
	}
	return false
}

// takesText holds a header or a parameter against a schema: as text, or as the number or the truth that it spells.
func (n Node) takesText(value string) bool {
	return n.Refuses(value) == nil || n.RefusesJSON(value) == nil
}

// refusesAnswer holds the body of an answer against what the document says of it.
func (n Node) refusesAnswer(x Exchange) error {
	content, given := n.Get("content"), x.Header.Get("Content-Type")
	if !content.There() {
		if x.Answer != "" {
			return fmt.Errorf("it has one, the document has none")
		}
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(given)
	if err != nil || content.Members[mediaType] == nil {
		return fmt.Errorf("it is %q, the document has %q", given, sorted(content.Members))
	}
	schema := content.Get(mediaType, "schema")
	switch {
	case x.Method == http.MethodHead && mediaType != "application/problem+json", !schema.There():
		return nil
	case mediaType == "application/x-ndjson":
		for line := range strings.Lines(x.Answer) {
			if err := n.doc.At("/components/schemas/Event").RefusesJSON(line); err != nil {
				return err
			}
		}
		return nil
	case strings.HasSuffix(mediaType, "json"):
		return schema.RefusesJSON(x.Answer)
	}
	return schema.Refuses(x.Answer)
}

// refusesRequest holds a request against the document.
func (n Node) refusesRequest(x Exchange) error {
	values, err := url.ParseQuery(x.URL.RawQuery)
	if err != nil {
		return err
	}
	taken := n.Parameters("query")
	for _, name := range sorted(values) {
		given := values[name]
		parameter, ok := taken[name]
		if !ok {
			return fmt.Errorf("the parameter %s is not in the document", name)
		}
		schema := parameter.Get("schema")
		if items := schema.Get("items"); items.There() {
			if parameter.Members["explode"] == false {
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
	for name, parameter := range n.Parameters("header") {
		if value := strings.Join(x.Sent.Values(name), ", "); value != "" && !parameter.Get("schema").takesText(value) {
			return fmt.Errorf("%s: %q", name, value)
		}
	}
	if sent := n.Get("requestBody"); sent.There() && x.Body != "" {
		return sent.Get("content", "application/json", "schema").RefusesJSON(x.Body)
	}
	return nil
}
