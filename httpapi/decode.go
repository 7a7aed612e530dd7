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
	if !json.Valid(body) {
		var none json.RawMessage
		return malformed("", "the body is not one JSON value: "+syntax(json.Unmarshal(body, &none)))
	}
	whole := json.RawMessage(bytes.TrimLeft(body, jsonBlanks))
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

const jsonBlanks = " \t\r\n"

// members calls each with the members of a JSON object that is known to be valid, as they stand in it; again marks a name
// that came before. A json.Decoder would check all of it again, and take four times as long.
func members(object json.RawMessage, each func(name string, value json.RawMessage, again bool)) {
	seen := make(map[string]bool, 8)
	rest := bytes.TrimLeft(object[1:], jsonBlanks)
	for rest[0] != '}' {
		n := valueLength(rest)
		name := stringOf(rest[:n])
		rest = bytes.TrimLeft(rest[n:], jsonBlanks+":")
		n = valueLength(rest)
		each(name, rest[:n:n], seen[name])
		seen[name] = true
		rest = bytes.TrimLeft(rest[n:], jsonBlanks+",")
	}
}

// valueLength is how many bytes the valid JSON value takes with which b begins.
func valueLength(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth == 0 {
				return i + max(1, bytes.IndexAny(b[i:], ",]}"+jsonBlanks))
			}
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// stringOf is what a valid JSON string says.
func stringOf(value json.RawMessage) (text string) {
	if within := value[1 : len(value)-1]; bytes.IndexByte(within, '\\') < 0 {
		return string(within)
	}
	if err := json.Unmarshal(value, &text); err != nil {
		panic(fmt.Sprintf("read a JSON string that was found valid: %v", err))
	}
	return text
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
	return func(value json.RawMessage) *farm.Error {
		if got := typeOf(value); got != "a string" {
			return malformed("", "must be a string, not "+got)
		}
		*dst = T(stringOf(value))
		return nil
	}
}

// identifier takes an id that the client chose. An empty one is not the same as none.
func identifier(dst *farm.ID) field {
	return func(value json.RawMessage) *farm.Error {
		fault := text(dst)(value)
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
			var label string
			fault := text(&label)(value)
			given[key] = label
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
			var set string
			fault := text(&set)(value)
			patch.Set[key] = &set
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
