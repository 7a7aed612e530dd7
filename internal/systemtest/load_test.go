//go:build unix

package systemtest

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is writers that create print jobs and patch each once, as fast as they are answered, and note what was
// acknowledged. Each job has an id of its writer's own; that it is there twice cannot be, so the patches are what would
// show that a change happens twice: each moves the revision on by one. A writer ends at its first failure.
type load struct {
	t    testing.TB
	base uint64 // the revision before the first job

	gate    sync.RWMutex // held for reading during each call
	targets []*node      // guarded by gate

	mu       sync.Mutex
	created  []string          // guarded by mu: ids of acknowledged jobs
	patched  map[string]bool   // guarded by mu: ids of jobs whose patch was acknowledged
	failed   map[string]string // guarded by mu: by id of the job, what failed of it and why
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
	l := &load{t: t, base: made.revision(t), targets: targets, patched: map[string]bool{}, failed: map[string]string{}, progress: make(chan struct{})}
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
		created := l.call(writer+n, 201, "POST", "/api/v1/print_jobs", jobBody(id, loadPrinter, loadSpool, loadWeight), id)
		if !created || !l.call(writer+n+1, 200, "PATCH", "/api/v1/print_jobs/"+id, `{"notes":"patched"}`, id) {
			return
		}
	}
}

// call makes one call about a job at the target whose turn it is, and notes what came of it.
func (l *load) call(turn, status int, method, path, body, id string) (acknowledged bool) {
	l.gate.RLock()
	defer l.gate.RUnlock()
	target := l.targets[turn%len(l.targets)]
	began := time.Now()
	r, err := target.try(method, path, body)
	took := time.Since(began)
	if err == nil && r.status != status {
		err = fmt.Errorf("%v", r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed[id] = fmt.Sprintf("%s %s of %s, after %v at %s: %v", method, path, id, took, target.name, err)
		return false
	}
	if method == "POST" {
		l.created = append(l.created, id)
	} else {
		l.patched[id] = true
	}
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
	want := len(l.created) + len(l.patched) + more
	l.mu.Unlock()
	for {
		l.mu.Lock()
		have, progress, failed := len(l.created)+len(l.patched), l.progress, len(l.failed)
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
	l.t.Logf("%d writes acknowledged, %d failed; the slowest took %v", len(l.created)+len(l.patched), len(l.failed), l.slowest)
}

// check fails unless each of the nodes has every job that was acknowledged, once and patched if that was, and beyond
// those only such whose call failed; the spool has their weight reserved, and the revision counts each change once. The
// writers have ended.
func (l *load) check(nodes ...*node) {
	l.t.Helper()
	sameEverywhere(l.t, nodes...)
	answer := nodes[0].get("/api/v1/print_jobs")
	jobs := decode[[]job](l.t, answer)
	l.mu.Lock()
	defer l.mu.Unlock()
	there := map[string]job{}
	patches := 0
	for _, j := range jobs {
		if _, twice := there[j.ID]; twice {
			l.t.Errorf("job %s is there twice", j.ID)
		}
		there[j.ID] = j
		if j.Notes != "" {
			patches++
		}
	}
	var missing, unpatched []string
	for _, id := range l.created {
		if _, ok := there[id]; !ok {
			missing = append(missing, id)
		} else if l.patched[id] && there[id].Notes != "patched" {
			unpatched = append(unpatched, id)
		}
	}
	if len(missing)+len(unpatched) > 0 {
		l.t.Errorf("of %d acknowledged jobs %d are missing (%.200s) and %d lack their patch (%.200s)",
			len(l.created), len(missing), fmt.Sprint(missing), len(unpatched), fmt.Sprint(unpatched))
	}
	acknowledged := map[string]bool{}
	for _, id := range l.created {
		acknowledged[id] = true
	}
	for id, j := range there {
		_, failed := l.failed[id]
		if !acknowledged[id] && !failed || j.Notes != "" && !l.patched[id] && !failed {
			l.t.Errorf("job %+v is there; nobody made it so", j)
		}
	}
	held := decode[spool](l.t, nodes[0].get("/api/v1/filaments/"+loadSpool))
	if want := float64(len(jobs)) * loadWeight; math.Abs(held.Reserved-want) > loadWeight/2 {
		l.t.Errorf("%d jobs have %v g reserved, want %v", len(jobs), held.Reserved, want)
	}
	// A creation changes the job and its spool, a patch the job.
	if got, want := answer.revision(l.t), l.base+2*uint64(len(jobs))+uint64(patches); got != want {
		l.t.Errorf("%d jobs with %d patches have moved the revision from %d to %d, want %d: a change happened twice",
			len(jobs), patches, l.base, got, want)
	}
}
