package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// raft3d is this repository's program, driven by its own raft3d bench: one connection a client, spread over the nodes.
type raft3d struct {
	o   *options
	seq atomic.Int64
}

func (*raft3d) name() string { return "raft3d" }

func (r *raft3d) start(ctx context.Context) (*nodes, error) {
	n, err := startNodes(r.o.at, func(n *nodes, node int) *exec.Cmd {
		args := []string{fmt.Sprint("-id=node", node+1), "-http=" + n.clients[node], "-raft=" + n.peers[node], "-data=" + filepath.Join(n.dir, fmt.Sprint("n", node))}
		if node == 0 {
			args = append(args, "-bootstrap")
		} else {
			args = append(args, "-join="+n.clients[0])
		}
		return exec.Command(r.o.raft3d, args...)
	})
	if err != nil {
		return n, err
	}
	return n, until(ctx, "three voters", func(ctx context.Context) bool {
		var c cluster
		if r.get(ctx, n.clients[0], "/api/v1/cluster", &c) != nil || len(c.Members) != 3 {
			return false
		}
		for i, m := range c.Members {
			if m.Role == "learner" || !r.ready(ctx, n, i) {
				return false
			}
		}
		return true
	})
}

type cluster struct {
	Leader  string
	Members []struct{ ID, Role string }
}

var calls = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}

func (r *raft3d) get(ctx context.Context, at, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+path, nil)
	if err != nil {
		return err
	}
	answer, err := calls.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

func (r *raft3d) fill(ctx context.Context, n *nodes, records int) error {
	if records <= 10_000 { // raft3d bench makes what it reads
		return nil
	}
	return r.bench(ctx, n.clients, nil, "reads", "-clients=1", "-duration=1s", "-warmup=0s", fmt.Sprint("-records=", records))
}

func (r *raft3d) bench(ctx context.Context, at []string, into any, args ...string) error {
	var servers []string
	for _, node := range at {
		servers = append(servers, "http://"+node)
	}
	args = append([]string{"bench", "-force", "-keep", "-o=json", "-server=" + strings.Join(servers, ",")}, args...)
	cmd := exec.CommandContext(ctx, r.o.raft3d, args...)
	var out, fault bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, fault.Bytes())
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(out.Bytes(), into)
}

func (r *raft3d) load(ctx context.Context, at []string, l load, warmUp, span time.Duration) (m measured, err error) {
	var report struct {
		Workloads []struct {
			PerSec float64 `json:"calls_per_second"`
			P50    float64 `json:"p50_ms"`
			P99    float64 `json:"p99_ms"`
			Calls  float64
			Errors map[string]int64
		}
	}
	err = r.bench(ctx, at, &report, l.kind, fmt.Sprint("-clients=", l.clients), fmt.Sprint("-duration=", span), fmt.Sprint("-warmup=", warmUp))
	if err != nil {
		return m, fmt.Errorf("raft3d bench: %w", err)
	}
	if len(report.Workloads) != 1 {
		return m, fmt.Errorf("raft3d bench %s: a report of %d workloads", l.kind, len(report.Workloads))
	}
	if l.kind == "lists" {
		var all []struct{ ID string }
		if err := r.get(ctx, at[0], "/api/v1/printers", &all); err != nil || len(all) != listed {
			return m, errors.Join(err, fmt.Errorf("a list of %d", len(all)))
		}
	}
	w := report.Workloads[0]
	m = measured{perSecond: w.PerSec, p50: w.P50, p99: w.P99, calls: w.Calls}
	for _, count := range w.Errors {
		m.failed += count
	}
	return m, nil
}

func (r *raft3d) writer(_ context.Context, n *nodes, node int) (func(context.Context) error, func(), error) {
	return func(ctx context.Context) error {
		body := record(fmt.Sprintf("w%09d", r.seq.Add(1)))
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.clients[node]+"/api/v1/printers", strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		answer, err := calls.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusCreated {
			return fmt.Errorf("status %d", answer.StatusCode)
		}
		return nil
	}, func() {}, nil
}

func (r *raft3d) leader(ctx context.Context, n *nodes) int {
	for i, cmd := range n.procs {
		var c cluster
		if cmd == nil || r.get(ctx, n.clients[i], "/api/v1/cluster", &c) != nil {
			continue
		}
		for node := range n.procs {
			if c.Leader == fmt.Sprint("node", node+1) && n.procs[node] != nil {
				return node
			}
		}
	}
	return -1
}

func (r *raft3d) ready(ctx context.Context, n *nodes, node int) bool {
	return r.get(ctx, n.clients[node], "/api/v1/printers?limit=1", nil) == nil // linearizable: it has all that was committed before
}

// bare is what raft3d could be at best, driven in the same way: its HTTP, and nothing behind it.
type bare struct{ raft3d }

func (*bare) name() string { return "bare" }

func (b *bare) start(ctx context.Context) (*nodes, error) {
	n, err := startNodes(b.o.at, func(n *nodes, node int) *exec.Cmd { return exec.Command(b.o.bare, n.clients[node]) })
	if err != nil {
		return n, err
	}
	return n, until(ctx, "three servers", func(ctx context.Context) bool {
		return b.ready(ctx, n, 0) && b.ready(ctx, n, 1) && b.ready(ctx, n, 2)
	})
}
