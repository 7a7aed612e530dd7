package httpapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"raft3d/farm"
)

// call is one request on its way: the route that it matched and what it asks for, checked. It lives as long as its
// handler.
type call struct {
	w                    *response
	r                    *http.Request
	route                *route
	id                   string // {id}, decoded and of the right form; empty where the path has none
	query                query  // the route's own parameters
	read                 farm.ReadOptions
	timeout              time.Duration // for the answer; of a stream: for its beginning
	ifMatch, ifNoneMatch tags
	key                  string            // Idempotency-Key; empty: none
	fingerprint          [sha256.Size]byte // of a request with a key
	body                 []byte            // nil: there is none
}

// serve answers one request: it finds the route, counts the call and gives it its deadline, and renders its error.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	c := &call{w: &response{ResponseWriter: w, server: s, request: r.Context()}, r: r}
	template, res := "unmatched", (*resource)(nil)
	var match mux.RouteMatch
	if s.router.Match(r, &match) {
		template = match.Route.GetName()
		res = s.resources[template]
		c.route = res.methods[r.Method]
		c.id, _ = res.idIn(r.URL.EscapedPath())
		c.w.showsState = c.route != nil && c.route.kind != exempted
	}
	running := s.inFlight.Add(1)
	defer func() {
		s.inFlight.Add(-1)
		s.metrics.observe(template, r, c.w.status, time.Since(began))
	}()
	defer s.recoverPanic(c, template)

	if err := s.dispatch(c, res, running); err != nil {
		s.fail(c, template, err)
	}
}

// atOnce is how a read is answered that waits for nothing, so that it needs no deadline.
var atOnce = farm.ReadOptions{Stale: true}

// dispatch refuses what needs no handler, and has the route's handler answer the rest.
func (s *Server) dispatch(c *call, res *resource, running int64) error {
	if res == nil {
		return &refusal{status: http.StatusNotFound, detail: "nothing is at this path; API.md lists what there is"}
	}
	if c.route == nil {
		c.w.Header().Set("Allow", res.allow)
		if c.r.Method == http.MethodOptions {
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return &refusal{status: http.StatusMethodNotAllowed, detail: "this path takes " + res.allow}
	}
	if c.route.kind != exempted && running > s.maxInFlight {
		c.w.showsState = false
		return &farm.Error{Kind: farm.Overloaded, Detail: fmt.Sprintf("this node already serves %d calls; try again", s.maxInFlight)}
	}
	if err := c.parse(); err != nil {
		return err
	}
	var err error
	if c.body, err = c.readBody(); err != nil {
		return err
	}
	if c.key != "" {
		c.fingerprint = c.fingerprintOf()
	}
	if c.route.kind == stream || c.read == atOnce {
		return c.route.handle(s, c.r.Context(), c)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.timeout)
	defer cancel()
	if c.route.kind == create && s.diskNearlyFull() && !s.repeats(ctx, c) {
		return &farm.Error{Kind: farm.Full, Detail: "this node's disk is nearly full: nothing can be created until there is room; reads, changes of state and deletions go on"}
	}
	if c.route.kind == manage && c.key != "" {
		return s.once(ctx, c)
	}
	return c.route.handle(s, ctx, c)
}

// parse checks the id, the query parameters and the headers that change what a call means.
func (c *call) parse() (err error) {
	if c.id != "" {
		id, err := url.PathUnescape(c.id)
		if err != nil || !farm.ValidID(farm.ID(id)) {
			return &farm.Error{Kind: farm.NotFound, Detail: "nothing has this id: an id is " + idForm}
		}
		c.id = id
	}
	if c.r.URL.RawQuery != "" {
		if c.query, err = parseQuery(c.r.URL.RawQuery, c.route.params()); err != nil {
			return err
		}
	}
	if c.route.kind == read {
		if c.read, err = c.query.readOptions(); err != nil {
			return err
		}
	}
	if c.timeout, err = c.query.timeout(); err != nil {
		return err
	}
	if c.route.kind.changes() {
		if c.key, err = idempotencyKey(c.r.Header); err != nil {
			return err
		}
	}
	return c.parsePreconditions()
}

// stamp is what varies between nodes, decided now.
func (s *Server) stamp(c *call) farm.Stamp {
	stamp := farm.Stamp{At: farm.TimeOf(s.now()), Key: c.key, Fingerprint: c.fingerprint}
	c.ifMatch.stamp(&stamp)
	return stamp
}

// recoverPanic turns a panic into a 500, or, when the answer has begun, into a broken connection: a client must not
// take half an answer for a whole one.
func (s *Server) recoverPanic(c *call, template string) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	s.log.Error("handler panicked", "route", template, "method", c.r.Method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if c.w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	c.w.showsState = false
	writeProblem(c.w, internalProblem)
}

// response is a ResponseWriter that remembers its status and puts the headers on that every answer has.
type response struct {
	http.ResponseWriter
	server     *Server
	request    context.Context
	status     int  // 0 until the header is written
	showsState bool // Raft3D-Revision is read from the store where no handler has set it; else it is the newest seen

	values [8]string // of the header that set has put on, so that one allocation serves them all
	used   int       // of values
}

// set puts on a header whose name is spelled as net/http sends it.
func (w *response) set(name, value string) {
	if w.used == len(w.values) {
		w.Header()[name] = []string{value}
		return
	}
	w.values[w.used] = value
	w.used++
	w.Header()[name] = w.values[w.used-1 : w.used : w.used]
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// setRevision says which state the answer shows.
func (w *response) setRevision(revision uint64) {
	w.set(headerRevision, strconv.FormatUint(revision, 10))
	for seen := w.server.seen.Load(); seen < revision && !w.server.seen.CompareAndSwap(seen, revision); {
		seen = w.server.seen.Load()
	}
}

func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.Header()[headerRevision] == nil {
		revision := w.server.seen.Load()
		if w.showsState {
			revision = w.server.currentRevision(w.request)
		}
		w.setRevision(revision)
	}
	w.set("X-Content-Type-Options", "nosniff")
	w.ResponseWriter.WriteHeader(status)
}

// limit bounds how long the client may take over what is written next. A connection that cannot be limited has no
// client that could be slow.
func (w *response) limit(d time.Duration) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(d))
}

func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriter.Write(p)
}

// currentRevision is the state of this node's store now, or the newest one seen where the store does not answer.
func (s *Server) currentRevision(ctx context.Context) uint64 {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	revision := s.seen.Load()
	// The error says that there is no newer state to see: the newest one seen is the answer then.
	_ = s.farm.View(ctx, farm.ReadOptions{Stale: true}, func(v farm.View) error {
		revision = v.Revision()
		return nil
	})
	return revision
}
