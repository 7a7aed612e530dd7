package httpapi

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"raft3d/farm"
)

// route is one thing that may be asked for. HEAD comes with every GET, OPTIONS with every path.
type route struct {
	method string
	path   string   // a template as gorilla/mux spells it; {id} is one path segment, and there is one at most
	query  []string // the query parameters it takes, beside those of its kind
	kind   kind
	body   body
	handle handler
}

// handler answers a call, or returns the error to answer with. ctx ends at the call's deadline, or when the client
// has gone.
type handler func(s *Server, ctx context.Context, c *call) error

// kind is what a route's calls have in common.
type kind int

const (
	read     kind = iota // of the farm: takes consistency, min_revision and timeout
	create               // makes an object: takes timeout; refused while the disk is nearly full
	write                // changes an object: takes timeout and If-Match
	manage               // changes the cluster or this node: takes timeout
	inspect              // of this node: takes timeout
	stream               // goes on for as long as its client takes it; takes timeout, for its beginning
	exempted             // of this node, and answered under any load
)

// changes says whether something is other than before, so that a call may carry an Idempotency-Key.
func (k kind) changes() bool { return k == create || k == write || k == manage }

// Query parameters that more than one route takes.
const (
	paramTimeout     = "timeout"
	paramConsistency = "consistency"
	paramMinRevision = "min_revision"
	paramLabel       = "label" // the one that may be repeated
)

// params lists the query parameters that the route takes.
func (rt *route) params() []string {
	switch rt.kind {
	case read:
		return append(slices.Clone(rt.query), paramConsistency, paramMinRevision, paramTimeout)
	case create, write, manage, inspect, stream:
		return append(slices.Clone(rt.query), paramTimeout)
	default:
		return rt.query
	}
}

// routes is everything that the Server answers. The ones that are called most come first: the router tries them
// in order.
var routes = []route{
	{http.MethodGet, "/api/v1/print_jobs", []string{"status", "printer_id", "filament_id", paramLabel, paramLimit, paramCursor}, read, noBody, (*Server).listJobs},
	{http.MethodPost, "/api/v1/print_jobs", nil, create, neededBody, (*Server).createJob},
	{http.MethodGet, "/api/v1/print_jobs/{id}", nil, read, noBody, object(farm.KindJob)},
	{http.MethodPatch, "/api/v1/print_jobs/{id}", nil, write, neededBody, (*Server).patchJob},
	{http.MethodDelete, "/api/v1/print_jobs/{id}", nil, write, noBody, remove(farm.KindJob)},
	{http.MethodPost, "/api/v1/print_jobs/{id}/status", []string{"status"}, write, optionalBody, (*Server).setJobStatus},

	{http.MethodGet, "/api/v1/printers", []string{"company", "model", paramLabel, paramLimit, paramCursor}, read, noBody, (*Server).listPrinters},
	{http.MethodPost, "/api/v1/printers", nil, create, neededBody, (*Server).createPrinter},
	{http.MethodGet, "/api/v1/printers/{id}", nil, read, noBody, object(farm.KindPrinter)},
	{http.MethodPatch, "/api/v1/printers/{id}", nil, write, neededBody, (*Server).patchPrinter},
	{http.MethodDelete, "/api/v1/printers/{id}", nil, write, noBody, remove(farm.KindPrinter)},

	{http.MethodGet, "/api/v1/filaments", []string{"type", "color", paramLabel, paramLimit, paramCursor}, read, noBody, (*Server).listFilaments},
	{http.MethodPost, "/api/v1/filaments", nil, create, neededBody, (*Server).createFilament},
	{http.MethodGet, "/api/v1/filaments/{id}", nil, read, noBody, object(farm.KindFilament)},
	{http.MethodPatch, "/api/v1/filaments/{id}", nil, write, neededBody, (*Server).patchFilament},
	{http.MethodDelete, "/api/v1/filaments/{id}", nil, write, noBody, remove(farm.KindFilament)},

	{http.MethodGet, "/api/v1/events", []string{paramSince, "kind", "id", paramMinRevision}, stream, noBody, (*Server).listEvents},
	{http.MethodGet, "/api/v1/backup", nil, stream, noBody, (*Server).backup},

	{http.MethodGet, "/api/v1/cluster", nil, inspect, noBody, (*Server).showCluster},
	{http.MethodPost, "/api/v1/cluster/members", nil, manage, neededBody, (*Server).addMember},
	{http.MethodDelete, "/api/v1/cluster/members/{id}", []string{"force"}, manage, noBody, (*Server).removeMember},
	{http.MethodPost, "/api/v1/cluster/members/{id}/promote", nil, manage, noBody, (*Server).promoteMember},
	{http.MethodPost, "/api/v1/cluster/leader", nil, manage, optionalBody, (*Server).moveLeader},

	{http.MethodGet, "/livez", []string{"verbose"}, exempted, noBody, (*Server).livez},
	{http.MethodGet, "/readyz", []string{"verbose"}, exempted, noBody, (*Server).readyz},
	{http.MethodGet, "/metrics", nil, exempted, noBody, (*Server).showMetrics},
	{http.MethodGet, "/version", nil, inspect, noBody, (*Server).showVersion},
	{http.MethodPost, "/debug/snapshot", nil, manage, noBody, (*Server).takeSnapshot},
	{http.MethodGet, "/openapi.json", nil, inspect, noBody, (*Server).showOpenAPI},
	{http.MethodGet, "/docs", nil, inspect, noBody, (*Server).showDocs},
	{http.MethodGet, "/", nil, inspect, noBody, (*Server).index},
}

// Short says whether a call is answered with one short piece, whatever comes of it, so that front.Server may answer it: all
// changes are, and single objects.
func Short(r *http.Request) bool {
	path, under := strings.CutPrefix(r.URL.Path, "/api/v1/")
	if r.Method != http.MethodGet {
		return under
	}
	collection, _, single := strings.Cut(path, "/")
	return under && single && (collection == "print_jobs" || collection == "printers" || collection == "filaments")
}

// resource is what stands at one path.
type resource struct {
	before, after string            // the path around its {id}; before is all of a path without one
	named         bool              // the path has an {id}
	methods       map[string]*route // with HEAD
	allow         string            // the value of an Allow header
}

// idIn says whether path, as it was sent, is the resource's, and what stands in it for {id}: one segment, still encoded.
func (res *resource) idIn(path string) (id string, ok bool) {
	if !res.named {
		return "", path == res.before
	}
	rest, begins := strings.CutPrefix(path, res.before)
	id, ends := strings.CutSuffix(rest, res.after)
	return id, begins && ends && id != "" && !strings.Contains(id, "/")
}

// noVars keeps mux from making a map of its own each time; idIn is asked instead. Nobody writes to it.
var noVars = map[string]string{}

// match is what mux asks. Its own matcher of a template runs a regular expression twice, and makes a map of one name.
func (res *resource) match(r *http.Request, match *mux.RouteMatch) bool {
	// The letters of before stand for themselves however a path is sent, so that this passes over no path of res.
	if !strings.HasPrefix(r.URL.Path, res.before) {
		return false
	}
	_, ok := res.idIn(r.URL.EscapedPath())
	match.Vars = noVars
	return ok
}

// newRouter has one gorilla/mux route a path, named by its template, and what stands there. It matches the path as it
// was sent, so that an encoded slash stays inside its segment, and it is only asked to match: mux's own answers (a
// 301 that makes a POST a GET, plain text errors) are never given.
func newRouter(routes []route) (*mux.Router, map[string]*resource) {
	router := mux.NewRouter()
	resources := map[string]*resource{}
	for i := range routes {
		rt := &routes[i]
		res, ok := resources[rt.path]
		if !ok {
			res = &resource{methods: map[string]*route{}}
			res.before, res.after, res.named = strings.Cut(rt.path, "{id}")
			resources[rt.path] = res
			router.MatcherFunc(res.match).Name(rt.path).Handler(http.NotFoundHandler())
		}
		res.methods[rt.method] = rt
		if rt.method == http.MethodGet {
			res.methods[http.MethodHead] = rt
		}
		res.allow = strings.Join(append(slices.Sorted(maps.Keys(res.methods)), http.MethodOptions), ", ")
	}
	return router, resources
}
