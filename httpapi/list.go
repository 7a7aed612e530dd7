package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"raft3d/farm"
)

// listBuffer is how much of a list is gathered before it is sent, in bytes. A list that fits is sent after its View
// has ended, so that a slow client holds nothing open; of a longer one each part must be taken in writeTimeout.
const listBuffer = 256 << 10

var listBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, listBuffer)) }}

// keptLists has the lists of everything, a kind of object each, that were asked for more than once while nothing changed: a
// farm is looked at far more often than it changes. A list is kept from the second time on, so that one that changes
// between any two calls costs nothing more.
type keptLists struct {
	mu     sync.Mutex
	byKind map[farm.Kind]*keptList // guarded by mu
}

// keptList is a list as it was at a revision.
type keptList struct {
	revision uint64
	asked    int    // how often, until it was there
	total    int    // objects
	body     []byte // as it is sent, never written to; nil: it is not there (yet)
}

// keptListBytes bounds each of them: 20,000 objects, which take some 10 ms to gather.
const keptListBytes = 8 << 20

// at is the list of that kind at that revision, if it is kept. gather asks the caller to keep it.
func (k *keptLists) at(kind farm.Kind, revision uint64) (l keptList, gather bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byKind == nil {
		k.byKind = map[farm.Kind]*keptList{}
	}
	if known := k.byKind[kind]; known == nil || known.revision < revision {
		k.byKind[kind] = &keptList{revision: revision, asked: 1} // the older one is of no more use
		return keptList{}, false
	}
	known := k.byKind[kind]
	if known.revision != revision {
		return keptList{}, false
	}
	known.asked++
	return *known, known.asked == 2 // if it comes to nothing, so would the next
}

// keep takes over a list that was gathered.
func (k *keptLists) keep(kind farm.Kind, revision uint64, total int, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.byKind[kind]; known.revision == revision {
		known.total, known.body = total, body
	}
}

// list answers with all objects that q selects, or with the page of them that is asked for, one a line, as one JSON
// array that shows one state. X-Total-Count is of all that q selects, on every page.
func (s *Server) list(ctx context.Context, c *call, q farm.Query) error {
	all := q
	if err := c.query.page(&q); err != nil {
		return err
	}
	pooled := listBuffers.Get().(*[]byte)
	defer listBuffers.Put(pooled)
	l := &listWriter{w: c.w, buffer: (*pooled)[:0], most: listBuffer}
	mayKeep := c.r.Method == http.MethodGet && reflect.DeepEqual(q, farm.Query{Kind: q.Kind})
	var revision uint64
	var kept keptList
	unchanged, gather := false, false
	err := s.farm.View(ctx, c.read, func(v farm.View) (err error) {
		revision = v.Revision()
		c.w.setRevision(revision)
		c.w.set(headerETag, etag(revision))
		if unchanged = c.ifNoneMatch.matches(revision); unchanged {
			return nil
		}
		if mayKeep {
			if kept, gather = s.lists.at(q.Kind, revision); kept.body != nil {
				return nil
			}
			if gather {
				l.buffer, l.most = nil, keptListBytes
			}
		}
		if kept.total, err = v.Count(all); err != nil {
			return err
		}
		if q.Limit > 0 { // before the page itself: a header cannot follow it
			position, more, err := nextPage(v, q)
			if err != nil {
				return err
			}
			if more {
				c.w.set("Link", c.linkNext(q.Kind, position))
			}
		}
		c.w.listHeader(kept.total)
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
	case kept.body != nil:
		c.w.listHeader(kept.total)
		l.sendWhole(kept.body)
	default:
		l.end()
		if gather && l.whole {
			s.lists.keep(q.Kind, revision, kept.total, l.buffer)
		}
	}
	return nil
}

// listHeader puts on what the header of a list says besides its state.
func (w *response) listHeader(total int) {
	w.set("X-Total-Count", strconv.Itoa(total))
	w.set("Content-Type", contentJSON)
}

// listWriter writes a JSON array.
type listWriter struct {
	w      *response
	buffer []byte
	most   int  // bytes that are gathered before they are sent
	some   bool // an object has been added
	lost   bool // the client has gone
	whole  bool // the list has ended, and buffer is all of it
}

// add appends an object that is in its JSON form. Its error ends the list: the client has gone.
func (l *listWriter) add(object []byte) error {
	separator := ",\n"
	if !l.some {
		separator = "["
		l.some = true
	}
	if len(l.buffer)+len(separator)+len(object) > l.most {
		if err := l.send(l.buffer); err != nil {
			return err
		}
		l.buffer = l.buffer[:0]
	}
	l.buffer = append(l.buffer, separator...)
	l.buffer = append(l.buffer, object...)
	return nil
}

// end closes the array and sends the rest, with its length where that is all.
func (l *listWriter) end() {
	if !l.some {
		l.buffer = append(l.buffer, '[')
	}
	l.buffer = append(l.buffer, "]\n"...)
	if l.whole = l.w.status == 0; l.whole {
		l.sendWhole(l.buffer)
		return
	}
	_ = l.send(l.buffer)
}

func (l *listWriter) sendWhole(list []byte) {
	l.w.set("Content-Length", strconv.Itoa(len(list)))
	_ = l.send(list)
}

// send sends what has been gathered.
func (l *listWriter) send(gathered []byte) error {
	for len(gathered) > 0 {
		n := min(len(gathered), 4*listBuffer) // each piece wakes its reader; larger ones gain nothing more
		l.w.limit(writeTimeout * time.Duration(max(1, n/listBuffer)))
		if _, err := l.w.Write(gathered[:n]); err != nil {
			l.lost = true
			return err
		}
		gathered = gathered[n:]
	}
	return nil
}
