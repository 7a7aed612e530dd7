// Package contract holds calls and their answers against an OpenAPI 3.1 document, for tests: those of httpapi, whose
// every call comes through here, and those that talk to real nodes.
//
// There are three nouns: a Document, a Node in it (found by a JSON pointer, through references), and an Exchange, which
// is a call with its answer. All of it may be used by several goroutines.
package contract

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Document is an OpenAPI document as JSON values. Values are held against its schemas by jsonschema, which compiles
// each schema once and, other than kin-openapi, never falls back to the rules of OpenAPI 3.0.
type Document struct {
	root any

	mu       sync.Mutex
	compiler *jsonschema.Compiler          // guarded by mu
	schemas  map[string]*jsonschema.Schema // guarded by mu; by pointer
}

// Node is one JSON object of the document, and where it stands. Members is nil where there is nothing.
type Node struct {
	Pointer string
	Members map[string]any

	doc *Document
}

const documentURL = "http://node/openapi.json"

// Parse reads a document. Whether it is OpenAPI 3.1 is not looked at.
func Parse(text []byte) (*Document, error) {
	root, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	d := &Document{root: root, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, root); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	return d, nil
}

var unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")

func escapePointer(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
}

// At finds what a JSON pointer names, through references.
func (d *Document) At(pointer string) Node {
	value := d.root
	for _, step := range strings.Split(pointer, "/")[1:] {
		if items, ok := value.([]any); ok {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(items) {
				return Node{doc: d, Pointer: pointer}
			}
			value = items[i]
			continue
		}
		members, _ := value.(map[string]any)
		value = members[unescapePointer.Replace(step)]
	}
	members, _ := value.(map[string]any)
	if ref, ok := members["$ref"].(string); ok {
		return d.At(strings.TrimPrefix(ref, "#"))
	}
	return Node{doc: d, Pointer: pointer, Members: members}
}

// There says whether there is anything at the node.
func (n Node) There() bool { return n.Members != nil }

// Get is the member that the steps lead to.
func (n Node) Get(steps ...string) Node {
	for _, step := range steps {
		n = n.doc.At(n.Pointer + "/" + escapePointer(step))
	}
	return n
}

// Text is a member that is a string.
func (n Node) Text(name string) string { s, _ := n.Members[name].(string); return s }

// Flag is a member that is true or false; one that is not there is false.
func (n Node) Flag(name string) bool { b, _ := n.Members[name].(bool); return b }

// Refuses holds a value against the schema at n.
func (n Node) Refuses(value any) error {
	d := n.doc
	d.mu.Lock()
	defer d.mu.Unlock()
	schema, ok := d.schemas[n.Pointer]
	if !ok {
		var err error
		if schema, err = d.compiler.Compile(documentURL + "#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(n.Pointer)); err != nil {
			return err
		}
		d.schemas[n.Pointer] = schema
	}
	return schema.Validate(value)
}

// RefusesJSON holds a JSON text against the schema at n.
func (n Node) RefusesJSON(text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return n.Refuses(value)
}

// Each calls fn with every object of the document, and the pointer to it.
func (d *Document) Each(fn func(pointer string, members map[string]any)) { each(d.root, "", fn) }

func each(value any, pointer string, fn func(pointer string, members map[string]any)) {
	switch value := value.(type) {
	case map[string]any:
		fn(pointer, value)
		for name, inside := range value {
			each(inside, pointer+"/"+escapePointer(name), fn)
		}
	case []any:
		for i, inside := range value {
			each(inside, pointer+"/"+strconv.Itoa(i), fn)
		}
	}
}

// Of is the operation at a method and a path, HEAD being GET without a body.
func (d *Document) Of(method, path string) Node {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return d.At("/paths/" + escapePointer(path) + "/" + strings.ToLower(method))
}

// Parameters lists the operation's parameters of one place (query, header, path), those of its path too.
func (n Node) Parameters(in string) map[string]Node {
	found := map[string]Node{}
	for _, at := range []Node{n, n.doc.At(n.Pointer[:strings.LastIndex(n.Pointer, "/")])} {
		given, _ := at.Members["parameters"].([]any)
		for i := range given {
			if parameter := at.Get("parameters", strconv.Itoa(i)); parameter.Text("in") == in {
				found[parameter.Text("name")] = parameter
			}
		}
	}
	return found
}
