// Command bench measures raft3d beside etcd, in alternation on one machine, and prints the table of docs/performance.md:
//
//	cd bench && go run .             # three rounds of everything, about 25 minutes
//	cd bench && go run . -quick      # a look, under three minutes
//	cd bench && go run . -only writes-512 -rounds 5
//
// Each cell is the median of the rounds, and only ratios within one run mean anything: load generator, three servers and
// whatever else the machine does share its cores. It is a module of its own, so that gRPC and etcd's server stay out of
// raft3d's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is what the command line says.
type options struct {
	only           []string
	rounds         int
	seconds        time.Duration
	records, kills int
	restarts       []int
	etcdClients    int
	json           string
	withBare       bool
	at             string // a directory for all data

	raft3d, etcd, bare string // binaries
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var o options
	only := flag.String("only", "", "`NAMES` of cells, all that begin so; left out: all")
	quick := flag.Bool("quick", false, "one short round, without the kills and the big restarts")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each system is measured")
	flag.DurationVar(&o.seconds, "seconds", 8*time.Second, "how long each load runs")
	flag.IntVar(&o.kills, "kills", 20, "how many leaders are killed")
	flag.StringVar(&o.json, "json", "", "`FILE` for every figure of every round")
	flag.BoolVar(&o.withBare, "bare", false, "also measure raft3d's HTTP with nothing behind it, under the same loads: what the rest costs")
	flag.IntVar(&o.etcdClients, "etcd-clients", 1, "how many of etcd's Go clients share the load; each has a connection to each node")
	million := flag.Bool("million", true, "also restart with 1,000,000 records")
	flag.Parse()
	o.restarts = []int{1000, 100_000}
	if *million {
		o.restarts = append(o.restarts, 1_000_000)
	}
	if *quick {
		o.rounds, o.seconds, o.kills, o.restarts = 1, 2*time.Second, 0, nil
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if o.at, err = os.MkdirTemp("", "raft3d-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(o.at)
	if err := o.build(ctx); err != nil {
		return err
	}
	t := &table{}
	defer func() {
		t.print(os.Stdout)
		if o.json != "" {
			b, jsonErr := json.MarshalIndent(t.cells, "", "  ")
			err = errors.Join(err, jsonErr, os.WriteFile(o.json, b, 0o644))
		}
	}()
	systems := []system{&raft3d{o: &o}, &etcd{o: &o}}
	if o.withBare {
		systems = append(systems, &bare{raft3d{o: &o}})
	}
	for round := range o.rounds {
		for _, s := range systems {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name())
			if err := o.round(ctx, s, t, round); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
		}
	}
	return nil
}

// build compiles all from source: what is measured is what is in the tree.
func (o *options) build(ctx context.Context) error {
	o.raft3d, o.etcd, o.bare = filepath.Join(o.at, "raft3d"), filepath.Join(o.at, "etcd"), filepath.Join(o.at, "bare")
	for _, b := range []struct{ dir, out, pkg string }{{"..", o.raft3d, "./cmd/raft3d"}, {".", o.etcd, "./etcd"}, {".", o.bare, "./bare"}} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", b.out, b.pkg)
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build %s: %w", b.pkg, err)
		}
	}
	return nil
}

func (o *options) wants(cell string) bool {
	return len(o.only) == 0 || slices.ContainsFunc(o.only, func(prefix string) bool { return strings.HasPrefix(cell, prefix) })
}

// system is one of those that are compared.
type system interface {
	name() string
	// start runs three new nodes, and returns them once one leads.
	start(ctx context.Context) (*nodes, error)
	// load runs a load at these nodes (host:port) for some time, after some that does not count. Latencies are in
	// milliseconds.
	load(ctx context.Context, at []string, l load, warmUp, span time.Duration) (measured, error)
	// fill creates so many records.
	fill(ctx context.Context, n *nodes, records int) error
	// writer returns a function that makes one write at this node.
	writer(ctx context.Context, n *nodes, node int) (write func(ctx context.Context) error, end func(), err error)
	// leader is the number of the node that leads; -1: none is known.
	leader(ctx context.Context, n *nodes) int
	// ready says whether this node is up and has all that was committed.
	ready(ctx context.Context, n *nodes, node int) bool
}

// load is one kind of load, the same for all systems.
type load struct {
	cell, kind string // writes, reads, stale, mixed, lists
	clients    int
}

const listed = 10_000 // records in a list

type measured struct {
	perSecond, p50, p99 float64
	calls               float64
	failed              int64
}

var loads = []load{
	{"writes-1", "writes", 1}, {"writes-64", "writes", 64}, {"writes-512", "writes", 512},
	{"reads-64", "reads", 64}, {"stale-64", "stale", 64}, {"mixed-64", "mixed", 64}, {"lists-4", "lists", 4},
}

// round measures one system once.
func (o *options) round(ctx context.Context, s system, t *table, round int) error {
	for _, l := range loads {
		if !o.wants(l.cell) {
			continue
		}
		// Each load on a cluster of its own: none inherits the work of another.
		if err := o.withNodes(ctx, s, func(n *nodes) error { return o.oneLoad(ctx, s, n, t, l) }); err != nil {
			return fmt.Errorf("%s: %w", l.cell, err)
		}
	}
	if s.name() == "bare" { // it has nothing else
		return nil
	}
	if o.wants("idle") {
		if err := o.withNodes(ctx, s, func(n *nodes) error { return o.idle(ctx, s, n, t) }); err != nil {
			return err
		}
	}
	if o.wants("rolling") {
		if err := o.withNodes(ctx, s, func(n *nodes) error { return o.rolling(ctx, s, n, t) }); err != nil {
			return fmt.Errorf("rolling: %w", err)
		}
	}
	if round > 0 { // these are series by themselves
		return nil
	}
	if o.wants("gap") && o.kills > 0 {
		if err := o.withNodes(ctx, s, func(n *nodes) error { return o.gaps(ctx, s, n, t) }); err != nil {
			return fmt.Errorf("gap: %w", err)
		}
	}
	for _, records := range o.restarts {
		cell := fmt.Sprintf("restart-%d", records)
		if !o.wants(cell) {
			continue
		}
		if err := o.withNodes(ctx, s, func(n *nodes) error { return o.restart(ctx, s, n, t, cell, records) }); err != nil {
			return fmt.Errorf("%s: %w", cell, err)
		}
	}
	return nil
}

func (o *options) withNodes(ctx context.Context, s system, f func(n *nodes) error) error {
	n, err := s.start(ctx)
	if n != nil {
		defer n.end()
	}
	if err != nil {
		return err
	}
	return f(n)
}

func (o *options) oneLoad(ctx context.Context, s system, n *nodes, t *table, l load) error {
	records := 0
	switch l.kind {
	case "lists":
		records = listed
	case "reads", "stale", "mixed":
		records = 1000
	}
	if err := s.fill(ctx, n, records); err != nil {
		return err
	}
	// What is read must be there once: raft3d bench makes its records each time it runs. What is written has its cost taken,
	// so it is warmed up before that is looked at.
	warmUp := time.Second
	if l.kind == "writes" {
		if _, err := o.load(ctx, s, n, l, 0, warmUp); err != nil {
			return err
		}
		warmUp = 0
	}
	m, before, after, err := o.measure(ctx, s, n, l, warmUp)
	if err != nil {
		return err
	}
	t.add(l.cell, s.name(), "calls/s", m.perSecond)
	t.add(l.cell+" p50", s.name(), "ms", m.p50)
	t.add(l.cell+" p99", s.name(), "ms", m.p99)
	if m.failed > 0 {
		t.add(l.cell+" failed", s.name(), "calls", float64(m.failed))
	}
	if l.kind == "writes" && l.clients > 1 {
		t.add(l.cell+" server CPU", s.name(), "µs a write", cpuACall(before, after, m))
		t.add(l.cell+" to disk", s.name(), "bytes a write", float64(after.written-before.written)/m.calls)
		t.add(l.cell+" memory", s.name(), "MB a node", float64(after.anonymous)/3/1e6)
	}
	return nil
}

// measure runs a load, and tells what the nodes had used before and after it.
func (o *options) measure(ctx context.Context, s system, n *nodes, l load, warmUp time.Duration) (m measured, before, after usage, err error) {
	before = n.usage()
	m, err = o.load(ctx, s, n, l, warmUp, o.seconds)
	return m, before, n.usage(), err
}

// cpuACall is the processor time of all nodes for a call, in microseconds.
func cpuACall(before, after usage, m measured) float64 {
	return (after.cpu - before.cpu).Seconds() * 1e6 / m.calls
}

// load spreads a load over all nodes. One of fewer clients than nodes runs at each node for its part of the time, since
// where the leader is makes a difference: what comes out is the mean of them, latencies weighed by calls.
func (o *options) load(ctx context.Context, s system, n *nodes, l load, warmUp, span time.Duration) (m measured, err error) {
	if l.clients >= len(n.clients) {
		return s.load(ctx, n.clients, l, warmUp, span)
	}
	for _, node := range n.clients {
		part, err := s.load(ctx, []string{node}, l, warmUp, max(span/time.Duration(len(n.clients)), time.Second))
		if err != nil {
			return m, err
		}
		m.perSecond += part.perSecond / float64(len(n.clients))
		m.p50 += part.p50 * part.calls
		m.p99 += part.p99 * part.calls
		m.calls += part.calls
		m.failed += part.failed
	}
	m.p50, m.p99 = m.p50/m.calls, m.p99/m.calls
	return m, nil
}

func (o *options) idle(ctx context.Context, s system, n *nodes, t *table) error {
	if !sleep(ctx, 5*time.Second) {
		return context.Cause(ctx)
	}
	before := n.usage()
	if !sleep(ctx, 15*time.Second) {
		return context.Cause(ctx)
	}
	after := n.usage()
	t.add("idle CPU", s.name(), "% of a core a node", (after.cpu-before.cpu).Seconds()/15/3*100)
	t.add("idle memory", s.name(), "MB a node", float64(after.resident)/3/1e6)
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
