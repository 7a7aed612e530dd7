package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const writersANode = 4

// gaps kills the leader again and again while clients write at the other nodes, and takes the longest time without an
// acknowledged write.
func (o *options) gaps(ctx context.Context, s system, n *nodes, t *table) error {
	var all []float64
	for range o.kills {
		leader := -1
		if err := until(ctx, "a leader", func(ctx context.Context) bool { leader = s.leader(ctx, n); return leader >= 0 }); err != nil {
			return err
		}
		gap, _, err := o.gap(ctx, s, n, leader, 3*time.Second, n.kill)
		if err != nil {
			return err
		}
		all = append(all, float64(gap.Microseconds())/1000)
		t.add("gap after kill -9 of the leader", s.name(), "ms", all[len(all)-1])
		if err := n.run(leader); err != nil {
			return err
		}
		if err := until(ctx, "the killed node", func(ctx context.Context) bool { return s.ready(ctx, n, leader) }); err != nil {
			return err
		}
		if !sleep(ctx, 500*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	t.add("gap, the longest of all", s.name(), "ms", slices.Max(all))
	return nil
}

// rolling ends each node in order and starts it again, the leader last, and takes the longest time without an acknowledged
// write of clients at the other nodes, and how many of their writes failed.
func (o *options) rolling(ctx context.Context, s system, n *nodes, t *table) error {
	leader := -1
	if err := until(ctx, "a leader", func(ctx context.Context) bool { leader = s.leader(ctx, n); return leader >= 0 }); err != nil {
		return err
	}
	longest, failed := time.Duration(0), 0
	for _, node := range []int{(leader + 1) % 3, (leader + 2) % 3, leader} {
		gap, failures, err := o.gap(ctx, s, n, node, time.Second, n.terminate)
		if err != nil {
			return err
		}
		longest, failed = max(longest, gap), failed+failures
		if err := n.run(node); err != nil {
			return err
		}
		if err := until(ctx, "the restarted node", func(ctx context.Context) bool { return s.ready(ctx, n, node) }); err != nil {
			return err
		}
	}
	t.add("gap in a rolling restart", s.name(), "ms", float64(longest.Microseconds())/1000)
	t.add("failed writes in a rolling restart", s.name(), "writes", float64(failed))
	return nil
}

// gap stops a node while clients write at the others, for so long after. It returns the longest time without an
// acknowledged write from then on, and how many writes failed.
func (o *options) gap(ctx context.Context, s system, n *nodes, gone int, after time.Duration, stop func(node int)) (time.Duration, int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var acknowledged []time.Time
	failed := 0
	working, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	for node := range n.procs {
		if node == gone {
			continue
		}
		for range writersANode {
			write, close, err := s.writer(ctx, n, node)
			if err != nil {
				end()
				all.Wait()
				return 0, 0, err
			}
			all.Go(func() {
				defer close()
				for working.Err() == nil {
					err := write(working)
					mu.Lock()
					if err == nil {
						acknowledged = append(acknowledged, time.Now())
					} else if working.Err() == nil {
						failed++
					}
					mu.Unlock()
				}
			})
		}
	}
	defer all.Wait()
	defer end()
	if !sleep(ctx, time.Second) {
		return 0, 0, context.Cause(ctx)
	}
	stopped := time.Now()
	stop(gone)
	err := until(ctx, "writes after the stop", func(context.Context) bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged) > 0 && acknowledged[len(acknowledged)-1].Sub(stopped) > after
	})
	if err != nil {
		return 0, 0, err
	}
	mu.Lock()
	defer mu.Unlock()
	longest := time.Duration(0)
	for i := 1; i < len(acknowledged); i++ {
		if acknowledged[i].After(stopped) {
			longest = max(longest, acknowledged[i].Sub(acknowledged[i-1]))
		}
	}
	return longest, failed, nil
}

// restart kills a follower that holds many records, and takes the time until it has everything again; then what a write
// takes beside so many.
func (o *options) restart(ctx context.Context, s system, n *nodes, t *table, cell string, records int) error {
	if err := s.fill(ctx, n, records); err != nil {
		return err
	}
	t.add(cell+" memory before", s.name(), "MB a node, anonymous", float64(n.usage().anonymous)/3/1e6)
	for range 3 {
		leader := -1
		if err := until(ctx, "a leader", func(ctx context.Context) bool { leader = s.leader(ctx, n); return leader >= 0 }); err != nil {
			return err
		}
		node := (leader + 1) % 3
		n.kill(node)
		began := time.Now()
		if err := n.run(node); err != nil {
			return err
		}
		if err := until(ctx, fmt.Sprintf("node %d again", node), func(ctx context.Context) bool { return s.ready(ctx, n, node) }); err != nil {
			return err
		}
		t.add(cell, s.name(), "s", time.Since(began).Seconds())
	}
	l := load{cell + " then writes-64", "writes", 64}
	if _, err := o.load(ctx, s, n, l, 0, time.Second); err != nil {
		return err
	}
	m, before, after, err := o.measure(ctx, s, n, l, 0)
	if err != nil {
		return err
	}
	t.add(l.cell, s.name(), "calls/s", m.perSecond)
	t.add(l.cell+" server CPU", s.name(), "µs a write", cpuACall(before, after, m))
	return nil
}
