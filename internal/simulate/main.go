// Command simulate plays schedules of a simulated cluster (raftnode's TestNothingIsLostOrDoubledWhateverHappens) on all
// cores for as long as one likes, and says how often what happened in them:
//
//	go run ./internal/simulate -for 10m
//	go run ./internal/simulate -seeds 100000
//
// It builds the test binary once and gives each process a range of seeds of its own, since what raft draws at random
// hangs on one variable of a process. It ends with status 1 where a seed failed, and says which; and where something
// that the schedules are there for never happened: then they prove less than they seem to.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// wanted is what must have happened in a campaign.
var wanted = []string{
	"crash", "stopped as a failed fsync would stop it", "fsync failed", "disk full", "disk full at a snapshot", "torn tail cut",
	"disk lost", "empty disk refused", "node paused", "store kept over a restart", "snapshot installed",
	"leader elected", "leader asked to hand over", "live leader said to be gone", "membership change made", "membership change refused",
	"learner promoted", "removed member stopped", "proposal carried over", "key replayed", "read confirmed", "read retried",
	"message refused", "forged message refused", "message arrived late", "event: drop", "event: duplicate", "event: cut", "event: down",
	"event: contest", "event: remove under fire",
}

const (
	seedsAtOnce = 500
	tick        = 20 * time.Millisecond // of a simulated member, as with the default flags
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	first := flag.Uint64("first", 1, "the first seed")
	seeds := flag.Uint64("seeds", 0, "how many seeds; 0: as many as -for allows")
	span := flag.Duration("for", time.Minute, "how long, where -seeds does not say how many")
	workers := flag.Int("workers", runtime.NumCPU(), "how many processes")
	flag.Parse()
	dir, err := os.MkdirTemp("", "simulate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "raftnode.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "raft3d/raftnode").CombinedOutput(); err != nil {
		return fmt.Errorf("build the tests of raftnode: %w\n%s", err, out)
	}
	c := &campaign{binary: binary, dir: dir, next: *first, end: *first + *seeds, happened: map[string]int{}}
	began := time.Now()
	if *seeds == 0 {
		c.end, c.until = ^uint64(0), began.Add(*span)
	}
	var running sync.WaitGroup
	for range *workers {
		running.Go(func() { c.work(ctx) })
	}
	running.Wait()
	c.report(time.Since(began), *workers)
	if c.err != nil {
		return c.err
	}
	for _, what := range wanted {
		if c.happened[what] == 0 {
			err = errors.Join(err, fmt.Errorf("%q never happened", what))
		}
	}
	return err
}

// campaign hands out seeds and adds up what they report.
type campaign struct {
	binary, dir string
	until       time.Time // zero: until the seeds are through

	mu        sync.Mutex
	next, end uint64         // guarded by mu
	happened  map[string]int // guarded by mu
	err       error          // guarded by mu: of the seeds that failed
}

func (c *campaign) take() (first, count uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || !c.until.IsZero() && time.Now().After(c.until) {
		return 0, 0
	}
	first, count = c.next, min(seedsAtOnce, c.end-c.next)
	c.next += count
	return first, count
}

func (c *campaign) work(ctx context.Context) {
	for ctx.Err() == nil {
		first, count := c.take()
		if count == 0 {
			return
		}
		err := c.play(ctx, first, count)
		if err != nil && ctx.Err() == nil {
			c.mu.Lock()
			c.err = errors.Join(c.err, err)
			c.mu.Unlock()
		}
	}
}

func (c *campaign) play(ctx context.Context, first, count uint64) error {
	path := filepath.Join(c.dir, fmt.Sprint(first))
	out, err := exec.CommandContext(ctx, c.binary, "-test.run=^TestNothingIsLostOrDoubledWhateverHappens$",
		fmt.Sprint("-schedule.first=", first), fmt.Sprint("-schedule.seeds=", count), "-schedule.report="+path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("seeds from %d on: %w\n%s", first, err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	happened := map[string]int{}
	if err := json.Unmarshal(b, &happened); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range happened {
		c.happened[what] += n
	}
	return os.Remove(path)
}

func (c *campaign) report(took time.Duration, workers int) {
	events := 0
	for what, n := range c.happened {
		if strings.HasPrefix(what, "event: ") {
			events += n
		}
	}
	seeds, ticks := c.happened["seeds"], c.happened["ticks"]
	fmt.Printf("%d seeds, %d events, %.0f simulated hours of a node, in %v on %d cores: %.0f seeds and %.0f events a second\n\n",
		seeds, events, (time.Duration(ticks) * tick).Hours(), took.Round(time.Second), workers,
		float64(seeds)/took.Seconds(), float64(events)/took.Seconds())
	for _, what := range slices.Sorted(maps.Keys(c.happened)) {
		if what != "seeds" && what != "ticks" {
			fmt.Printf("| %-40s | %12d |\n", what, c.happened[what])
		}
	}
}
