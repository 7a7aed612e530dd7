package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
)

// readyLag is how many entries this node's state may be behind what it knows to be committed and still be close.
const readyLag = 1000

// check is one thing that must hold for a node to be well; nil says that it does.
type check struct {
	name  string
	fault error
}

// livez says whether the process is worth keeping. It asks nothing of the cluster: a node without a leader is alive.
func (s *Server) livez(_ context.Context, c *call) error {
	return report(c, "livez", []check{{"serving", s.failed()}})
}

// readyz says whether clients should be sent here.
func (s *Server) readyz(_ context.Context, c *call) error {
	st := s.cluster.Status()
	checks := []check{
		{"serving", s.failed()},
		{"not-draining", nil},
		{"member", nil},
		{"leader", nil},
		{"applied", nil},
	}
	if s.draining() {
		checks[1].fault = errors.New("this node is shutting down")
	}
	switch {
	case st.Role == "removed":
		checks[2].fault = errors.New("this node has been removed from its cluster")
	case st.Role == "learner" && st.Applied == 0:
		checks[2].fault = errors.New("this learner has nothing yet")
	}
	if st.Leader == "" {
		checks[3].fault = errors.New("none is known")
	}
	if lag := st.CommitIndex - min(st.Applied, st.CommitIndex); lag >= readyLag {
		checks[4].fault = fmt.Errorf("%d entries behind what is committed", lag)
	}
	return report(c, "readyz", checks)
}

// report answers 200 or 503: one line a check where one fails or ?verbose asks for it, else "ok".
func report(c *call, name string, checks []check) error {
	verbose, err := c.query.flag("verbose")
	if err != nil {
		return err
	}
	status, verdict := http.StatusOK, "passed"
	var lines strings.Builder
	for _, check := range checks {
		if check.fault == nil {
			fmt.Fprintf(&lines, "[+]%s ok\n", check.name)
			continue
		}
		fmt.Fprintf(&lines, "[-]%s failed: %v\n", check.name, check.fault)
		status, verdict = http.StatusServiceUnavailable, "failed"
	}
	text := "ok\n"
	if verbose || status != http.StatusOK {
		text = fmt.Sprintf("%s%s check %s\n", lines.String(), name, verdict)
	}
	send(c.w, status, "text/plain; charset=utf-8", []byte(text))
	return nil
}

func (s *Server) showMetrics(_ context.Context, c *call) error {
	s.scrape.ServeHTTP(c.w, c.r)
	return nil
}

func (s *Server) showVersion(_ context.Context, c *call) error {
	return sendJSON(c.w, http.StatusOK, struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
		Go      string `json:"go"`
	}{s.build.Version, s.build.Commit, runtime.Version()})
}

// takeSnapshot has this node write a snapshot. The revision is one that the snapshot holds: that of the state just
// before it was taken.
func (s *Server) takeSnapshot(ctx context.Context, c *call) error {
	revision := s.currentRevision(ctx)
	index, term, bytes, err := s.cluster.TakeSnapshot(ctx)
	if err != nil {
		return err
	}
	return sendJSON(c.w, http.StatusOK, struct {
		Index    uint64 `json:"index"`
		Term     uint64 `json:"term"`
		Revision uint64 `json:"revision"`
		Bytes    int64  `json:"bytes"`
	}{index, term, revision, bytes})
}

// index tells a person where to go.
func (s *Server) index(_ context.Context, c *call) error {
	send(c.w, http.StatusOK, "text/plain; charset=utf-8", []byte(indexPage))
	return nil
}

const indexPage = `Raft3D keeps a farm of 3D printers on several nodes.

  /docs                what may be asked for, to read; /openapi.json is the same for programs
  /api/v1/printers     printers
  /api/v1/filaments    spools of filament
  /api/v1/print_jobs   print jobs
  /api/v1/events       every change, in order, as lines or as server-sent events
  /api/v1/backup       a copy of the whole state
  /api/v1/cluster      the nodes and their leader
  /metrics             figures for Prometheus
  /readyz?verbose      whether this node is ready
  /version             which program this is
`
