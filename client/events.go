package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// EventsPath is the path of the change feed.
const EventsPath = "/api/v1/events"

const (
	maxEventBytes = 4 << 20          // of one event; the largest object is about a tenth of that
	maxSilence    = 45 * time.Second // of a feed or a backup; nodes show a sign of life every 15 s
)

// Event is one change that the cluster made. Each has the next Revision of one counter.
type Event struct {
	Revision uint64          `json:"revision"`
	Time     time.Time       `json:"time"`
	Kind     string          `json:"kind"` // printer, filament or print_job
	ID       string          `json:"id"`
	Action   string          `json:"action"` // created, updated or deleted
	Actor    string          `json:"actor"`  // who asked for it; may be empty
	Object   json.RawMessage `json:"object"` // the object after the change, or as it was when it was deleted

	Raw json.RawMessage `json:"-"` // the event as it was sent
}

// Feed says which events are wanted.
type Feed struct {
	Since uint64 // the revision after which to begin; 0: the first one ever
	Kind  string // empty: all
	ID    string // empty: all
}

// Watch returns the events of f in the order of their revisions, each exactly once, and waits for more: until ctx ends
// (a *GaveUpError), or an answer that no other node would better (an *Error; a *HistoryLostError where events between the
// last one seen and the oldest one kept are gone). It reads from one node and goes on through the next one when that
// one dies, or shows no sign of life for 45 s. To go on after a restart of your program, keep the Revision of the last
// event that you dealt with, and begin with it.
//
// A node that is cut off from the others tells what it knows, without saying that it is behind; the rest comes later.
func (c *Client) Watch(ctx context.Context, f Feed) iter.Seq2[Event, error] {
	return c.feed(ctx, f, "text/event-stream", readEventStream)
}

// Events returns the events of f that there are now, as Watch does, and ends.
func (c *Client) Events(ctx context.Context, f Feed) iter.Seq2[Event, error] {
	return c.feed(ctx, f, "application/x-ndjson", readLines)
}

// position is where a reader of a feed is.
type position struct {
	revision uint64        // the last one seen
	pause    time.Duration // before the server is asked again; 0: none was asked for
}

// errEnough ends a feed whose reader wants no more of it, and errOver one that came to its end.
var (
	errEnough = errors.New("enough")
	errOver   = errors.New("over")
)

// feedReader reads a feed from r. It moves at on, calls alive at each sign of life, and shows each event that was not seen
// before. It returns what show does, errOver at the feed's end, a *cutError where the feed broke off, or else what makes no
// sense in it.
type feedReader func(r *bufio.Reader, at *position, alive func(), show func(Event) error) error

func (c *Client) feed(ctx context.Context, f Feed, accept string, read feedReader) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		at := &position{revision: f.Since}
		err := c.attempt(ctx, false, c.rotate(), func(rotation *rotation, server *url.URL) error {
			call, err := c.prepare(Request{Method: http.MethodGet, Path: EventsPath, Query: f.query(at.revision)})
			if err != nil {
				return err
			}
			call.header.Set("Accept", accept)
			if at.revision > f.Since { // for what stands in between: it is what browsers send, and it says the same
				call.header.Set("Last-Event-ID", strconv.FormatUint(at.revision, 10))
			}
			silence := watchSilence(ctx)
			defer silence.end()
			response, err := call.send(silence.ctx, server, rotation)
			if err != nil {
				return historyLost(err, at.revision)
			}
			defer response.Body.Close()
			began := time.Now()
			at.pause = 0
			err = &cutError{errNoLength}
			if !endsAnywhere(response, call.method) {
				err = read(bufio.NewReaderSize(response.Body, 64<<10), at, func() {
					silence.broken()
					if time.Since(began) > maxBackoff {
						rotation.answered() // one that hangs up at once, over and over, is no better than a dead one
					}
				}, func(e Event) error {
					rotation.answered()
					silence.pause() // the time that the reader takes is not the server's
					defer silence.broken()
					if !yield(e, nil) {
						return errEnough
					}
					return nil
				})
			}
			var cut *cutError
			if errors.As(err, &cut) {
				rotation.wait(at.pause)
				return &attemptError{cause: causeOf(silence.ctx, fmt.Errorf("%s: %w", server, err))}
			}
			return err
		})
		if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, errOver) {
			yield(Event{}, err)
		}
	}
}

func (f Feed) query(since uint64) url.Values {
	query := url.Values{"since": {strconv.FormatUint(since, 10)}}
	if f.Kind != "" {
		query.Set("kind", f.Kind)
	}
	if f.ID != "" {
		query.Set("id", f.ID)
	}
	return query
}

// silence ends ctx when a server shows no sign of life for maxSilence.
type silence struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func watchSilence(ctx context.Context) *silence {
	ctx, cancel := context.WithCancelCause(ctx)
	return &silence{ctx, cancel, time.AfterFunc(maxSilence, func() {
		cancel(fmt.Errorf("no sign of life for %v", maxSilence))
	})}
}

func (s *silence) broken() { s.timer.Reset(maxSilence) }
func (s *silence) pause()  { s.timer.Stop() }
func (s *silence) end()    { s.timer.Stop(); s.cancel(nil) }

// historyLost makes a *HistoryLostError of a server's 410.
func historyLost(err error, since uint64) error {
	var said *Error
	if errors.As(err, &said) && said.Status == http.StatusGone {
		return &HistoryLostError{Since: since, Oldest: said.OldestRevision}
	}
	return err
}

// accept decodes an event and shows it, unless it was seen before.
func (at *position) accept(raw []byte, show func(Event) error) error {
	e := Event{Raw: bytes.Clone(raw)}
	if err := json.Unmarshal(e.Raw, &e); err != nil {
		return fmt.Errorf("decode an event: %w", err)
	}
	if e.Revision <= at.revision {
		return nil
	}
	at.revision = e.Revision
	return show(e)
}

// readLines reads newline-delimited JSON. A line without its end is no event: it was cut off.
func readLines(r *bufio.Reader, at *position, alive func(), show func(Event) error) error {
	for {
		line, err := readLine(r)
		if err == io.EOF {
			return errOver
		}
		if err != nil {
			return err
		}
		alive()
		if len(line) == 0 {
			continue
		}
		if err := at.accept(line, show); err != nil {
			return err
		}
	}
}

// readEventStream reads server-sent events (WHATWG HTML, 9.2). An event counts when the empty line after it has come. An
// id without data is a position without an event: whatever lies before it is not for this feed.
func readEventStream(r *bufio.Reader, at *position, alive func(), show func(Event) error) error {
	var data []byte
	var id uint64
	for {
		line, err := readLine(r)
		if err == io.EOF {
			return &cutError{err} // such a stream has no end of its own
		}
		if err != nil {
			return err
		}
		alive()
		if len(line) == 0 {
			if len(data) > 0 {
				if err := at.accept(data[:len(data)-1], show); err != nil {
					return err
				}
			}
			at.revision = max(at.revision, id)
			data, id = data[:0], 0
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if len(data)+len(value) > maxEventBytes {
				return errTooLong
			}
			data = append(append(data, value...), '\n')
		case "id":
			if n, err := strconv.ParseUint(string(value), 10, 64); err == nil {
				id = n
			}
		case "retry":
			if n, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				at.pause = min(time.Duration(n)*time.Millisecond, maxRetryAfter)
			}
		}
	}
}

var errTooLong = fmt.Errorf("an event is larger than %d MiB", maxEventBytes>>20)

// readLine returns the next line without its end, be that LF or CRLF. It returns io.EOF at the end of r, and a *cutError
// where r breaks off, or ends within a line.
func readLine(r *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		switch {
		case err == nil && whole == nil:
			return bytes.TrimRight(part, "\r\n"), nil
		case err == nil:
			return bytes.TrimRight(append(whole, part...), "\r\n"), nil
		case err == io.EOF && len(whole)+len(part) == 0:
			return nil, err
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, &cutError{err}
		case len(whole)+len(part) > maxEventBytes:
			return nil, errTooLong
		}
		whole = append(whole, part...)
	}
}
