package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// Request is one call, for what has no method of its own.
type Request struct {
	Method string
	Path   string     // "/api/v1/printers/mk4", its segments escaped
	Query  url.Values // nil: none
	Body   any        // sent as JSON; nil: none

	// IfMatch is the revision that the object must still have; 0: any. A node that finds another answers 412.
	IfMatch uint64

	// Key is the Idempotency-Key of a POST, PATCH or DELETE, of 1 to 128 visible ASCII characters; empty: a random one.
	Key string

	// Timeout is how long a node may take, up to 60 s; 0: the node's own limit, 5 s.
	Timeout time.Duration
}

// Response is the answer to a Request: a success, held whole.
type Response struct {
	Status   int
	Header   http.Header
	Body     []byte
	Revision uint64 // the state of the farm that the answer shows
	Replayed bool   // an earlier attempt had already had its effect; this is its answer
	Server   string // the node that answered
}

// Do makes a call, through as many nodes and as often as it takes. Its error is an *Error or a *GaveUpError, or says that
// r cannot be sent at all.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	call, err := c.prepare(r)
	if err != nil {
		return nil, err
	}
	var answer *Response
	err = c.attempt(ctx, call.changes(), c.rotate(), func(rotation *rotation, server *url.URL) error {
		attemptCtx, cancel := context.WithTimeoutCause(ctx, call.limit, fmt.Errorf("no answer within %v", call.limit))
		defer cancel()
		answer, err = call.once(attemptCtx, server, rotation)
		return err
	})
	return answer, err
}

// attempt has try ask one server after the other, until it returns nil or an error that no other server could mend.
// changes says that what is tried may change something.
func (c *Client) attempt(ctx context.Context, changes bool, rotation *rotation, try func(*rotation, *url.URL) error) error {
	gaveUp := &GaveUpError{}
	if changes {
		gaveUp.Outcome = NotApplied
	}
	for {
		server, err := rotation.next(ctx)
		if err != nil {
			gaveUp.context = err
			return gaveUp
		}
		gaveUp.Attempts++
		err = try(rotation, server)
		var failed *attemptError
		if !errors.As(err, &failed) {
			rotation.answered()
			return err
		}
		gaveUp.Last = failed.cause
		if changes && !failed.notApplied {
			gaveUp.Outcome = Unknown // and it stays so: what comes later proves nothing about this attempt
		}
	}
}

// attemptError is the end of an attempt after which another one may do better.
type attemptError struct {
	cause      error
	notApplied bool // the attempt certainly changed nothing
}

func (e *attemptError) Error() string { return e.cause.Error() }
func (e *attemptError) Unwrap() error { return e.cause }

// prepared is a Request in the form in which it is sent, the same in all attempts.
type prepared struct {
	client *Client
	method string
	path   string // with its query
	header http.Header
	body   []byte
	limit  time.Duration // of an attempt; 0: none
}

func (c *Client) prepare(r Request) (*prepared, error) {
	p := &prepared{client: c, method: r.Method, path: r.Path, header: http.Header{}, limit: c.attemptTimeout}
	p.header.Set("Accept", "application/json")
	p.header.Set("User-Agent", c.userAgent)
	if r.Body != nil {
		body, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("encode the body of %s %s: %w", r.Method, r.Path, err)
		}
		p.body = body
		p.header.Set("Content-Type", "application/json")
	}
	if r.IfMatch != 0 {
		p.header.Set("If-Match", strconv.Quote(strconv.FormatUint(r.IfMatch, 10)))
	}
	if p.changes() {
		key := r.Key
		if key == "" {
			key = rand.Text() // 130 bits
		}
		p.header.Set("Idempotency-Key", key)
	}
	query := url.Values{}
	for name, values := range r.Query {
		query[name] = values
	}
	if r.Timeout > 0 {
		query.Set("timeout", r.Timeout.String())
		p.limit = max(p.limit, r.Timeout+5*time.Second)
	}
	if len(query) > 0 {
		p.path += "?" + query.Encode()
	}
	return p, nil
}

func (p *prepared) changes() bool { return p.method != http.MethodGet && p.method != http.MethodHead }

// send asks one server and returns its answer, a success, with its body still to be read and closed. ctx must outlive the
// body.
func (p *prepared) send(ctx context.Context, server *url.URL, rotation *rotation) (*http.Response, error) {
	// A deadline may end the attempt while it is still dialling: then nothing was sent either.
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), p.method, server.String()+p.path, bytes.NewReader(p.body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", p.method, p.path, err)
	}
	if p.body == nil {
		request.Body, request.GetBody = nil, nil
	}
	request.Header = p.header.Clone()
	response, err := p.client.http.Do(request)
	if err != nil {
		return nil, &attemptError{cause: causeOf(ctx, err), notApplied: !connected.Load() && (neverSent(err) || ctx.Err() != nil)}
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	body, err := readWhole(response, p.method, maxErrorBytes)
	if err != nil {
		return nil, &attemptError{cause: causeOf(ctx, fmt.Errorf("%s: %d: %w", server, response.StatusCode, err))}
	}
	said := errorOf(server.String(), response.StatusCode, body)
	if !worthRetrying(response.StatusCode) {
		return nil, said
	}
	rotation.refused(response.Header)
	return nil, &attemptError{
		cause:      fmt.Errorf("%s: %w", server, said),
		notApplied: said.Outcome == NotApplied || response.StatusCode == http.StatusTooManyRequests,
	}
}

// once asks one server and reads its whole answer.
func (p *prepared) once(ctx context.Context, server *url.URL, rotation *rotation) (*Response, error) {
	response, err := p.send(ctx, server, rotation)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := readWhole(response, p.method, maxAnswerBytes)
	var cut *cutError
	switch {
	case errors.As(err, &cut):
		return nil, &attemptError{cause: causeOf(ctx, fmt.Errorf("%s: %w", server, err))}
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", p.method, p.path, err)
	}
	return &Response{
		Status:   response.StatusCode,
		Header:   response.Header,
		Body:     body,
		Revision: revisionOf(response.Header),
		Replayed: response.Header.Get("Idempotency-Replayed") == "true",
		Server:   server.String(),
	}, nil
}

// causeOf is err, or why ctx ended where that is what err comes from.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return err
}

var errNoLength = errors.New("it does not say how long it is")

// readWhole reads the body of an answer that ends where it says that it ends; a *cutError if it does not.
func readWhole(response *http.Response, method string, limit int64) ([]byte, error) {
	if endsAnywhere(response, method) {
		return nil, &cutError{errNoLength}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, &cutError{err}
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the answer is larger than %d MiB", limit>>20)
	}
	return body, nil
}

// endsAnywhere says whether the end of the answer is the end of its connection, so that half of it looks like all of it.
// A node always tells; a header that was cut off may not.
func endsAnywhere(response *http.Response, method string) bool {
	return method != http.MethodHead && response.StatusCode != http.StatusNoContent && response.ProtoMajor == 1 &&
		response.ContentLength < 0 && len(response.TransferEncoding) == 0
}

// revisionOf is the state that an answer shows; 0 where it does not say.
func revisionOf(header http.Header) uint64 {
	revision, err := strconv.ParseUint(header.Get("Raft3D-Revision"), 10, 64)
	if err != nil {
		return 0
	}
	return revision
}

// fetch makes a call and decodes its answer into T.
func fetch[T any](ctx context.Context, c *Client, r Request) (answer T, err error) {
	response, err := c.Do(ctx, r)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(response.Body, &answer); err != nil {
		return answer, fmt.Errorf("decode the answer of %s to %s %s: %w", response.Server, r.Method, r.Path, err)
	}
	return answer, nil
}
