package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// Error is a server's no: what it said, and how it put it. Asking again changes nothing until something else does.
type Error struct {
	Status int    `json:"status"` // of HTTP: 404, 409, 412, 422, ...
	Title  string `json:"title"`
	Detail string `json:"detail"` // a sentence for a person

	Fields []FieldError `json:"errors"` // the fields at fault

	Outcome        Outcome  `json:"outcome"`                   // of a change that was not answered in time
	Available      *Grams   `json:"available_weight_in_grams"` // what the spool had, where too much of it was asked for
	Allowed        []string `json:"allowed"`                   // the states that the job could have gone to
	OldestRevision uint64   `json:"oldest_revision"`           // the oldest event kept, where an older one was asked for

	Server string `json:"-"` // the node that said no
	Body   []byte `json:"-"` // the answer as it came
}

// FieldError is one fault of a request.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string {
	title := e.Title
	if title == "" {
		title = http.StatusText(e.Status)
	}
	text := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, title))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	for _, fault := range e.Fields {
		// The first fault is usually the detail itself, under the same name.
		if line := fault.Field + ": " + fault.Detail; !strings.HasPrefix(e.Detail, line) {
			text += "; " + line
		}
	}
	return text
}

// errorOf reads an answer that is not a success.
func errorOf(server string, status int, body []byte) *Error {
	e := &Error{}
	if err := json.Unmarshal(body, e); err != nil {
		e = &Error{} // not from a node: a proxy's page, which helps nobody
	}
	e.Status, e.Server, e.Body = status, server, body
	return e
}

// Outcome says whether a change that was not answered may still happen.
type Outcome string

// The outcomes of a change without an answer.
const (
	NotApplied Outcome = "not_applied" // it did not happen and never will
	Unknown    Outcome = "unknown"     // it may have happened, or may yet
)

// GaveUpError says that no node answered before the call's context ended. It wraps the context's error and what went
// wrong last.
type GaveUpError struct {
	Attempts int
	Last     error   // of the last attempt; nil: there was no time for one
	Outcome  Outcome // of a change; empty where nothing was to be changed

	context error
}

func (e *GaveUpError) Error() string {
	text := fmt.Sprintf("gave up after %d attempts: %v", e.Attempts, e.context)
	if e.Attempts == 1 {
		text = fmt.Sprintf("gave up after one attempt: %v", e.context)
	}
	if e.Last != nil {
		text += ": " + e.Last.Error()
	}
	switch e.Outcome {
	case Unknown:
		text += "; the change may have happened, or may yet"
	case NotApplied:
		text += "; the change did not happen"
	}
	return text
}

func (e *GaveUpError) Unwrap() []error {
	if e.Last == nil {
		return []error{e.context}
	}
	return []error{e.context, e.Last}
}

// HistoryLostError ends a feed that was to begin, or go on, before the oldest event that is kept: what happened between
// is not told any more. Read the objects as they are now, then go on from Oldest-1.
type HistoryLostError struct {
	Since  uint64 // the last revision that was seen
	Oldest uint64 // the oldest revision that is kept
}

func (e *HistoryLostError) Error() string {
	return fmt.Sprintf("the changes after revision %d are no longer kept; the oldest one kept is %d", e.Since, e.Oldest)
}

// cutError is an answer that ended before it was whole.
type cutError struct{ cause error }

func (e *cutError) Error() string { return fmt.Sprintf("the answer was cut off: %v", e.cause) }
func (e *cutError) Unwrap() error { return e.cause }

// neverSent says whether err proves that no node has the request.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
