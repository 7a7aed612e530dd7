//go:build unix

package systemtest

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is writers that create print jobs as fast as they are answered, each job with an id of the writer's own, and
// note which were acknowledged. A writer ends at its first failure.
type load struct {
	t    testing.TB
	base uint64 // the revision before the first job

	gate    sync.RWMutex // held for reading during each call
	targets []*node      // guarded by gate

	mu       sync.Mutex
	acked    []string          // guarded by mu: ids
	failed   map[string]string // guarded by mu: by id, why
	slowest  time.Duration     // guarded by mu: of the calls that were acknowledged
	progress chan struct{}     // guarded by mu: closed by the next acknowledgement

	stopping atomic.Bool
	writers  sync.WaitGroup
	started  int // writers until now; each has a number of its own
}

const (
	loadPrinter = "load-printer"
	loadSpool   = "load-spool"
	loadWeight  = 0.001 // grams a job
)

// startLoad makes a printer and a spool and sets writers on, each at all of the targets in turn.
func startLoad(t testing.TB, writers int, targets ...*node) *load {
	t.Helper()
	targets[0].create("printers", fmt.Sprintf(`{"id":%q,"company":"Prusa","model":"MK4"}`, loadPrinter))
	made := targets[0].create("filaments", fmt.Sprintf(`{"id":%q,"type":"PLA","color":"black","total_weight_in_grams":100000}`, loadSpool))
	l := &load{t: t, base: made.revision(t), targets: targets, failed: map[string]string{}, progress: make(chan struct{})}
	l.again(writers)
	t.Cleanup(l.stop)
	return l
}

// again sets so many new writers on, where the earlier ones have been stopped.
func (l *load) again(writers int) {
	l.stopping.Store(false)
	for range writers {
		writer := l.started
		l.started++
		l.writers.Go(func() { l.write(writer) })
	}
}

func (l *load) write(writer int) {
	for n := 0; !l.stopping.Load(); n++ {
		id := fmt.Sprintf("w%d-%d", writer, n)
		if !l.writeOne(id, writer+n) {
			return
		}
	}
}

func (l *load) writeOne(id string, turn int) bool {
	l.gate.RLock()
	defer l.gate.RUnlock()
	target := l.targets[turn%len(l.targets)]
	began := time.Now()
	r, err := target.try("POST", "/api/v1/print_jobs", fmt.Sprintf(
		`{"id":%q,"printer_id":%q,"filament_id":%q,"filepath":"a.gcode","print_weight_in_grams":%v}`, id, loadPrinter, loadSpool, loadWeight))
	took := time.Since(began)
	if err == nil && r.status != 201 {
		err = fmt.Errorf("%v", r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed[id] = fmt.Sprintf("%s, after %v at %s: %v", id, took, target.name, err)
		return false
	}
	l.acked = append(l.acked, id)
	l.slowest = max(l.slowest, took)
	close(l.progress)
	l.progress = make(chan struct{})
	return true
}

// moveTo has the writers write at these nodes. No call at another one is under way when it returns.
func (l *load) moveTo(targets ...*node) {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.targets = targets
}

// await waits until so many more writes are acknowledged.
func (l *load) await(more int) {
	l.t.Helper()
	late := time.After(patience)
	l.mu.Lock()
	want := len(l.acked) + more
	l.mu.Unlock()
	for {
		l.mu.Lock()
		have, progress, failed := len(l.acked), l.progress, len(l.failed)
		l.mu.Unlock()
		if have >= want {
			return
		}
		select {
		case <-progress:
		case <-late:
			l.t.Fatalf("%d writes are acknowledged, want %d; %d failed", have, want, failed)
		}
	}
}

// stop ends the writers.
func (l *load) stop() {
	l.stopping.Store(true)
	l.writers.Wait()
}

// stopWithoutFailure ends the writers and fails if a single call failed.
func (l *load) stopWithoutFailure() {
	l.t.Helper()
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, why := range l.failed {
		l.t.Errorf("a write failed: %s", why)
	}
	l.t.Logf("%d writes acknowledged, %d failed; the slowest took %v", len(l.acked), len(l.failed), l.slowest)
}

// check fails unless each of the nodes has every job that was acknowledged, once, and beyond those only such whose
// call failed; the spool has their weight reserved, and the revision counts each of them once. The writers have ended.
func (l *load) check(nodes ...*node) {
	l.t.Helper()
	sameEverywhere(l.t, nodes...)
	answer := nodes[0].get("/api/v1/print_jobs")
	jobs := decode[[]job](l.t, answer)
	l.mu.Lock()
	defer l.mu.Unlock()
	expected := map[string]bool{}
	for _, id := range l.acked {
		expected[id] = true
	}
	count := map[string]int{}
	for _, j := range jobs {
		count[j.ID]++
		if _, failed := l.failed[j.ID]; !expected[j.ID] && !failed {
			l.t.Errorf("job %s is there; nobody made it", j.ID)
		}
	}
	missing := slices.DeleteFunc(slices.Clone(l.acked), func(id string) bool { return count[id] > 0 })
	if len(missing) > 0 {
		l.t.Errorf("%d of %d acknowledged jobs are missing, among them %v", len(missing), len(l.acked), missing[:min(5, len(missing))])
	}
	for id, n := range count {
		if n > 1 {
			l.t.Errorf("job %s is there %d times", id, n)
		}
	}
	held := decode[spool](l.t, nodes[0].get("/api/v1/filaments/"+loadSpool))
	if want := float64(len(jobs)) * loadWeight; math.Abs(held.Reserved-want) > loadWeight/2 {
		l.t.Errorf("%d jobs have %v g reserved, want %v", len(jobs), held.Reserved, want)
	}
	// A job and its spool: two changes each.
	if want := l.base + 2*uint64(len(jobs)); answer.revision(l.t) != want {
		l.t.Errorf("revision %d after %d jobs from revision %d, want %d: a change was made twice", answer.revision(l.t), len(jobs), l.base, want)
	}
}
