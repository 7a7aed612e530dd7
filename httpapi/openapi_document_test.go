package httpapi

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"raft3d/internal/contract"
)

var theDocument = sync.OnceValue(func() *contract.Document {
	d, err := contract.Parse(openAPI)
	if err != nil {
		panic(err)
	}
	return d
})

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
	d.Each(func(_ string, members map[string]any) {
		if ref, ok := members["$ref"].(string); ok {
			used[strings.TrimPrefix(ref, "#")] = true
			if !d.At(strings.TrimPrefix(ref, "#")).There() {
				t.Errorf("%s leads nowhere", ref)
			}
		}
	})
	used["/components/schemas/Event"] = true // a line of text/event-stream and of NDJSON; OpenAPI 3.1 has no way to say it
	for kind := range d.At("/components").Members {
		for name := range d.At("/components/" + kind).Members {
			if pointer := "/components/" + kind + "/" + name; !used[pointer] {
				t.Errorf("%s is used nowhere", pointer)
			}
		}
	}
}

func TestTheExamplesKeepToTheirSchemas(t *testing.T) {
	d := theDocument()
	examples := 0
	check := func(schema contract.Node, example any) {
		examples++
		if err := schema.Refuses(example); err != nil {
			t.Errorf("the example of %s: %v", schema.Pointer, err)
		}
	}
	d.Each(func(pointer string, members map[string]any) {
		if all, ok := members["examples"].([]any); ok && strings.Contains(pointer, "/schema") {
			for _, example := range all {
				check(d.At(pointer), example)
			}
		}
		if example, ok := members["example"]; ok {
			check(d.At(pointer).Get("schema"), example)
		}
	})
	if examples < 40 {
		t.Errorf("only %d examples were found", examples)
	}
	message := d.At("/paths/~1api~1v1~1events/get/responses/200/content/application~1x-ndjson").Text("example")
	if err := d.At("/components/schemas/Event").RefusesJSON(message); err != nil {
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
			if err := d.At("/components/schemas/" + name).RefusesJSON(body); (err == nil) != want {
				t.Errorf("%s takes %s: want %v, got %v", name, body, want, err)
			}
		}
	}
	if !json.Valid(openAPI) {
		t.Error("the document is not JSON")
	}
}
