package httpapi

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document is openapi.json as the tests read it: JSON values, found by JSON pointers. kin-openapi says whether it is
// OpenAPI 3.1; values are held against its schemas by jsonschema, on which kin-openapi's own check of 3.1 rests too,
// but which compiles each schema once and never falls back to the rules of 3.0.
type document struct {
	root any

	mu       sync.Mutex
	compiler *jsonschema.Compiler          // guarded by mu
	schemas  map[string]*jsonschema.Schema // guarded by mu; by pointer
}

// node is one JSON object of the document, and where it stands.
type node struct {
	doc     *document
	pointer string
	members map[string]any
}

const documentURL = "http://node/openapi.json"

var theDocument = sync.OnceValue(func() *document {
	root, err := jsonschema.UnmarshalJSON(strings.NewReader(string(openAPI)))
	if err != nil {
		panic(err)
	}
	d := &document{root: root, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, root); err != nil {
		panic(err)
	}
	return d
})

var unescapePointer = strings.NewReplacer("~1", "/", "~0", "~")

func escapePointer(step string) string {
	return strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1")
}

// at finds what a pointer names, through references. Its members are nil where there is nothing.
func (d *document) at(pointer string) node {
	value := d.root
	for _, step := range strings.Split(pointer, "/")[1:] {
		if items, ok := value.([]any); ok {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(items) {
				return node{doc: d, pointer: pointer}
			}
			value = items[i]
			continue
		}
		members, _ := value.(map[string]any)
		value = members[unescapePointer.Replace(step)]
	}
	members, _ := value.(map[string]any)
	if ref, ok := members["$ref"].(string); ok {
		return d.at(strings.TrimPrefix(ref, "#"))
	}
	return node{d, pointer, members}
}

func (n node) there() bool { return n.members != nil }

// get is the member that the steps lead to.
func (n node) get(steps ...string) node {
	for _, step := range steps {
		n = n.doc.at(n.pointer + "/" + escapePointer(step))
	}
	return n
}

func (n node) text(name string) string { s, _ := n.members[name].(string); return s }

func (n node) flag(name string) bool { b, _ := n.members[name].(bool); return b }

// refuses holds a value against the schema at n.
func (n node) refuses(value any) error {
	d := n.doc
	d.mu.Lock()
	defer d.mu.Unlock()
	schema, ok := d.schemas[n.pointer]
	if !ok {
		var err error
		if schema, err = d.compiler.Compile(documentURL + "#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(n.pointer)); err != nil {
			return err
		}
		d.schemas[n.pointer] = schema
	}
	return schema.Validate(value)
}

// refusesJSON holds a JSON text against the schema at n.
func (n node) refusesJSON(text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return n.refuses(value)
}

// each calls fn with every object inside value, and the pointer to it.
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

func TestTheDocumentIsOpenAPI31(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("it says that it is OpenAPI %s", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEveryPartOfTheDocumentIsUsed(t *testing.T) {
	d := theDocument()
	used := map[string]bool{}
	each(d.root, "", func(_ string, members map[string]any) {
		if ref, ok := members["$ref"].(string); ok {
			used[strings.TrimPrefix(ref, "#")] = true
			if !d.at(strings.TrimPrefix(ref, "#")).there() {
				t.Errorf("%s leads nowhere", ref)
			}
		}
	})
	used["/components/schemas/Event"] = true // a line of text/event-stream and of NDJSON; OpenAPI 3.1 has no way to say it
	for kind := range d.at("/components").members {
		for name := range d.at("/components/" + kind).members {
			if pointer := "/components/" + kind + "/" + name; !used[pointer] {
				t.Errorf("%s is used nowhere", pointer)
			}
		}
	}
}

func TestTheExamplesKeepToTheirSchemas(t *testing.T) {
	d := theDocument()
	examples := 0
	check := func(schema node, example any) {
		examples++
		if err := schema.refuses(example); err != nil {
			t.Errorf("the example of %s: %v", schema.pointer, err)
		}
	}
	each(d.root, "", func(pointer string, members map[string]any) {
		if all, ok := members["examples"].([]any); ok && strings.Contains(pointer, "/schema") {
			for _, example := range all {
				check(d.at(pointer), example)
			}
		}
		if example, ok := members["example"]; ok {
			check(d.at(pointer).get("schema"), example)
		}
	})
	if examples < 40 {
		t.Errorf("only %d examples were found", examples)
	}
	message := d.at("/paths/~1api~1v1~1events/get/responses/200/content/application~1x-ndjson").text("example")
	if err := d.at("/components/schemas/Event").refusesJSON(message); err != nil {
		t.Errorf("the example of the feed: %v", err)
	}
}

// What the README has people send is what the document says may be sent.
func TestTheDocumentTakesWhatItsBodiesAreSaidToBe(t *testing.T) {
	d := theDocument()
	for name, bodies := range map[string]map[string]bool{
		"PrinterCreation":  {`{"company":"Prusa","model":"MK4"}`: true, `{"company":"Prusa"}`: false, `{"company":"","model":"MK4"}`: false, `{"company":"Prusa","model":"MK4","revision":1}`: false, `{"company":"Prusa","model":"MK4","id":"a b"}`: false, `{"company":"Prusa","model":"MK4","labels":{"":"x"}}`: false},
		"FilamentCreation": {`{"type":"pla-cf","color":"red","total_weight_in_grams":0.001}`: true, `{"type":"wood","color":"red","total_weight_in_grams":1}`: false, `{"type":"PLA","color":"red","total_weight_in_grams":0}`: false, `{"type":"PLA","color":"red","total_weight_in_grams":1.0005}`: false},
		"JobPatch":         {`{}`: true, `{"labels":null,"name":null}`: true, `{"labels":{"a":null}}`: true, `{"printer_id":null}`: false, `{"status":"Done"}`: false},
		"StatusChange":     {`{"status":"cancelled"}`: true, `{"status":"Done","used_weight_in_grams":97.4}`: true, `{"status":"Paused"}`: false},
	} {
		for body, want := range bodies {
			if err := d.at("/components/schemas/" + name).refusesJSON(body); (err == nil) != want {
				t.Errorf("%s takes %s: want %v, got %v", name, body, want, err)
			}
		}
	}
	if !json.Valid(openAPI) {
		t.Error("the document is not JSON")
	}
}
