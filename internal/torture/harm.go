//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"raft3d/internal/torture/link"
)

// upTo is a time below d.
func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// badNetwork draws faults for each direction between two nodes by itself.
func badNetwork(rng *rand.Rand) func(_, _ *node) link.Faults {
	return func(_, _ *node) (f link.Faults) {
		if rng.IntN(3) == 0 {
			return f
		}
		maybe := func(most float64) float64 {
			if rng.IntN(2) == 0 {
				return 0
			}
			return rng.Float64() * most
		}
		f.Delay, f.Jitter = upTo(rng, 20*time.Millisecond), upTo(rng, 20*time.Millisecond)
		f.Lose, f.Double, f.Flip, f.Break = maybe(0.2), maybe(0.2), maybe(0.05), maybe(0.02)
		if rng.IntN(10) == 0 {
			f.BytesPerSecond = 20_000 + rng.IntN(100_000)
		}
		return f
	}
}

// trouble stops a node or cuts links, for as long as nobody heals it.
func (g *campaign) trouble(ctx context.Context, rng *rand.Rand) string {
	c := g.cluster
	victim := c.nodes[rng.IntN(len(c.nodes))]
	if leader := c.leader(ctx); leader != nil && rng.IntN(2) == 0 {
		victim = leader
	}
	half := map[*node]bool{}
	for _, n := range c.nodes[:len(c.nodes)/2] {
		half[n] = true
	}
	cut := func(of func(from, to *node) bool) {
		c.setFaults(func(from, to *node) link.Faults { return link.Faults{Cut: of(from, to)} })
	}
	switch rng.IntN(7) {
	case 0, 1:
		c.pause(victim)
		return "a node stopped by SIGSTOP"
	case 2:
		cut(func(from, to *node) bool { return from == victim || to == victim })
		return "a node cut off"
	case 3:
		cut(func(from, _ *node) bool { return from == victim })
		return "a node that hears and is not heard"
	case 4, 5:
		cut(func(_, to *node) bool { return to == victim })
		return "a node that is heard and does not hear"
	default:
		cut(func(from, to *node) bool { return half[from] != half[to] })
		return "a minority cut off"
	}
}

// killing is the harm of each cycle of the main part: kill -9, under a bad network or trouble or neither.
func (g *campaign) killing(number int) harm {
	return func(ctx context.Context, rng *rand.Rand) (name string, err error) {
		c := g.cluster
		g.figures.troubles["nothing else"]++
		switch dice := rng.IntN(10); {
		case dice < 5:
			c.setFaults(badNetwork(rng))
			g.tell("a bad network")
		case dice < 8:
			sleep(ctx, upTo(rng, 200*time.Millisecond))
			g.tell(g.trouble(ctx, rng))
			sleep(ctx, upTo(rng, time.Second))
		}
		sleep(ctx, 100*time.Millisecond+upTo(rng, 300*time.Millisecond))
		if rng.IntN(4) == 0 { // what a snapshot leaves half done
			n := c.nodes[rng.IntN(len(c.nodes))]
			snapshot := make(chan struct{})
			go func() {
				defer close(snapshot)
				_, _, _, _ = c.send(ctx, n, "POST", "/debug/snapshot", nil)
			}()
			defer func() { <-snapshot }()
			sleep(ctx, upTo(rng, 20*time.Millisecond))
		}
		var victims []*node
		switch dice := rng.IntN(10); {
		case number%4 == 0:
			name, victims = "all at once", c.nodes
		case dice < 4:
			name = "the leader"
			if leader := c.leader(ctx); leader != nil {
				victims = []*node{leader}
				break
			}
			fallthrough
		case dice < 8:
			name, victims = "one", []*node{c.nodes[rng.IntN(len(c.nodes))]}
		default:
			name = "a majority"
			for _, i := range rng.Perm(len(c.nodes))[:len(c.nodes)/2+1] {
				victims = append(victims, c.nodes[i])
			}
		}
		c.kill(victims...)
		g.figures.kills += len(victims)
		sleep(ctx, upTo(rng, 400*time.Millisecond))
		for _, n := range victims {
			if err := c.start(n); err != nil {
				return name, err
			}
		}
		sleep(ctx, upTo(rng, 300*time.Millisecond))
		return fmt.Sprintf("kill -9 of %s", name), nil
	}
}

// tell counts what a cycle met beside kill -9.
func (g *campaign) tell(trouble string) {
	g.figures.troubles["nothing else"]--
	g.figures.troubles[trouble]++
}
