package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"raft3d/farm"
)

// A call that carries an Idempotency-Key happens at most once. The farm's own commands take their key with them into
// the log, where the first copy is decided and the others get its answer. What is done to the cluster or to this node
// is no command: once looks the key up, has the call done, and records its answer.
//
// Kept is what the farm or the cluster decided: an answer of success, 404, 409, 412 or 422. Not kept is what the form
// of a request alone decides (400, 413, 415, and the 422 that needs no farm): it comes out the same each time, and a
// mended request may use the key again. Nor is what may pass (429 and all of 5xx): the key is for trying again.

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotency-Replayed"
	maxKeyLength   = 128 // characters
)

// keptHeaders are those of an answer that its repeats have too.
var keptHeaders = []string{"Content-Type", "Location", "ETag"}

// idempotencyKey is the key that a request carries; empty: none.
func idempotencyKey(h http.Header) (string, error) {
	given := h[headerKey]
	if len(given) == 0 {
		return "", nil
	}
	visible := func(c rune) bool { return '!' <= c && c <= '~' }
	if key := given[0]; len(given) == 1 && key != "" && len(key) <= maxKeyLength &&
		!strings.ContainsFunc(key, func(c rune) bool { return !visible(c) }) {
		return key, nil
	}
	return "", malformed(headerKey, fmt.Sprintf("must be 1 to %d visible ASCII characters, given once", maxKeyLength))
}

// fingerprintOf tells one request from another under the same key: SHA-256 of method, path, query and body, each with
// its length before it. The path is taken decoded, the query in one order and without timeout, which says how long to
// wait and not what for; the body is taken as it was sent, byte by byte.
func (c *call) fingerprintOf() (sum [sha256.Size]byte) {
	var asked string
	if len(c.query) > 0 {
		others := url.Values{}
		for name, values := range c.query {
			if name != paramTimeout {
				others[name] = values
			}
		}
		asked = others.Encode()
	}
	head := make([]byte, 0, 256) // all but the body, for SHA-256 likes few and long parts
	for _, part := range []string{c.r.Method, c.route.path, c.id, asked} {
		head = binary.BigEndian.AppendUint64(head, uint64(len(part)))
		head = append(head, part...)
	}
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(head, uint64(len(c.body))))
	h.Write(c.body)
	h.Sum(sum[:0])
	return sum
}

// keys are the Idempotency-Keys of the calls that once is busy with on this node.
type keys struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // guarded by mu; closed when the call has ended
}

// take waits until no call with key is busy, and makes it the caller's until release is called.
func (k *keys) take(ctx context.Context, key string) (release func(), err error) {
	for {
		k.mu.Lock()
		other, busy := k.busy[key]
		if !busy {
			if k.busy == nil {
				k.busy = map[string]chan struct{}{}
			}
			ended := make(chan struct{})
			k.busy[key] = ended
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.busy, key)
				k.mu.Unlock()
				close(ended)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, &farm.Error{
				Kind: farm.Unavailable, Outcome: farm.Unknown,
				Detail: "the call that this one repeats is still being answered",
			}
		}
	}
}

// once answers a keyed call that is no command of the farm: with what it was answered before, or by having it done.
// The record is made after the deed. Where a node dies between the two, or two nodes are given the same key at the
// same moment, it may be done twice: adding, promoting or removing a member bears that.
func (s *Server) once(ctx context.Context, c *call) error {
	release, err := s.keys.take(ctx, c.key)
	if err != nil {
		return err
	}
	defer release()
	if replayed, err := s.replay(ctx, c); replayed || err != nil {
		return err
	}
	answer, err := s.hold(ctx, c)
	if err != nil {
		return err
	}
	// The client may have gone, or its time be up: what was done is recorded all the same.
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	defer cancel()
	if result, err := s.farm.Do(keep, farm.RecordAnswer{Answer: answer}, s.stamp(c)); err == nil && result.Replayed {
		// Another node was faster, and its answer is the one that all repeats get.
		if replayed, err := s.replay(keep, c); replayed || err != nil {
			return err
		}
	}
	// Without a record too: it was done, and an error here would only have the client do it again.
	sendAnswer(c.w, answer)
	return nil
}

// replay answers with what the key was answered before, if it was.
func (s *Server) replay(ctx context.Context, c *call) (replayed bool, err error) {
	var answer farm.Answer
	var fingerprint [sha256.Size]byte
	err = s.farm.View(ctx, farm.ReadOptions{}, func(v farm.View) error {
		fingerprint, answer, replayed = v.Answered(c.key)
		answer.Body = bytes.Clone(answer.Body)
		return nil
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return false, &farm.Error{Kind: farm.Unavailable, Outcome: farm.NotApplied, Detail: "whether the key was used could not be asked in time"}
	case err != nil || !replayed:
		return false, err
	case fingerprint != c.fingerprint:
		return false, &farm.Error{Kind: farm.Invalid, Field: headerKey, Detail: "was used for another request; a new request needs a new key"}
	}
	c.w.set(headerReplayed, "true")
	sendAnswer(c.w, answer)
	return true, nil
}

// repeats says whether the key of a command was used before, so that nothing new comes of it. Where that cannot be
// asked, it was not.
func (s *Server) repeats(ctx context.Context, c *call) (known bool) {
	if c.key == "" {
		return false
	}
	_ = s.farm.View(ctx, farm.ReadOptions{}, func(v farm.View) error {
		_, _, known = v.Answered(c.key)
		return nil
	})
	return known
}

// hold has the route's handler answer, and returns that instead of sending it. Its error is one that is not kept.
func (s *Server) hold(ctx context.Context, c *call) (farm.Answer, error) {
	held := &heldWriter{header: http.Header{}}
	inner := *c
	inner.w = &response{ResponseWriter: held, server: s, request: c.r.Context()}
	if err := c.route.handle(s, ctx, &inner); err != nil {
		p, known := problemOf(err)
		if !known || !slices.Contains(keptProblems, p.Status) {
			return farm.Answer{}, err
		}
		writeProblem(inner.w, p)
	}
	answer := farm.Answer{Status: inner.w.status, Header: map[string]string{}, Body: held.body.Bytes()}
	for _, name := range keptHeaders {
		if value := held.header.Get(name); value != "" {
			answer.Header[name] = value
		}
	}
	return answer, nil
}

// keptProblems are the refusals that are kept under a key.
var keptProblems = []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}

// sendAnswer sends a as it is, once more.
func sendAnswer(w *response, a farm.Answer) {
	for _, name := range keptHeaders {
		if value, ok := a.Header[name]; ok {
			w.Header().Set(name, value)
		}
	}
	send(w, a.Status, a.Header["Content-Type"], a.Body)
}

// heldWriter is a ResponseWriter that keeps what is written.
type heldWriter struct {
	header http.Header
	body   bytes.Buffer
}

func (w *heldWriter) Header() http.Header         { return w.header }
func (w *heldWriter) WriteHeader(int)             {} // response remembers it
func (w *heldWriter) Write(p []byte) (int, error) { return w.body.Write(p) }
