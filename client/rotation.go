package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	minBackoff    = 50 * time.Millisecond // after the first round through all servers
	maxBackoff    = 2 * time.Second       // about what an election takes at its worst
	maxRetryAfter = 30 * time.Second      // a server that asks for more is asked again after that
)

// rotation is the order in which one call asks the servers: each once, beginning with the one that answered last; then,
// after a pause, again. A pause is drawn between half and all of a span that doubles each round, so that many clients that
// lost the same node do not come back together. A server that said when to come back is not asked before.
type rotation struct {
	client    *Client
	at        int  // index in client.servers
	begun     bool // a server was asked
	failures  int  // since the last answer
	notBefore []time.Time
}

func (c *Client) rotate() *rotation {
	return &rotation{client: c, at: int(c.last.Load()), notBefore: make([]time.Time, len(c.servers))}
}

// next waits as long as is due and returns the server to ask; its error says why ctx ended.
func (r *rotation) next(ctx context.Context) (*url.URL, error) {
	var pause time.Duration
	if n := len(r.client.servers); r.begun {
		r.at = (r.at + 1) % n
		r.failures++
		if round := r.failures / n; r.failures%n == 0 {
			span := min(minBackoff<<min(round-1, 10), maxBackoff)
			pause = span/2 + rand.N(span/2)
		}
	}
	r.begun = true
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if pause = max(pause, time.Until(r.notBefore[r.at])); pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
	}
	return r.client.servers[r.at], nil
}

// answered notes that the server asked last answers: this and other calls begin with it from now on.
func (r *rotation) answered() {
	r.failures = 0
	r.client.last.Store(int64(r.at))
}

// wait notes that the server asked last wants to be left alone for a while.
func (r *rotation) wait(pause time.Duration) {
	r.notBefore[r.at] = time.Now().Add(min(pause, maxRetryAfter))
}

// refused notes when the server asked last wants to be asked again.
func (r *rotation) refused(header http.Header) {
	if wait, ok := retryAfter(header.Get("Retry-After"), time.Now()); ok {
		r.wait(wait)
	}
}

// retryAfter reads a Retry-After header: seconds, or a date.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return at.Sub(now), true
	}
	return 0, false
}

// worthRetrying says whether another node, or this one later, may answer better than with this status.
func worthRetrying(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout:
		return true
	}
	return false
}
