package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"raft3d/farm"
)

const (
	contentNDJSON = "application/x-ndjson"
	contentEvents = "text/event-stream"

	paramSince        = "since"
	headerLastEventID = "Last-Event-ID"

	eventBatch  = 256      // events read in one View, at most
	eventBuffer = 16 << 10 // bytes that are read in one View, or one event more; what a stream holds while its client takes it
)

var eventBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, eventBuffer)) }}

// The feed of changes shows this node's own state, without asking the cluster: what it tells is committed, in order
// and without a gap, but a node that is cut off tells it late. min_revision waits until this node has come that far.

// listEvents answers with the changes that there are, one a line, or, for a client that accepts them, with server-sent
// events that go on.
func (s *Server) listEvents(ctx context.Context, c *call) error {
	q, since, err := c.eventQuery()
	if err != nil {
		return err
	}
	o := farm.ReadOptions{Stale: true}
	if o.MinRevision, _, err = c.query.revision(paramMinRevision); err != nil {
		return err
	}
	f := &feed{server: s, w: c.w, query: q, form: eventLine}
	header := c.w.Header()
	header.Set("Vary", "Accept")
	header.Set("Cache-Control", "no-store")
	if acceptsEvents(c.r.Header) {
		f.live, f.form = true, eventMessage
		if c.r.Method != http.MethodHead {
			leave, err := s.enterStream()
			if err != nil {
				return err
			}
			defer leave()
		}
	}
	f.takeBuffer()
	defer f.returnBuffer()

	begin, cancel := context.WithTimeout(ctx, c.timeout)
	err = s.farm.View(begin, o, func(v farm.View) error {
		c.w.setRevision(v.Revision())
		if !since { // from the oldest that is kept, whichever that is
			f.query.Since = max(v.Oldest(), 1) - 1
		}
		if !f.live {
			f.until = v.Revision()
		}
		return f.fill(v)
	})
	cancel()
	if err != nil {
		return err
	}
	if f.live {
		header.Set("Content-Type", contentEvents)
		header.Set("X-Accel-Buffering", "no") // nginx would hold back what it gets
	} else {
		header.Set("Content-Type", contentNDJSON)
	}
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	if f.live {
		err = f.follow(ctx)
	} else {
		err = f.finish(ctx)
	}
	if errors.Is(err, errGone) {
		return nil // nobody is left to tell
	}
	return err
}

// eventQuery is which events are asked for. since is false where the client did not say from where on.
func (c *call) eventQuery() (q farm.EventQuery, since bool, err error) {
	if q.Since, since, err = c.query.revision(paramSince); err != nil {
		return q, since, err
	}
	// A client that connects again repeats its first request, with how far it has come beside it.
	if last := c.r.Header.Get(headerLastEventID); last != "" {
		if q.Since, err = strconv.ParseUint(last, 10, 64); err != nil {
			return q, since, malformed(headerLastEventID, "must be the id of an event of this feed: a revision")
		}
		since = true
	}
	kind, given, err := c.query.get("kind")
	if err != nil {
		return q, since, err
	}
	if q.Kind = farm.Kind(kind); given && !slices.Contains(farm.Kinds, q.Kind) {
		return q, since, malformed("kind", "must be printer, filament or print_job")
	}
	q.ID, err = c.query.id("id")
	return q, since, err
}

// acceptsEvents says whether the client asks for server-sent events.
func acceptsEvents(h http.Header) bool {
	for accepted := range strings.SplitSeq(strings.Join(h.Values("Accept"), ","), ",") {
		mediaType, params, err := mime.ParseMediaType(accepted)
		if err != nil || mediaType != contentEvents {
			continue
		}
		q, err := strconv.ParseFloat(cmp.Or(params["q"], "1"), 64)
		return err == nil && q > 0
	}
	return false
}

// feed is one client's way through the changes. It reads them a part at a time, each in a View of its own, in which
// nothing is sent. Only the goroutine of its call uses it.
type feed struct {
	server *Server
	w      *response
	query  farm.EventQuery // Since moves on with each part
	live   bool            // it goes on when there is nothing more for now
	until  uint64          // the last revision that is sent; for a live one there is none
	form   func(b []byte, revision uint64, event []byte) []byte

	pooled *[]byte // where part begins; nil: none is held
	part   []byte  // read and not yet sent
	more   bool    // the part was full: there may be more to read at once
	named  uint64  // the revision that the client was last told, as an id
}

var (
	errGone     = errors.New("the client has gone")
	errPartFull = errors.New("the part is full") // ends a walk; no caller sees it
)

// takeBuffer gives the feed room for a part, and returnBuffer takes it back: a feed that waits has none.
func (f *feed) takeBuffer() {
	f.pooled = eventBuffers.Get().(*[]byte)
	f.part = (*f.pooled)[:0]
}

func (f *feed) returnBuffer() {
	if f.pooled != nil {
		eventBuffers.Put(f.pooled)
	}
	f.pooled, f.part = nil, nil
}

// fill reads the next part from v.
func (f *feed) fill(v farm.View) error {
	f.part, f.more = f.part[:0], false
	end := v.Revision()
	if !f.live {
		end = min(end, f.until)
	}
	q, n := f.query, 0
	q.Limit = eventBatch
	err := v.Events(q, func(revision uint64, event []byte) error {
		if revision > end {
			return errPartFull
		}
		f.part = f.form(f.part, revision, event)
		f.query.Since, f.named = revision, revision
		if n++; n == eventBatch || len(f.part) >= eventBuffer {
			f.more = true
			return errPartFull
		}
		return nil
	})
	if err != nil && !errors.Is(err, errPartFull) {
		return err
	}
	if !f.more {
		f.query.Since = max(f.query.Since, end)
	}
	return nil
}

// next reads the next part from the state as it is now.
func (f *feed) next(ctx context.Context) error {
	return f.server.farm.View(ctx, farm.ReadOptions{Stale: true}, f.fill)
}

// send sends the part.
func (f *feed) send() error {
	if len(f.part) == 0 {
		return nil
	}
	f.w.limit(writeTimeout)
	if f.live && f.server.draining() { // after the limit above, so that Drain cannot slip in between
		f.w.limit(drainLimit)
	}
	_, err := f.w.Write(f.part)
	f.part = f.part[:0]
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	if err != nil {
		return errGone
	}
	return nil
}

// finish sends what there is, up to the state that the feed began with.
func (f *feed) finish(ctx context.Context) error {
	f.w.WriteHeader(http.StatusOK)
	for {
		if err := f.send(); err != nil || !f.more {
			return err
		}
		if err := f.next(ctx); err != nil {
			return err
		}
	}
}

// eventLine is an event as a line of NDJSON.
func eventLine(b []byte, _ uint64, event []byte) []byte {
	return append(append(b, bytes.TrimSpace(event)...), '\n')
}
