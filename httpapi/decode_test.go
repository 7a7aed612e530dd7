package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

func TestAMemberGivenTwiceIsRefusedHoweverManyThereAre(t *testing.T) {
	w := newWorld(t)
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, `"k%d":"v",`, i)
	}
	for body, field := range map[string]string{
		`{"company":"Prusa","company":"Prusa","model":"MK4"}`:                                       "company",
		`{"company":"Prusa","model":"MK4","mod\u0065l":"MK4"}`:                                      "model",
		`{"company":"Prusa","model":"MK4","labels":{"a":"1","\u0061":"1"}}`:                         "labels.a",
		`{"company":"Prusa","model":"MK4","labels":{` + many.String() + `"k0":"v"}}`:                "labels.k0",
		`{"company":"Prusa","model":"MK4","labels":{` + many.String() + `"k39":"v"}}`:               "labels.k39",
		`{"company":"Prusa","model":"MK4","labels.a":1,"labels":{"a":"1","a":"1"},"labels.a":null}`: "labels.a",
	} {
		if p := w.call("POST", "/api/v1/printers", body).faults(400, field); !strings.Contains(fmt.Sprint(p.Errors), "is given twice") {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	p := w.call("POST", "/api/v1/printers", `{"x":1,"company":"Prusa","x":1,"model":"MK4"}`).faults(400, "x")
	if len(p.Errors) != 2 || !strings.Contains(p.Errors[0].Detail, "is not a field") || p.Errors[1].Detail != "is given twice" {
		t.Errorf("an unknown field, twice: %+v", p.Errors)
	}
}
