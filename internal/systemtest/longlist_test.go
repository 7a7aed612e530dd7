//go:build linux

package systemtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// jobsEnv says how many jobs TestALongListIsAnsweredInPagesAndStreamedInLittleMemory makes.
const jobsEnv = "RAFT3D_JOBS"

// A farm has all the jobs of its past. A page of those that wait is there at once and knows how many they are; and who
// wants them all gets them without the node holding them in memory. The figures are logged: RAFT3D_JOBS=1000000 with
// -v and -timeout 30m measures what an old farm would see.
func TestALongListIsAnsweredInPagesAndStreamedInLittleMemory(t *testing.T) {
	const writers, printers, most = 64, 50, 64 << 20
	jobs := 5_000
	if given := os.Getenv(jobsEnv); given != "" {
		var err error
		if jobs, err = strconv.Atoi(given); err != nil {
			t.Fatalf("%s: %v", jobsEnv, err)
		}
	}
	n := emptyCluster(t).add()
	n.start()
	n.awaitReady()
	for p := range printers {
		n.create("printers", fmt.Sprintf(`{"id":"p%d","company":"Prusa","model":"MK4"}`, p))
		n.create("filaments", fmt.Sprintf(`{"id":"f%d","type":"PLA","color":"black","total_weight_in_grams":100000}`, p))
	}
	// Every thousandth is cancelled; the others wait.
	cancelled := func(i int) bool { return i%1000 == 0 }
	began := time.Now()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := w; i < jobs; i += writers {
				r, err := n.try("POST", "/api/v1/print_jobs", jobBody(fmt.Sprintf("job-%d", i), fmt.Sprintf("p%d", i%printers), fmt.Sprintf("f%d", i%printers), 0.001))
				if err == nil && r.status == 201 && cancelled(i) {
					r, err = n.try("POST", fmt.Sprintf("/api/v1/print_jobs/job-%d/status?status=Canceled", i), "")
				}
				if err != nil || r.status >= 300 {
					t.Errorf("job %d: %v %v", i, r, err)
					return
				}
			}
		})
	}
	writing.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d jobs made in %v", jobs, time.Since(began).Round(time.Millisecond))
	ended := (jobs + 999) / 1000

	for _, c := range []struct {
		filter string
		total  int
	}{
		{"status=Queued", jobs - ended},
		{"status=Canceled", ended},
		{"status=Running", 0},
		{"printer_id=p1", (jobs + printers - 2) / printers},
		{"filament_id=f2&status=Queued", (jobs + printers - 3) / printers},
	} {
		var took []time.Duration
		for range 21 {
			req, err := http.NewRequest("GET", "http://"+n.http+"/api/v1/print_jobs?limit=100&"+c.filter, nil)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			r, err := send(n.client, req)
			took = append(took, time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.header.Get("X-Total-Count"); got != strconv.Itoa(c.total) {
				t.Fatalf("%s: X-Total-Count is %s, want %d", c.filter, got, c.total)
			}
			if got := len(decode[[]job](t, r)); got != min(100, c.total) {
				t.Fatalf("%s: the page has %d jobs, want %d", c.filter, got, min(100, c.total))
			}
		}
		slices.Sort(took)
		t.Logf("%-28s first page of 100 of %d: median %v, slowest %v of %d", c.filter, c.total, took[len(took)/2], took[len(took)-1], len(took))
	}

	before := anonymousMemory(t, n)
	highest := before
	began = time.Now()
	resp, err := n.client.Get("http://" + n.http + "/api/v1/print_jobs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Total-Count"); resp.StatusCode != http.StatusOK || got != strconv.Itoa(jobs) {
		t.Fatalf("the whole list: status %d, X-Total-Count %s, want 200 and %d", resp.StatusCode, got, jobs)
	}
	list := json.NewDecoder(bufio.NewReaderSize(resp.Body, 1<<20))
	if _, err := list.Token(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for list.More() {
		var j struct {
			ID string `json:"id"`
		}
		if err := list.Decode(&j); err != nil {
			t.Fatal(err)
		}
		if seen++; seen%max(1, jobs/100) == 0 {
			highest = max(highest, anonymousMemory(t, n))
		}
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if seen != jobs {
		t.Errorf("the whole list has %d jobs, want %d", seen, jobs)
	}
	t.Logf("the whole list: %d jobs in %v; the node's own memory %d MiB before, %d MiB at most meanwhile",
		seen, time.Since(began).Round(time.Millisecond), before>>20, highest>>20)
	if highest > before+most {
		t.Errorf("the node grew from %d to %d MiB while the list streamed, want %d MiB more at most", before>>20, highest>>20, most>>20)
	}
}

// anonymousMemory is how many bytes the node's process has in memory beside mapped files, which the kernel takes back
// as it likes.
func anonymousMemory(t testing.TB, n *node) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("no RssAnon in\n%s", status)
	return 0
}
