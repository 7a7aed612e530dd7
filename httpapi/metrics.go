package httpapi

import (
	"context"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"raft3d/farm"
)

// metrics counts the calls. What the farm and the cluster are like is read when Prometheus asks, by state.
type metrics struct {
	requests *prometheus.CounterVec   // by route, method, code
	duration *prometheus.HistogramVec // by route, method

	mu     sync.RWMutex
	series map[observed]series // guarded by mu; those that have been counted once, for the vectors find theirs slowly
}

// observed is what tells one answered call from another. Its values are a closed set, whatever clients send.
type observed struct {
	template, method string
	status           int
}

type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

// newMetrics registers the Server's collectors and returns what answers GET /metrics.
func newMetrics(s *Server, registry *prometheus.Registry) (*metrics, http.Handler) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "raft3d_http_requests_total",
			Help: "HTTP requests answered, by route template, method and status code (499: the client left first).",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "raft3d_http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, by route template and method.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"route", "method"}),
		series: map[observed]series{},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "raft3d_build_info",
		Help:        "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": s.build.Version, "commit": s.build.Commit, "goversion": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(
		m.requests, m.duration, build, &state{s},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raft3d_http_requests_in_flight",
			Help: "HTTP requests being served now.",
		}, func() float64 { return float64(s.inFlight.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "raft3d_event_streams",
			Help: "Streams of server-sent events that are open now.",
		}, func() float64 { return float64(s.streams.Load()) }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m, promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// observe counts one answered call.
func (m *metrics) observe(template string, r *http.Request, status int, took time.Duration) {
	method := r.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	if r.Context().Err() != nil {
		status = statusClientGone
	}
	of := m.of(observed{template, method, status})
	of.requests.Inc()
	of.duration.Observe(took.Seconds())
}

// of finds the series of o, or begins them.
func (m *metrics) of(o observed) series {
	m.mu.RLock()
	found, known := m.series[o]
	m.mu.RUnlock()
	if known {
		return found
	}
	found = series{
		requests: m.requests.WithLabelValues(o.template, o.method, strconv.Itoa(o.status)),
		duration: m.duration.WithLabelValues(o.template, o.method),
	}
	m.mu.Lock()
	m.series[o] = found
	m.mu.Unlock()
	return found
}

// stateTimeout bounds how long a scrape, or the header of a refusal, waits for this node's own state.
const stateTimeout = time.Second

// state collects what the cluster and the farm are like as this node knows them.
type state struct{ server *Server }

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	isLeaderDesc     = gauge("raft3d_is_leader", "1 if this node is the leader, else 0.")
	hasLeaderDesc    = gauge("raft3d_has_leader", "1 if this node knows a leader, else 0.")
	termDesc         = gauge("raft3d_term", "The raft term that this node is in.")
	commitDesc       = gauge("raft3d_commit_index", "The newest log entry that this node knows to be committed.")
	appliedDesc      = gauge("raft3d_applied_index", "The newest log entry in this node's state.")
	firstIndexDesc   = gauge("raft3d_log_first_index", "The oldest log entry that this node still has for followers.")
	lastIndexDesc    = gauge("raft3d_log_last_index", "The newest log entry that this node has.")
	pendingDesc      = gauge("raft3d_proposals_pending", "Proposals of this node that wait for their result.")
	membersDesc      = gauge("raft3d_members", "Members of the cluster, by role.", "role")
	revisionDesc     = gauge("raft3d_revision", "The newest change of the farm in this node's state.")
	objectsDesc      = gauge("raft3d_objects", "Objects of the farm, by kind.", "kind")
	jobsDesc         = gauge("raft3d_print_jobs", "Print jobs, by status.", "status")
	remainingDesc    = gauge("raft3d_filament_remaining_grams", "Filament left on all spools.")
	reservedDesc     = gauge("raft3d_filament_reserved_grams", "Filament that queued and running jobs have reserved.")
	stateDescs       = []*prometheus.Desc{isLeaderDesc, hasLeaderDesc, termDesc, commitDesc, appliedDesc, firstIndexDesc, lastIndexDesc, pendingDesc, membersDesc, revisionDesc, objectsDesc, jobsDesc, remainingDesc, reservedDesc}
	roles            = []string{"leader", "voter", "learner"}
	milligramsToGram = float64(farm.Gram)
)

// Describe implements prometheus.Collector.
func (*state) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range stateDescs {
		descs <- desc
	}
}

// Collect implements prometheus.Collector. Where the farm's state cannot be read, its figures are left out.
func (s *state) Collect(sent chan<- prometheus.Metric) {
	set := func(desc *prometheus.Desc, value float64, labels ...string) {
		sent <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	truth := map[bool]float64{true: 1}

	st := s.server.cluster.Status()
	set(isLeaderDesc, truth[st.Role == "leader"])
	set(hasLeaderDesc, truth[st.Leader != ""])
	set(termDesc, float64(st.Term))
	set(commitDesc, float64(st.CommitIndex))
	set(appliedDesc, float64(st.Applied))
	set(firstIndexDesc, float64(st.FirstIndex))
	set(lastIndexDesc, float64(st.LastIndex))
	set(pendingDesc, float64(st.Pending))
	members := map[string]int{}
	for _, m := range st.Members {
		members[m.Role]++
	}
	for _, role := range roles {
		set(membersDesc, float64(members[role]), role)
	}

	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	_ = s.server.farm.View(ctx, farm.ReadOptions{Stale: true}, func(v farm.View) error {
		sum := v.Summary()
		set(revisionDesc, float64(v.Revision()))
		set(objectsDesc, float64(sum.Printers), string(farm.KindPrinter))
		set(objectsDesc, float64(sum.Filaments), string(farm.KindFilament))
		jobs := 0
		for _, status := range farm.Statuses {
			jobs += sum.Jobs[status]
			set(jobsDesc, float64(sum.Jobs[status]), string(status))
		}
		set(objectsDesc, float64(jobs), string(farm.KindJob))
		set(remainingDesc, float64(sum.Remaining)/milligramsToGram)
		set(reservedDesc, float64(sum.Reserved)/milligramsToGram)
		return nil
	})
}
