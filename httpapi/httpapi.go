// Package httpapi talks to the people and programs that use the farm: REST over HTTP, as API.md promises it.
//
// There are three nouns: a Server, a route (what may be asked for, see routes.go), and a call (one request on its
// way). Whatever can be refused without asking the cluster is refused here, with the field named: the form of a
// request, its size, its parameters. Whatever depends on the farm as it stands is left to farm.Decide, which
// answers while the log is applied; nothing in this package reads first and writes afterwards.
//
// The Server sees the world through two interfaces of its own, Farm and Cluster. It owns no goroutine and keeps no
// state but counters and the Idempotency-Keys that it is busy with; net/http calls it from many goroutines at once.
// Every call that may wait has a deadline, or, where it lasts for as long as its client listens, a limit for each part
// that it sends; every body has a bound, and the calls in flight and the open streams are counted. Middleware stands
// around the router, never in it, so that unknown paths pass through it as well.
//
// Never write to the client while a View is open, but in list and backup, which bound each write: a View pins a state
// of the store.
package httpapi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"raft3d/farm"
	"raft3d/raftnode"
)

// Farm is the print farm as the cluster has agreed on it. Errors that a client can act on are *farm.Error; any
// other is a fault of this node.
type Farm interface {
	// Do has the cluster decide c and returns what it made, or the farm's refusal. What is not of the right form and has
	// no key never enters the log. When ctx ends first, the error is Unavailable and says whether the command may still
	// take effect.
	Do(ctx context.Context, c farm.Command, s farm.Stamp) (farm.Result, error)
	// View calls fn with one consistent state, as fresh as o asks for, and returns fn's error as it is. Like Get it waits
	// for nothing where o says Stale and no more: ctx may have no deadline then.
	View(ctx context.Context, o farm.ReadOptions, fn func(farm.View) error) error
	// Get is one object as a View would show it, and the revision of that state; nil: there is none. Nobody writes to it.
	Get(ctx context.Context, kind farm.Kind, id farm.ID, o farm.ReadOptions) (object []byte, revision uint64, err error)
	// Wait returns when this node's state has a revision after that one, or ctx ends.
	Wait(ctx context.Context, after uint64) error
	// Backup writes a copy of the whole state, as fresh as a linearizable read, that names the cluster, and returns
	// the revision that it shows. After an error what was written is no copy.
	Backup(ctx context.Context, clusterID string, w io.Writer) (revision uint64, err error)
}

// Cluster is the group of nodes that keeps the farm, seen from this node. Its errors are like those of Farm.
type Cluster interface {
	// Status is this node's own view; it never blocks.
	Status() raftnode.Status
	// ClusterStatus is Status with match indexes and contacts from the leader, where the leader answers.
	ClusterStatus(ctx context.Context) (raftnode.Status, error)
	// AddMember admits m as a learner and returns it as admitted. It is idempotent by MemberID where that is given.
	AddMember(ctx context.Context, m raftnode.Member) (raftnode.Member, error)
	// RemoveMember removes the member with that name for ever; force accepts the loss of a live quorum.
	RemoveMember(ctx context.Context, id string, force bool) error
	// Promote makes a learner that has caught up a voter.
	Promote(ctx context.Context, id string) error
	// TransferLeader moves the leadership to the named member, or to the best one where id is empty.
	TransferLeader(ctx context.Context, id string) (leader string, err error)
	// TakeSnapshot writes a snapshot of the applied state now and drops the log before it.
	TakeSnapshot(ctx context.Context) (index, term uint64, bytes int64, err error)
}

// Build says which program this is.
type Build struct {
	Version string // empty: "dev"
	Commit  string // empty: "unknown"
}

// Config is what a Server needs. Only Farm and Cluster have no default.
type Config struct {
	Farm    Farm
	Cluster Cluster
	Logger  *slog.Logger // nil: nothing is logged

	// Registry is what /metrics shows; the Server adds its own collectors to it, and those of the Go runtime and of
	// the process. nil: a new one.
	Registry *prometheus.Registry
	Build    Build

	DiskNearlyFull func() bool      // must not block; nil: never
	Failed         func() error     // the error that stopped this node for good, for /livez; must not block; nil: never
	Now            func() time.Time // nil: time.Now
	NewID          func() string    // ids of objects created without one; nil: UUIDv7

	MaxInFlight int // calls served at once; more are refused with 429. 0: 4096, a few hundred bytes to 1 MiB each
	MaxStreams  int // event streams open at once, which are no calls in flight; more are refused with 429. 0: 8192, about 30 KiB each
}

const (
	defaultMaxInFlight = 4096 // calls
	defaultMaxStreams  = 8192
	defaultTimeout     = 5 * time.Second
	minTimeout         = time.Millisecond
	maxTimeout         = 60 * time.Second
	maxBodyBytes       = 1 << 20
	readTimeout        = 15 * time.Second // for a request to arrive, its body included
	writeTimeout       = 15 * time.Second // for an answer, or for each part of a long one, to be taken
)

// Server answers HTTP requests. Make it with New.
type Server struct {
	farm    Farm
	cluster Cluster
	log     *slog.Logger
	build   Build

	diskNearlyFull func() bool
	failed         func() error
	now            func() time.Time
	newID          func() string
	maxInFlight    int64
	maxStreams     int64

	router    *mux.Router
	resources map[string]*resource // by path template
	scrape    http.Handler         // GET /metrics
	metrics   *metrics

	inFlight atomic.Int64
	streams  atomic.Int64
	seen     atomic.Uint64 // the newest revision that an answer showed
	keys     keys
	lists    keptLists

	drained context.Context // ends when Drain is called
	drain   context.CancelFunc
}

// New returns a Server that is ready to serve. It panics if c.Registry already has collectors of the same names.
func New(c Config) *Server {
	s := &Server{
		farm:           c.Farm,
		cluster:        c.Cluster,
		log:            c.Logger,
		build:          Build{Version: cmp.Or(c.Build.Version, "dev"), Commit: cmp.Or(c.Build.Commit, "unknown")},
		diskNearlyFull: c.DiskNearlyFull,
		failed:         c.Failed,
		now:            c.Now,
		newID:          c.NewID,
		maxInFlight:    int64(cmp.Or(c.MaxInFlight, defaultMaxInFlight)),
		maxStreams:     int64(cmp.Or(c.MaxStreams, defaultMaxStreams)),
	}
	s.drained, s.drain = context.WithCancel(context.Background())
	s.router, s.resources = newRouter(routes)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.diskNearlyFull == nil {
		s.diskNearlyFull = func() bool { return false }
	}
	if s.failed == nil {
		s.failed = func() error { return nil }
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.newID == nil {
		s.newID = func() string { return uuid.Must(uuid.NewV7()).String() }
	}
	registry := c.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	s.metrics, s.scrape = newMetrics(s, registry)
	return s
}

// Handler is what an http.Server serves whose limits ServerTimeouts has set.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Drain makes /readyz say 503 from now on, so that load balancers turn away, and ends the streams of events, which
// would not end by themselves; all else goes on. It is called when a shutdown begins, and returns at once.
func (s *Server) Drain() { s.drain() }

func (s *Server) draining() bool { return s.drained.Err() != nil }

// ServerTimeouts sets the limits of h that the Server counts on: without them a client may hold a connection for ever
// by sending or taking nothing. Long lists, streams of events and backups move the limit for writing as they go, so
// that they may take as long as their client keeps reading.
func ServerTimeouts(h *http.Server) {
	h.ReadHeaderTimeout = 5 * time.Second
	h.ReadTimeout = readTimeout
	h.WriteTimeout = readTimeout + maxTimeout + writeTimeout
	h.IdleTimeout = 60 * time.Second
	h.MaxHeaderBytes = 32 << 10
}
