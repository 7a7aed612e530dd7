package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"raft3d/farm"
)

const (
	headerRevision   = "Raft3d-Revision" // as net/http sends it: any other spelling costs a copy each time
	contentJSON      = "application/json"
	contentProblem   = "application/problem+json"
	retryAfter       = "1" // seconds; an election takes about as long
	outcomeUnknown   = "; the change may still take effect"
	outcomeNot       = "; the change did not take effect"
	statusClientGone = 499 // in metrics only: the client left before its answer
)

// statusOf is the HTTP status of each kind of error: the one place that knows.
var statusOf = map[farm.ErrorKind]int{
	farm.Malformed:          http.StatusBadRequest,
	farm.NotFound:           http.StatusNotFound,
	farm.Conflict:           http.StatusConflict,
	farm.Gone:               http.StatusGone,
	farm.PreconditionFailed: http.StatusPreconditionFailed,
	farm.Invalid:            http.StatusUnprocessableEntity,
	farm.Overloaded:         http.StatusTooManyRequests,
	farm.Unavailable:        http.StatusServiceUnavailable,
	farm.Timeout:            http.StatusGatewayTimeout,
	farm.Full:               http.StatusInsufficientStorage,
}

// refusal is an error of HTTP itself, beside those of the farm.
type refusal struct {
	status int
	detail string
}

func (e *refusal) Error() string { return e.detail }

// malformed is a fault in the form of the request: 400.
func malformed(field, detail string) *farm.Error {
	return &farm.Error{Kind: farm.Malformed, Field: field, Detail: detail}
}

// problem is an error as it is sent (RFC 9457), with what the farm adds to it.
type problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail"`
	Errors    []farm.FieldError `json:"errors,omitempty"`
	Outcome   farm.Outcome      `json:"outcome,omitempty"`
	Available *farm.Grams       `json:"available_weight_in_grams,omitempty"`
	Allowed   []farm.JobStatus  `json:"allowed,omitzero"`
	Oldest    uint64            `json:"oldest_revision,omitempty"`
}

var internalProblem = problem{
	Status: http.StatusInternalServerError,
	Detail: "this node met a fault of its own; its log says which",
}

// fail answers with err. What no client can mend is logged here, and only here.
func (s *Server) fail(c *call, template string, err error) {
	p, known := problemOf(err)
	switch {
	case known && c.route != nil && !c.route.kind.changes():
		p.Outcome = "" // there is nothing that could take effect
	case known:
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p = problem{Status: http.StatusServiceUnavailable, Detail: "the cluster did not answer in time"}
		if c.route.kind.changes() {
			p.Outcome = farm.Unknown
			p.Detail += outcomeUnknown
		}
	default:
		s.log.Error("call failed", "route", template, "method", c.r.Method, "err", err)
		p = internalProblem
	}
	if c.w.status != 0 {
		// The answer has begun. A broken connection is the only way left to say that it is not whole.
		panic(http.ErrAbortHandler)
	}
	writeProblem(c.w, p)
}

// problemOf renders the errors that a client can act on.
func problemOf(err error) (p problem, known bool) {
	var refused *refusal
	if errors.As(err, &refused) {
		return problem{Status: refused.status, Detail: refused.detail}, true
	}
	var fault *farm.Error
	if !errors.As(err, &fault) || statusOf[fault.Kind] == 0 {
		return problem{}, false
	}
	p = problem{
		Status:    statusOf[fault.Kind],
		Detail:    fault.Error(),
		Available: fault.Available,
		Allowed:   fault.Allowed,
		Oldest:    fault.Oldest,
	}
	if fault.Field != "" {
		p.Errors = append(p.Errors, farm.FieldError{Field: fault.Field, Detail: fault.Detail})
	}
	p.Errors = append(p.Errors, fault.More...)
	if fault.Kind == farm.Unavailable {
		p.Outcome = fault.Outcome
		switch fault.Outcome {
		case farm.Unknown:
			p.Detail += outcomeUnknown
		case farm.NotApplied:
			p.Detail += outcomeNot
		}
	}
	return p, true
}

// writeProblem sends p.
func writeProblem(w *response, p problem) {
	p.Type = "about:blank"
	p.Title = http.StatusText(p.Status)
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.set("Retry-After", retryAfter)
	}
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	send(w, p.Status, contentProblem, append(body, '\n'))
}

// send writes a whole answer. A client that has gone is no fault: the write's error is dropped.
func send(w *response, status int, contentType string, body ...[]byte) {
	length := 0
	for _, part := range body {
		length += len(part)
	}
	w.set("Content-Type", contentType)
	w.set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
	for _, part := range body {
		_, _ = w.Write(part)
	}
}

// sendJSON writes v as a whole answer.
func sendJSON(w *response, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	send(w, status, contentJSON, append(body, '\n'))
	return nil
}
