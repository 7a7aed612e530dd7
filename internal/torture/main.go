//go:build unix

// Command torture runs a cluster of real raft3d processes, breaks it again and again while clients use it, and judges
// what the clients were told:
//
//	go run ./internal/torture -cycles 40
//	go run ./internal/torture -nodes 5 -for 10m
//	go run ./internal/torture -cycles 0 -disk-cycles 20 -require
//
// A cycle is one or two seconds of a cluster's life. Clients at all nodes use a few new farms, once as curl does, or
// as the client package does with the same key until they are answered, or at two nodes at once with one key. Meanwhile
// processes are killed with kill -9, one, the leader, a majority, or all at once; some are stopped by SIGSTOP before; the peers
// meet through proxies that delay, lose, double, damage and cut. Then all is healed and must be well within a minute: every
// list of every node is the same byte by byte at the same revision and is what the change feed adds up to; each answer
// stands in the feed, once, in its time; and porcupine finds an order of each farm's calls that explains all answers (see
// the package history). The disk cycles are of a second cluster, whose nodes have small file systems of their own and
// whose system calls fail at strace's hand.
//
// It ends with status 0 where nothing was wrong and enough calls were answered; 1 where something was wrong, with the
// directory in which logs, data directories and the history of that cycle stay; 2 where it could not run. Whatever it starts
// it ends, also on Ctrl-C. A seed repeats what is drawn, not how the processes race.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"raft3d/client"
	"raft3d/internal/torture/history"
)

// options are the command line.
type options struct {
	nodes, cycles, diskCycles int
	span                      time.Duration
	seed                      uint64
	minOps                    int // answered calls a cycle, on average
	require                   bool
	broken                    string
	out                       io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := options{out: os.Stdout}
	flag.IntVar(&o.nodes, "nodes", 3, "how many nodes: 3 or 5")
	flag.IntVar(&o.cycles, "cycles", 20, "how many cycles of kill -9; with -for, at most")
	flag.DurationVar(&o.span, "for", 0, "how long, where it ends before all cycles are done")
	flag.IntVar(&o.diskCycles, "disk-cycles", 0, "how many cycles of failing disks, after the others")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64N(1_000_000), "what is drawn at random follows from it")
	flag.IntVar(&o.minOps, "min-ops", 100, "answered calls a cycle, on average, below which nothing is proved")
	flag.BoolVar(&o.require, "require", false, "fail where a part cannot be tested on this machine")
	flag.StringVar(&o.broken, "broken", "", "run a program with this fault built in, to see that it is found; \"list\" lists them")
	flag.Parse()
	err := run(ctx, o)
	stop()
	var wrong *violation
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "torture: it could not run:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.broken == "list" {
		for _, b := range breaks {
			fmt.Fprintf(o.out, "%-16s %s\n", b.name, b.what)
		}
		return nil
	}
	if o.nodes != 3 && o.nodes != 5 {
		return fmt.Errorf("-nodes=%d: 3 or 5", o.nodes)
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "raft3d-torture-")
	if err != nil {
		return err
	}
	f := newForker()
	defer f.close()
	figures := newFigures()
	defer func() {
		var wrong *violation
		if errors.As(err, &wrong) {
			fmt.Fprintf(o.out, "seed %d; logs, data and history are in %s\n", o.seed, dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	binary, err := build(ctx, dir, o.broken)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "seed %d, %d nodes\n", o.seed, o.nodes)
	revision := uint64(0)
	if o.cycles > 0 {
		if revision, err = o.kill(ctx, f, binary, filepath.Join(dir, "kill"), figures); err != nil {
			figures.print(o.out, time.Since(began), revision)
			return err
		}
	}
	if o.diskCycles > 0 {
		if err := o.disk(ctx, f, binary, filepath.Join(dir, "disk"), figures); err != nil {
			figures.print(o.out, time.Since(began), revision)
			return err
		}
	}
	figures.print(o.out, time.Since(began), revision)
	if enough := o.minOps * figures.count(); figures.answered() < enough {
		return &violation{[]string{fmt.Sprintf("only %d calls were answered, %d are needed for the rest to mean anything", figures.answered(), enough)}}
	}
	if len(figures.untested) > 0 && o.require {
		return fmt.Errorf("%d parts could not be tested", len(figures.untested))
	}
	fmt.Fprintln(o.out, "nothing was lost, doubled, or told wrongly")
	return nil
}

// build makes the program under test, with a fault where one is named.
func build(ctx context.Context, dir, broken string) (binary string, err error) {
	binary = filepath.Join(dir, "raft3d")
	args := []string{"build", "-o", binary}
	if broken != "" {
		overlay, err := overlayOf(ctx, dir, broken)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "raft3d/cmd/raft3d")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build raft3d: %w\n%s", err, out)
	}
	return binary, nil
}

// timing makes elections quick, so that cycles are short, and snapshots frequent.
var timing = []string{"-heartbeat=50ms", "-election=500ms", "-snapshot-entries=2000"}

// campaign starts a cluster for clients to use.
func (o options) campaign(c *cluster, figures *figures) (*campaign, error) {
	began := time.Now()
	caller, err := newCaller(c, began)
	if err != nil {
		return nil, err
	}
	return &campaign{cluster: c, caller: caller, order: history.NewOrder(), began: began, seed: o.seed, figures: figures}, nil
}

// kill runs the cycles of kill -9.
func (o options) kill(ctx context.Context, f *forker, binary, dir string, figures *figures) (revision uint64, err error) {
	c, err := newCluster(ctx, f, binary, dir, o.nodes, nil, timing...)
	if err != nil {
		return 0, err
	}
	defer c.close()
	g, err := o.campaign(c, figures)
	if err != nil {
		return 0, err
	}
	defer g.caller.all.Close()
	defer func() { figures.network = c.counts() }()
	began := time.Now()
	for number := 1; number <= o.cycles && (o.span == 0 || time.Since(began) < o.span); number++ {
		if err := g.cycle(ctx, number, g.killing(number)); err != nil {
			return g.order.Revision(), g.keep(dir, number, err)
		}
		if number%25 == 0 {
			fmt.Fprintf(o.out, "%v: %d cycles, %d calls answered, revision %d\n", time.Since(began).Round(time.Second), number, figures.answered(), g.order.Revision())
		}
	}
	return g.order.Revision(), g.keep(dir, 0, g.compareFeeds(ctx))
}

// compareFeeds has every node tell the whole history, which must be the one that was followed.
func (g *campaign) compareFeeds(ctx context.Context) error {
	lists, err := g.compareLists(ctx)
	if err != nil {
		return err
	}
	if err := g.follow(ctx, g.cluster.nodes[0], lists.revision); err != nil {
		return err
	}
	if wrong := g.order.Check(g.pending); len(wrong) > 0 {
		return &violation{wrong}
	}
	for _, n := range g.cluster.nodes {
		one, err := client.New(client.Config{Servers: []string{n.http}})
		if err != nil {
			return err
		}
		again := history.NewOrder()
		err = follow(ctx, one, again, g.order.Revision())
		one.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		if again.Digest() != g.order.Digest() {
			return &violation{[]string{fmt.Sprintf("%s tells another history now than was told while it was made", n.name)}}
		}
	}
	return nil
}

// keep writes the calls of a cycle that went wrong beside the logs.
func (g *campaign) keep(dir string, number int, err error) error {
	var wrong *violation
	if !errors.As(err, &wrong) {
		return err
	}
	file, failed := os.Create(filepath.Join(dir, fmt.Sprintf("history-%d.jsonl", number)))
	if failed != nil {
		return errors.Join(err, failed)
	}
	enc := json.NewEncoder(file)
	for _, o := range g.ops {
		failed = errors.Join(failed, enc.Encode(o))
	}
	return errors.Join(fmt.Errorf("cycle %d: %w", number, err), failed, file.Close())
}
