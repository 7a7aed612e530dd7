package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"raft3d/farm"
)

// listBuffer is how much of a list is gathered before it is sent, in bytes. A list that fits is sent after its View
// has ended, so that a slow client holds nothing open; of a longer one each part must be taken in writeTimeout.
const listBuffer = 256 << 10

var listBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, listBuffer)) }}

// list answers with all objects that q selects, or with the page of them that is asked for, one a line, as one JSON
// array that shows one state. X-Total-Count is of all that q selects, on every page.
func (s *Server) list(ctx context.Context, c *call, q farm.Query) error {
	all := q
	if err := c.query.page(&q); err != nil {
		return err
	}
	pooled := listBuffers.Get().(*[]byte)
	defer listBuffers.Put(pooled)
	l := &listWriter{w: c.w, buffer: (*pooled)[:0]}
	unchanged := false
	err := s.farm.View(ctx, c.read, func(v farm.View) error {
		c.w.setRevision(v.Revision())
		c.w.Header().Set("ETag", etag(v.Revision()))
		if unchanged = c.ifNoneMatch.matches(v.Revision()); unchanged {
			return nil
		}
		total, err := v.Count(all)
		if err != nil {
			return err
		}
		if q.Limit > 0 { // before the page itself: a header cannot follow it
			position, more, err := nextPage(v, q)
			if err != nil {
				return err
			}
			if more {
				c.w.Header().Set("Link", c.linkNext(q.Kind, position))
			}
		}
		c.w.Header().Set("X-Total-Count", strconv.Itoa(total))
		c.w.Header().Set("Content-Type", contentJSON)
		if c.r.Method == http.MethodHead {
			return nil
		}
		return v.List(q, func(_ uint64, object []byte) error { return l.add(object) })
	})
	if l.lost {
		return nil // the client has gone, and nobody is left to tell
	}
	if err != nil {
		for _, name := range []string{"X-Total-Count", "Link", "ETag"} {
			c.w.Header().Del(name)
		}
		return err
	}
	switch {
	case unchanged:
		c.w.WriteHeader(http.StatusNotModified)
	case c.r.Method == http.MethodHead:
		c.w.WriteHeader(http.StatusOK)
	default:
		l.end()
	}
	return nil
}

// listWriter writes a JSON array.
type listWriter struct {
	w      *response
	buffer []byte
	some   bool // an object has been added
	lost   bool // the client has gone
}

// add appends an object that is in its JSON form. Its error ends the list: the client has gone.
func (l *listWriter) add(object []byte) error {
	separator := ",\n"
	if !l.some {
		separator = "["
		l.some = true
	}
	if len(l.buffer)+len(separator)+len(object) > cap(l.buffer) {
		if err := l.flush(); err != nil {
			return err
		}
	}
	l.buffer = append(l.buffer, separator...)
	l.buffer = append(l.buffer, object...)
	return nil
}

// flush sends what has been gathered.
func (l *listWriter) flush() error {
	l.w.limit(writeTimeout)
	_, err := l.w.Write(l.buffer)
	l.buffer = l.buffer[:0]
	l.lost = err != nil
	return err
}

// end closes the array and sends the rest, with its length where that is all.
func (l *listWriter) end() {
	if !l.some {
		l.buffer = append(l.buffer, '[')
	}
	l.buffer = append(l.buffer, "]\n"...)
	if l.w.status == 0 {
		l.w.Header().Set("Content-Length", strconv.Itoa(len(l.buffer)))
	}
	_ = l.flush()
}
