//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"raft3d/client"
	"raft3d/internal/torture/history"
)

const (
	callTimeout  = 2 * time.Second        // that a node is given
	shortTimeout = 150 * time.Millisecond // the same, of an impatient client: what it is told of the outcome must hold
	giveUp       = 3 * time.Second        // until a client doesn't wait for it any more
	retryFor     = 8 * time.Second        // that a client tries other nodes
)

// caller makes calls in three ways: once at one node, as curl does; by the client package, which goes on with the same
// key until it has an answer; and at two nodes at the same moment with one key. Any goroutine may use it.
type caller struct {
	nodes []*node
	http  *http.Client
	all   *client.Client
	began time.Time
	seed  string // of the keys, so that runs don't share them

	failing atomic.Bool // a node may answer 500: its disk is made to fail
}

func newCaller(c *cluster, began time.Time) (*caller, error) {
	var servers []string
	for _, n := range c.nodes {
		servers = append(servers, n.http)
	}
	all, err := client.New(client.Config{Servers: servers, AttemptTimeout: giveUp})
	if err != nil {
		return nil, err
	}
	return &caller{nodes: c.nodes, http: c.client, all: all, began: began, seed: strconv.FormatUint(rand.Uint64(), 36)}, nil
}

// answer is what a call came to.
type answer struct {
	outcome  history.Outcome
	status   int
	shown    uint64
	replayed bool
	body     []byte
	err      error
}

// make carries out one action and notes what came of it.
func (c *caller) make(ctx context.Context, rng *rand.Rand, a action) history.Op {
	o := a.op
	o.Call = time.Since(c.began)
	first := c.nodes[rng.IntN(len(c.nodes))]
	way := rng.IntN(10)
	var got answer
	switch {
	case o.Kind.Reads():
		o.Nodes = []string{first.name}
		o.Stale = rng.IntN(5) == 0
		if o.Stale {
			a.request.Query = url.Values{"consistency": {"stale"}}
		}
		got = c.once(ctx, first, a.request, "")
	case way < 5:
		o.Nodes = []string{first.name}
		got = c.once(ctx, first, a.request, "")
	case way < 8:
		got = c.untilAnswered(ctx, a.request)
	default:
		second := c.nodes[rng.IntN(len(c.nodes))]
		o.Nodes = []string{first.name, second.name}
		key := c.seed + strconv.FormatUint(rng.Uint64(), 36)
		got = c.twice(ctx, &o, first, second, a.request, key)
	}
	if o.Return == 0 {
		o.Return = time.Since(c.began)
	}
	o.Outcome, o.Status, o.Shown = got.outcome, got.status, got.shown
	if got.outcome == history.OK {
		o.Object = got.body
		var object struct{ Revision uint64 }
		if err := json.Unmarshal(got.body, &object); err != nil {
			o.Fault = "an answer of success can't be read: " + err.Error()
		}
		o.Revision = object.Revision
		switch {
		case o.Shown < o.Revision:
			o.Fault = "an answer says that it shows an older state than the object in it has"
		case got.replayed:
			o.Shown = o.Revision // of a state at any time since
		}
	}
	switch got.status {
	case 0, http.StatusOK, http.StatusCreated, http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, http.StatusInsufficientStorage:
	case http.StatusNotFound:
		if !o.Stale { // another node may not have heard of it yet
			o.Fault = "an object that was acknowledged is not found"
		}
	default:
		if got.status == http.StatusInternalServerError && c.failing.Load() {
			break
		}
		o.Fault = fmt.Sprintf("an answer that nothing here should cause: %s", got.body)
	}
	return o
}

// twice sends a request with one key to two nodes at once. The first answer is the answer, and the other must be the same.
func (c *caller) twice(ctx context.Context, o *history.Op, first, second *node, r client.Request, key string) answer {
	var answers [2]answer
	var returned [2]time.Duration
	var calls sync.WaitGroup
	for i, n := range []*node{first, second} {
		calls.Go(func() {
			answers[i] = c.once(ctx, n, r, key)
			returned[i] = time.Since(c.began)
		})
	}
	calls.Wait()
	decided := func(a answer) bool { return a.outcome == history.OK || a.outcome == history.Refused }
	x, y := answers[0], answers[1]
	switch {
	case decided(x) && decided(y):
		if x.status != y.status || string(x.body) != string(y.body) {
			o.Fault = fmt.Sprintf("one key got two answers: %d %s and %d %s", x.status, x.body, y.status, y.body)
		}
		i := 0
		if returned[1] < returned[0] {
			i = 1
		}
		o.Return = returned[i]
		return answers[i]
	case decided(x), decided(y):
		i := 0
		if decided(y) {
			i = 1
		}
		o.Return = returned[i]
		return answers[i]
	case x.outcome == history.NotApplied:
		return y // whatever it says goes for both
	default:
		return x
	}
}

// untilAnswered has the client package make a call.
func (c *caller) untilAnswered(ctx context.Context, r client.Request) answer {
	ctx, cancel := context.WithTimeout(ctx, retryFor)
	defer cancel()
	r.Timeout = 0
	response, err := c.all.Do(ctx, r)
	if err == nil {
		return answer{outcome: history.OK, status: response.Status, shown: response.Revision, replayed: response.Replayed, body: response.Body}
	}
	var no *client.Error
	if errors.As(err, &no) && !isGaveUp(err) {
		return answer{outcome: outcomeOf(no.Status, string(no.Outcome)), status: no.Status, body: no.Body}
	}
	var gaveUp *client.GaveUpError
	if errors.As(err, &gaveUp) && gaveUp.Outcome == client.NotApplied {
		return answer{outcome: history.NotApplied, err: err}
	}
	return answer{outcome: history.Unknown, err: err}
}

func isGaveUp(err error) bool {
	var gaveUp *client.GaveUpError
	return errors.As(err, &gaveUp)
}

// outcomeOf reads an answer that is no success.
func outcomeOf(status int, outcome string) history.Outcome {
	switch {
	case outcome == string(client.NotApplied), status == http.StatusTooManyRequests, status == http.StatusInsufficientStorage:
		return history.NotApplied
	case outcome == string(client.Unknown), status >= 500:
		return history.Unknown
	}
	return history.Refused
}

// once sends a request to one node, once.
func (c *caller) once(ctx context.Context, n *node, r client.Request, key string) answer {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	timeout := callTimeout
	if rand.IntN(3) == 0 {
		timeout = shortTimeout
	}
	query := url.Values{"timeout": {timeout.String()}}
	for name, values := range r.Query {
		query[name] = values
	}
	if r.Query.Get("consistency") == "stale" {
		query.Del("timeout")
	}
	var content io.Reader
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return answer{outcome: history.NotApplied, err: err}
		}
		content = strings.NewReader(string(text))
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, "http://"+n.http+r.Path+"?"+query.Encode(), content)
	if err != nil {
		return answer{outcome: history.NotApplied, err: err}
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	// net/http sends a request with a key again by itself where a connection that it kept breaks: that the last dial was
	// refused proves nothing.
	var connected atomic.Bool
	request = request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}))
	response, err := c.http.Do(request)
	if err != nil {
		if !connected.Load() {
			return answer{outcome: history.NotApplied, err: err}
		}
		return answer{outcome: history.Unknown, err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{outcome: history.Unknown, err: err}
	}
	got := answer{status: response.StatusCode, body: body, replayed: response.Header.Get("Idempotency-Replayed") == "true"}
	got.shown, _ = strconv.ParseUint(response.Header.Get("Raft3D-Revision"), 10, 64) // none is 0
	if response.StatusCode/100 == 2 {
		got.outcome = history.OK
		return got
	}
	var no struct{ Outcome string }
	_ = json.Unmarshal(body, &no) // what is no problem document has no outcome
	got.outcome = outcomeOf(response.StatusCode, no.Outcome)
	return got
}
