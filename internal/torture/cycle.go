//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"raft3d/client"
	"raft3d/internal/torture/history"
)

const (
	farmsACycle   = 6
	clientsANode  = 2
	thinkTime     = 8 * time.Millisecond // at most, between two calls of a client
	judgingBudget = 30 * time.Second     // of porcupine, for a farm
)

// campaign is a cluster, those who use it, and what they were told.
type campaign struct {
	cluster *cluster
	caller  *caller
	order   *history.Order
	began   time.Time
	seed    uint64
	figures *figures

	pending []history.Op // calls made between cycles
	ops     []history.Op // of the cycle under way
}

// violation is what must not be. Every other error says that the run itself could not go on.
type violation struct{ what []string }

func (v *violation) Error() string {
	text := fmt.Sprintf("%d violations", len(v.what))
	for _, w := range v.what[:min(len(v.what), 20)] {
		text += "\n  " + w
	}
	return text
}

// harm does something to the cluster while it is used, and says what.
type harm func(ctx context.Context, rng *rand.Rand) (name string, err error)

// cycle has clients use a few new farms while harm is done, waits until all is well, and judges what they were told.
func (g *campaign) cycle(ctx context.Context, number int, do harm) error {
	rng := rand.New(rand.NewPCG(g.seed, uint64(number)<<16))
	started := time.Now()
	farms, err := g.found(ctx, number)
	if err != nil {
		return g.blame(ctx, err)
	}
	g.ops = g.pending
	g.pending = nil
	between := len(g.ops)

	working, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var workers sync.WaitGroup
	for i := range clientsANode * len(g.cluster.nodes) {
		own := rand.New(rand.NewPCG(g.seed, uint64(number)<<16+uint64(i)+1))
		workers.Go(func() {
			for working.Err() == nil {
				f := farms[own.IntN(len(farms))]
				a := f.draw(own)
				a.op.Client = i
				o := g.caller.make(ctx, own, a)
				f.learn(a, &o)
				mu.Lock()
				g.ops = append(g.ops, o)
				mu.Unlock()
				sleep(working, rand.N(thinkTime))
			}
		})
	}
	name, err := do(ctx, rng)
	if err == nil {
		err = g.recover(ctx)
	}
	if err == nil {
		sleep(ctx, 200*time.Millisecond)
	}
	stop()
	workers.Wait()
	if err := cmp.Or(err, ctx.Err()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	g.figures.add(name, time.Since(started), g.ops[between:])
	if err := g.judge(ctx, rng, farms, g.ops[between:]); err != nil {
		return fmt.Errorf("%s: %w", name, g.blame(ctx, err))
	}
	return g.blame(ctx, g.clear(ctx))
}

// blame says that an error is the cluster's: nothing is done to it, it has a minute for each call, and nobody has
// interrupted the run.
func (g *campaign) blame(ctx context.Context, err error) error {
	var wrong *violation
	if err == nil || ctx.Err() != nil || errors.As(err, &wrong) {
		return err
	}
	wrong = &violation{[]string{"a cluster that nothing is done to does not serve: " + err.Error()}}
	for _, n := range g.cluster.nodes {
		if !n.running() {
			wrong.what = append(wrong.what, fmt.Sprintf("%s %v; see %s", n.name, errEnded, n.log))
		}
	}
	return wrong
}

// recover ends all harm and waits until every node serves. A node that nobody has ended must run still.
func (g *campaign) recover(ctx context.Context) error {
	for _, n := range g.cluster.nodes {
		if !n.running() && !n.killed {
			return &violation{[]string{fmt.Sprintf("%s %v; see %s", n.name, errEnded, n.log)}}
		}
	}
	if err := g.cluster.heal(); err != nil {
		return err
	}
	if err := g.cluster.allReady(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &violation{[]string{"the cluster does not come back: " + err.Error()}}
	}
	return nil
}

// found makes the farms of a cycle.
func (g *campaign) found(ctx context.Context, number int) (farms []*farm, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i := range farmsACycle {
		f := newFarm(i, fmt.Sprintf("%d-%d", number, i))
		if _, err := g.caller.all.Printers().Create(ctx, client.NewPrinter{NewText: client.NewText{ID: f.printer}, Company: "Prusa", Model: "MK4"}); err != nil {
			return nil, fmt.Errorf("create a printer: %w", err)
		}
		if _, err := g.caller.all.Filaments().Create(ctx, client.NewFilament{NewText: client.NewText{ID: f.spool}, Type: "PLA", Color: "black", Total: spoolWeight}); err != nil {
			return nil, fmt.Errorf("create a spool: %w", err)
		}
		farms = append(farms, f)
	}
	return farms, nil
}

// judge reads everything once more through every node, and holds what all clients were told against the feed and against
// the rules.
func (g *campaign) judge(ctx context.Context, rng *rand.Rand, farms []*farm, calls []history.Op) error {
	var wrong []string
	for i, n := range g.cluster.nodes {
		for _, f := range farms {
			for kind, path := range map[history.Kind]string{history.Spool: client.FilamentsPath + "/" + f.spool, history.Printer: client.PrintersPath + "/" + f.printer} {
				o := history.Op{Client: 1000 + i, Nodes: []string{n.name}, Kind: kind, Farm: f.number}
				if err := g.cluster.await(ctx, n.name+" to answer a read", func() error {
					o.Call = time.Since(g.began)
					got := g.caller.once(ctx, n, client.Request{Method: "GET", Path: path}, "")
					o.Return, o.Outcome, o.Status, o.Shown, o.Object = time.Since(g.began), got.outcome, got.status, got.shown, got.body
					if got.status == http.StatusNotFound {
						o.Fault = "an object that was acknowledged is not found"
						return nil
					}
					if got.outcome != history.OK {
						return fmt.Errorf("%d %s %w", got.status, got.body, got.err)
					}
					var object struct{ Revision uint64 }
					err := json.Unmarshal(got.body, &object)
					o.Revision = object.Revision
					return err
				}); err != nil {
					return err
				}
				g.ops, calls = append(g.ops, o), append(calls, o)
			}
		}
	}
	lists, err := g.compareLists(ctx)
	if err != nil {
		return err
	}
	if err := g.follow(ctx, g.cluster.nodes[rng.IntN(len(g.cluster.nodes))], lists.revision); err != nil {
		return err
	}
	for i, kind := range []string{"printer", "filament", "print_job"} {
		if told := append(append([]byte("["), bytes.Join(g.order.Live(kind), []byte(","))...), ']'); !bytes.Equal(told, lists.compact[i]) {
			wrong = append(wrong, fmt.Sprintf("the list of every %s is not what the feed adds up to at revision %d", kind, lists.revision))
		}
	}
	wrong = append(wrong, g.order.Check(g.ops)...)
	g.order.Forget()
	verdicts, err := history.Linearizable(calls, int64(spoolWeight), judgingBudget)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		g.figures.verdicts[v.Result]++
		if v.Result == "Illegal" {
			wrong = append(wrong, fmt.Sprintf("no order of its %d calls explains the answers of farm %s", v.Ops, farms[v.Farm].name))
		}
	}
	if len(wrong) > 0 {
		return &violation{wrong}
	}
	return nil
}

// lists are all objects as all nodes tell them, in the order of the three kinds.
type lists struct {
	revision uint64
	compact  [3][]byte
}

// compareLists reads the lists of all nodes until they show one revision. What they show then must be the same.
func (g *campaign) compareLists(ctx context.Context) (all lists, err error) {
	var different error
	err = g.cluster.await(ctx, "all lists to show one revision", func() error {
		all = lists{}
		var bodies [3][]byte
		for _, n := range g.cluster.nodes {
			for i, path := range []string{client.PrintersPath, client.FilamentsPath, client.JobsPath} {
				status, header, body, err := g.cluster.get(ctx, n, path)
				if err != nil || status != http.StatusOK {
					return fmt.Errorf("%s of %s: %d %w", path, n.name, status, err)
				}
				revision, err := strconv.ParseUint(header.Get("Raft3D-Revision"), 10, 64)
				if err != nil {
					return err
				}
				if all.revision == 0 {
					all.revision = revision
				}
				if revision != all.revision {
					return fmt.Errorf("%s of %s is at revision %d, another one at %d", path, n.name, revision, all.revision)
				}
				if bodies[i] == nil {
					bodies[i] = body
				}
				if !bytes.Equal(bodies[i], body) {
					different = &violation{[]string{fmt.Sprintf("%s of %s and of %s differ at revision %d", path, n.name, g.cluster.nodes[0].name, revision)}}
					return nil
				}
			}
		}
		for i, body := range bodies {
			var b bytes.Buffer
			if err := json.Compact(&b, body); err != nil {
				return err
			}
			all.compact[i] = b.Bytes()
		}
		return nil
	})
	return all, cmp.Or(different, err)
}

// follow takes the feed of one node as far as that revision.
func (g *campaign) follow(ctx context.Context, n *node, to uint64) error {
	one, err := client.New(client.Config{Servers: []string{n.http}})
	if err != nil {
		return err
	}
	defer one.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return follow(ctx, one, g.order, to)
}

func follow(ctx context.Context, from *client.Client, order *history.Order, to uint64) error {
	if order.Revision() >= to {
		return nil
	}
	for e, err := range from.Events(ctx, client.Feed{Since: order.Revision()}) {
		if err != nil {
			return fmt.Errorf("read the feed: %w", err)
		}
		if err := order.Add(history.Event{Revision: e.Revision, Kind: e.Kind, ID: e.ID, Action: e.Action, Object: e.Object, Raw: e.Raw}); err != nil {
			return &violation{[]string{err.Error()}}
		}
		if order.Revision() == to {
			return nil
		}
	}
	return &violation{[]string{fmt.Sprintf("the feed ends at revision %d, but %d was shown", order.Revision(), to)}}
}

// clear deletes everything, so that the lists stay short; what is left by calls that come late goes next time.
func (g *campaign) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all := g.caller.all
	var ids [3][]string
	var jobs []client.Job
	for j, err := range all.Jobs().List(ctx, nil) {
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
		ids[0] = append(ids[0], client.JobsPath+"/"+j.ID)
	}
	for p, err := range all.Printers().List(ctx, nil) {
		if err != nil {
			return err
		}
		ids[1] = append(ids[1], client.PrintersPath+"/"+p.ID)
	}
	for f, err := range all.Filaments().List(ctx, nil) {
		if err != nil {
			return err
		}
		ids[2] = append(ids[2], client.FilamentsPath+"/"+f.ID)
	}
	var mu sync.Mutex
	if err := inParallel(jobs, func(j client.Job) error {
		if j.Status == "Done" || j.Status == "Canceled" {
			return nil
		}
		o := history.Op{Client: -1, Kind: history.Cancel, JobID: j.ID, Call: time.Since(g.began)}
		got := g.caller.untilAnswered(ctx, client.MoveJob(j.ID, "Canceled", nil))
		o.Return, o.Outcome, o.Status, o.Shown, o.Object = time.Since(g.began), got.outcome, got.status, got.shown, got.body
		if got.outcome == history.OK {
			var object struct{ Revision uint64 }
			if err := json.Unmarshal(got.body, &object); err != nil {
				return err
			}
			if o.Revision = object.Revision; got.replayed {
				o.Shown = o.Revision
			}
		}
		mu.Lock()
		defer mu.Unlock()
		g.pending = append(g.pending, o)
		return nil
	}); err != nil {
		return err
	}
	for _, paths := range ids {
		if err := inParallel(paths, func(path string) error {
			_, err := all.Do(ctx, client.Request{Method: "DELETE", Path: path})
			var no *client.Error
			if errors.As(err, &no) && (no.Status == http.StatusConflict || no.Status == http.StatusNotFound) {
				return nil // a call that came late has a job on it; it goes next time
			}
			return err
		}); err != nil {
			return fmt.Errorf("delete what the cycle left: %w", err)
		}
	}
	return nil
}

// inParallel calls f for each of them, sixteen at a time.
func inParallel[T any](all []T, f func(T) error) error {
	var mu sync.Mutex
	var failed error
	var calls sync.WaitGroup
	for part := range slices.Chunk(all, max(1, (len(all)+15)/16)) {
		calls.Go(func() {
			for _, one := range part {
				if err := f(one); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	calls.Wait()
	return failed
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
