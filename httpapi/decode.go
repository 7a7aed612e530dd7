package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"raft3d/farm"
)

// taker takes the value of one member of a JSON object. Its error needs no field name; decode adds it.
type taker func(value json.RawMessage) *farm.Error

// field is a member that an object may have. Its name is matched as it is spelled.
type field struct {
	name string
	take taker
}

// fields are all that an object may have: a dozen at most, so that to compare them one by one is faster than to hash.
type fields []field

// find is the place of the field with that name; -1: there is none.
func (takes fields) find(name []byte) int {
	for i := range takes {
		if takes[i].name == string(name) {
			return i
		}
	}
	return -1
}

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
	whole := json.RawMessage(afterBlanks(body))
	if typeOf(whole) != "an object" {
		return malformed("", "the body must be a JSON object with "+names(takes)+", not "+typeOf(whole))
	}
	var wrongForm, brokenRule []farm.FieldError
	var given [maxFields]bool // by the field's place
	var unknown []string      // names; each is a fault, so that they are few
	for rest := afterBlanks(whole[1:]); rest[0] != '}' && len(wrongForm) < maxFaults; {
		var quoted, value json.RawMessage
		quoted, value, rest = nextMember(rest)
		name := said(quoted)
		i := takes.find(name)
		var fault *farm.Error
		switch {
		case i >= 0 && given[i], slices.Contains(unknown, string(name)):
			fault = malformed("", "is given twice")
		case i < 0:
			unknown = append(unknown, string(name))
			fault = malformed("", "is not a field of this call; it takes "+names(takes))
		default:
			given[i] = true
			fault = takes[i].take(value)
		}
		switch {
		case fault == nil:
		case fault.Kind == farm.Malformed:
			wrongForm = append(wrongForm, named(fault, string(name))...)
		default:
			brokenRule = append(brokenRule, named(fault, string(name))...)
		}
	}
	if err := collect(farm.Malformed, wrongForm); err != nil {
		return err
	}
	return collect(farm.Invalid, brokenRule)
}

const (
	maxFields  = 16 // of an object that decode reads
	jsonBlanks = " \t\r\n"
)

// members calls each with the members of a JSON object that is known to be valid, as they stand in it; again marks a name
// that came before. A json.Decoder would check all of it again, and take four times as long.
func members(object json.RawMessage, each func(name string, value json.RawMessage, again bool)) {
	seen := make([]string, 0, 16) // the first names, compared one by one
	var more map[string]bool      // the others: a body has room for 200,000
	for rest := afterBlanks(object[1:]); rest[0] != '}'; {
		var quoted, value json.RawMessage
		quoted, value, rest = nextMember(rest)
		name := stringOf(quoted)
		again := slices.Contains(seen, name) || more[name]
		switch {
		case again:
		case len(seen) < cap(seen):
			seen = append(seen, name)
		case more == nil:
			more = map[string]bool{name: true}
		default:
			more[name] = true
		}
		each(name, value, again)
	}
}

// nextMember is the member with which rest begins, and what comes behind it and its comma.
func nextMember(rest []byte) (name, value json.RawMessage, after []byte) {
	n := valueLength(rest)
	name = rest[:n:n]
	rest = afterBlanks(rest[n:])
	rest = afterBlanks(rest[1:]) // the colon
	n = valueLength(rest)
	value = rest[:n:n]
	if rest = afterBlanks(rest[n:]); rest[0] == ',' {
		rest = afterBlanks(rest[1:])
	}
	return name, value, rest
}

// afterBlanks is b from its first byte that is no blank of JSON.
func afterBlanks(b []byte) []byte {
	for i, c := range b {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return b[i:]
		}
	}
	return nil
}

// valueLength is how many bytes the valid JSON value takes with which b begins.
func valueLength(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			i += stringLength(b[i:]) - 1
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

// stringLength is how many bytes the valid JSON string takes with which b begins.
func stringLength(b []byte) int {
	for i := 1; ; i++ {
		i += bytes.IndexByte(b[i:], '"')
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 { // the last one stands for itself, not for the quote
			return i + 1
		}
	}
}

// said is what a valid JSON string says. Where nothing in it is escaped, that is a part of value.
func said(value json.RawMessage) []byte {
	within := value[1 : len(value)-1]
	if bytes.IndexByte(within, '\\') < 0 {
		return within
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		panic(fmt.Sprintf("read a JSON string that was found valid: %v", err))
	}
	return []byte(text)
}

func stringOf(value json.RawMessage) string { return string(said(value)) }

// named puts the member's name on a fault.
func named(fault *farm.Error, name string) []farm.FieldError {
	if fault.Field != "" {
		name = fault.Field
	}
	return append([]farm.FieldError{{Field: name, Detail: fault.Detail}}, fault.More...)
}

// names lists the fields' names: copies, so that nothing of takes outlives decode, and its callers' fields stay on the stack.
func names(takes fields) string {
	all := make([]string, 0, len(takes))
	for _, f := range takes {
		all = append(all, strings.Clone(f.name))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

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
func text[T ~string](dst *T) taker {
	return func(value json.RawMessage) *farm.Error { return takeText(dst, value) }
}

func takeText[T ~string](dst *T, value json.RawMessage) *farm.Error {
	if got := typeOf(value); got != "a string" {
		return malformed("", "must be a string, not "+got)
	}
	*dst = T(stringOf(value))
	return nil
}

// identifier takes an id that the client chose. An empty one is not the same as none.
func identifier(dst *farm.ID) taker {
	return func(value json.RawMessage) *farm.Error {
		fault := takeText(dst, value)
		if fault == nil && !farm.ValidID(*dst) {
			fault = &farm.Error{Kind: farm.Invalid, Detail: "must be " + idForm}
		}
		return fault
	}
}

// grams takes a weight.
func grams(dst *farm.Grams) taker {
	return func(value json.RawMessage) *farm.Error {
		if got := typeOf(value); got != "a number" {
			return malformed("", "must be a number, not "+got)
		}
		weight, err := farm.ParseGrams(string(value))
		if err != nil {
			return &farm.Error{Kind: farm.Invalid, Detail: err.Error()}
		}
		*dst = weight
		return nil
	}
}

// boolean takes true or false.
func boolean(dst *bool) taker {
	return func(value json.RawMessage) *farm.Error { return typed(value, "true or false", dst) }
}

// optional takes what take does, into a new T that dst points at only when the field is given.
func optional[T any](dst **T, take func(*T) taker) taker {
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
func removable[T any](dst **T, take func(*T) taker) taker {
	return func(value json.RawMessage) *farm.Error {
		if typeOf(value) == "null" {
			*dst = new(T)
			return nil
		}
		return optional(dst, take)(value)
	}
}

// lasting is optional in a merge patch for what an object cannot be without: null is refused.
func lasting[T any](dst **T, take func(*T) taker) taker {
	return func(value json.RawMessage) *farm.Error {
		if typeOf(value) == "null" {
			return &farm.Error{Kind: farm.Invalid, Detail: "is needed, so null cannot remove it"}
		}
		return optional(dst, take)(value)
	}
}

// labels takes a map of strings.
func labels(dst *map[string]string) taker {
	return func(value json.RawMessage) *farm.Error {
		given := map[string]string{}
		fault := eachLabel(value, func(key string, value json.RawMessage) *farm.Error {
			var label string
			fault := takeText(&label, value)
			given[key] = label
			return fault
		})
		*dst = given
		return fault
	}
}

// labelPatch takes a merge patch of labels: null removes them all, a key with null removes that one.
func labelPatch(dst **farm.LabelPatch) taker {
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
			fault := takeText(&set, value)
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
func rejected(detail string) taker {
	return func(json.RawMessage) *farm.Error { return &farm.Error{Kind: farm.Invalid, Detail: detail} }
}
