package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"raft3d/farm"
)

// field takes the value of one member of a JSON object. Its error needs no field name; object adds it.
type field func(value json.RawMessage) *farm.Error

// fields are the members that an object may have, by name. Names are matched as they are spelled.
type fields map[string]field

// decode reads a body into takes. It refuses what is not one JSON object, duplicate and unknown members (400), and
// reports what the fields refuse: all wrong types together, or else all broken rules.
func decode(body []byte, takes fields) error {
	if !utf8.Valid(body) {
		return malformed("", "the body is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return malformed("", "the body is not one JSON value: "+syntax(err))
	}
	if typeOf(whole) != "an object" {
		return malformed("", "the body must be a JSON object with "+names(takes)+", not "+typeOf(whole))
	}
	var wrongForm, brokenRule []farm.FieldError
	members(whole, func(name string, value json.RawMessage, again bool) {
		take, known := takes[name]
		var fault *farm.Error
		switch {
		case len(wrongForm) >= maxFaults:
			return
		case again:
			fault = malformed(name, "is given twice")
		case !known:
			fault = malformed(name, "is not a field of this call; it takes "+names(takes))
		default:
			fault = take(value)
		}
		switch {
		case fault == nil:
		case fault.Kind == farm.Malformed:
			wrongForm = append(wrongForm, named(fault, name)...)
		default:
			brokenRule = append(brokenRule, named(fault, name)...)
		}
	})
	if err := collect(farm.Malformed, wrongForm); err != nil {
		return err
	}
	return collect(farm.Invalid, brokenRule)
}

// members calls each with the members of a JSON object that is known to be valid; again marks a name that came
// before.
func members(object json.RawMessage, each func(name string, value json.RawMessage, again bool)) {
	d := json.NewDecoder(bytes.NewReader(object))
	next := func() json.Token {
		t, err := d.Token()
		if err != nil {
			panic(fmt.Sprintf("walk a JSON object that was found valid: %v", err))
		}
		return t
	}
	next() // {
	seen := map[string]bool{}
	for d.More() {
		name := next().(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			panic(fmt.Sprintf("walk a JSON object that was found valid: %v", err))
		}
		each(name, value, seen[name])
		seen[name] = true
	}
}

// named puts the member's name on a fault.
func named(fault *farm.Error, name string) []farm.FieldError {
	if fault.Field != "" {
		name = fault.Field
	}
	return append([]farm.FieldError{{Field: name, Detail: fault.Detail}}, fault.More...)
}

func names(takes fields) string { return strings.Join(slices.Sorted(maps.Keys(takes)), ", ") }

func syntax(err error) string {
	var at *json.SyntaxError
	if errors.As(err, &at) {
		return fmt.Sprintf("%v, at byte %d", err, at.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

// typeOf names the JSON type of a valid value.
func typeOf(value json.RawMessage) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

// typed decodes a value of one JSON type into dst, and refuses others.
func typed(value json.RawMessage, want string, dst any) *farm.Error {
	if got := typeOf(value); got != want {
		return malformed("", "must be "+want+", not "+got)
	}
	err := json.Unmarshal(value, dst)
	if err == nil {
		return nil
	}
	var fault *farm.Error
	if errors.As(err, &fault) {
		return fault
	}
	return &farm.Error{Kind: farm.Invalid, Detail: err.Error()}
}

// text takes a string.
func text[T ~string](dst *T) field {
	return func(value json.RawMessage) *farm.Error { return typed(value, "a string", dst) }
}

// identifier takes an id that the client chose. An empty one is not the same as none.
func identifier(dst *farm.ID) field {
	return func(value json.RawMessage) *farm.Error {
		fault := typed(value, "a string", dst)
		if fault == nil && !farm.ValidID(*dst) {
			fault = &farm.Error{Kind: farm.Invalid, Detail: "must be " + idForm}
		}
		return fault
	}
}

// grams takes a weight.
func grams(dst *farm.Grams) field {
	return func(value json.RawMessage) *farm.Error { return typed(value, "a number", dst) }
}

// boolean takes true or false.
func boolean(dst *bool) field {
	return func(value json.RawMessage) *farm.Error { return typed(value, "true or false", dst) }
}

// optional takes what take does, into a new T that dst points at only when the field is given.
func optional[T any](dst **T, take func(*T) field) field {
	return func(value json.RawMessage) *farm.Error {
		var given T
		if fault := take(&given)(value); fault != nil {
			return fault
		}
		*dst = &given
		return nil
	}
}

// removable is optional in a merge patch: null removes the value, which leaves T's zero value.
func removable[T any](dst **T, take func(*T) field) field {
	return func(value json.RawMessage) *farm.Error {
		if typeOf(value) == "null" {
			*dst = new(T)
			return nil
		}
		return optional(dst, take)(value)
	}
}

// lasting is optional in a merge patch for what an object cannot be without: null is refused.
func lasting[T any](dst **T, take func(*T) field) field {
	return func(value json.RawMessage) *farm.Error {
		if typeOf(value) == "null" {
			return &farm.Error{Kind: farm.Invalid, Detail: "is needed, so null cannot remove it"}
		}
		return optional(dst, take)(value)
	}
}

// labels takes a map of strings.
func labels(dst *map[string]string) field {
	return func(value json.RawMessage) *farm.Error {
		given := map[string]string{}
		fault := eachLabel(value, func(key string, value json.RawMessage) *farm.Error {
			var text string
			fault := typed(value, "a string", &text)
			given[key] = text
			return fault
		})
		*dst = given
		return fault
	}
}

// labelPatch takes a merge patch of labels: null removes them all, a key with null removes that one.
func labelPatch(dst **farm.LabelPatch) field {
	return func(value json.RawMessage) *farm.Error {
		if typeOf(value) == "null" {
			*dst = &farm.LabelPatch{Clear: true}
			return nil
		}
		patch := &farm.LabelPatch{Set: map[string]*string{}}
		fault := eachLabel(value, func(key string, value json.RawMessage) *farm.Error {
			if typeOf(value) == "null" {
				patch.Set[key] = nil
				return nil
			}
			var text string
			fault := typed(value, "a string", &text)
			patch.Set[key] = &text
			return fault
		})
		*dst = patch
		return fault
	}
}

// eachLabel calls take with each member of a map of labels, and gathers its faults under labels.KEY.
func eachLabel(value json.RawMessage, take func(key string, value json.RawMessage) *farm.Error) *farm.Error {
	if got := typeOf(value); got != "an object" {
		return malformed("", "must be an object of strings, not "+got)
	}
	var faults []farm.FieldError
	members(value, func(key string, value json.RawMessage, again bool) {
		fault := malformed("", "is given twice")
		if !again {
			fault = take(key, value)
		}
		if fault != nil && len(faults) < maxFaults {
			faults = append(faults, farm.FieldError{Field: "labels." + key, Detail: fault.Detail})
		}
	})
	if len(faults) == 0 {
		return nil
	}
	return &farm.Error{Kind: farm.Malformed, Field: faults[0].Field, Detail: faults[0].Detail, More: faults[1:]}
}

// rejected refuses a field that is known but not taken here, with the reason: 422.
func rejected(detail string) field {
	return func(json.RawMessage) *farm.Error { return &farm.Error{Kind: farm.Invalid, Detail: detail} }
}
