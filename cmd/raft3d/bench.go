package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/urfave/cli/v3"

	"raft3d/client"
)

func benchVerb() verb {
	var kinds []string
	for _, w := range workloads {
		kinds = append(kinds, w.name+": "+w.usage)
	}
	return verb{
		name: "bench", args: "[WORKLOAD,...]", usage: "measure how fast the nodes of -server answer", patience: -1,
		example: "raft3d bench writes,reads -clients=64 -duration=10s -server=http://127.0.0.1:8001,http://127.0.0.1:8002",
		flags: []cli.Flag{
			&cli.IntFlag{Name: "clients", Value: 64, Local: true, Usage: "`NUMBER` of connections, spread over the nodes"},
			&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Local: true, Usage: "`TIME` that each workload is measured"},
			&cli.DurationFlag{Name: "warmup", Value: time.Second, Local: true, Usage: "`TIME` before it, which does not count"},
			&cli.Float64Flag{Name: "rate", HideDefault: true, Local: true, Usage: "`NUMBER` of calls a second, of all clients together; left out: each calls again as soon as it is answered"},
			&cli.IntFlag{Name: "size", Value: 300, Local: true, Usage: "`BYTES` of JSON in what is created"},
			&cli.IntFlag{Name: "records", Value: 1000, Local: true, Usage: "`NUMBER` of objects to read from"},
			&cli.StringFlag{Name: "plot", Local: true, Usage: "`FILE` to write a picture to: calls and latency in each second, as SVG"},
			&cli.BoolFlag{Name: "keep", HideDefault: true, Local: true, Usage: "leave what was created"},
			&cli.BoolFlag{Name: "force", HideDefault: true, Local: true, Usage: "measure a farm that is in use: its history is bounded, and thousands of changes push out its own"},
		},
		details: "WORKLOADS\n  " + strings.Join(kinds, "\n  ") + "\n  all of them where none is named\n",
		do:      func(ctx context.Context, c *invocation) error { return c.bench(ctx) },
	}
}

// bench is one call of the verb.
type bench struct {
	nodes  []string // host:port
	run    string   // in front of every id that it makes
	size   int      // bytes of JSON in what is created
	client *client.Client

	records  int // printers that are there to be read, RUN-r1 and so on
	readable int // of them those that single reads are of, as -records says
	printers atomic.Int64
	jobs     atomic.Int64
}

func (c *invocation) bench(ctx context.Context) (err error) {
	chosen, err := c.chosenWorkloads()
	if err != nil {
		return err
	}
	b := &bench{run: fmt.Sprintf("bench-%06x", rand.Uint32N(1<<24)), size: c.Int("size"), readable: c.Int("records"), client: c.client}
	for _, server := range strings.Split(c.String("server"), ",") {
		if server = strings.TrimSpace(server); !strings.Contains(server, "://") {
			server = "http://" + server
		}
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "http" {
			return usagef("-server=%s: bench speaks http:// only", server)
		}
		if u.Port() == "" {
			u.Host += ":80"
		}
		b.nodes = append(b.nodes, u.Host)
	}
	if err := b.mayWrite(ctx, c.Bool("force")); err != nil {
		return err
	}
	if !c.Bool("keep") {
		defer func() {
			// Also where it was interrupted.
			ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*time.Minute, errors.New("it takes more than five minutes"))
			defer cancel()
			if cleanErr := b.clean(ctx, newProgress(c.stderr, "removing", 0)); cleanErr != nil {
				err = errors.Join(err, fmt.Errorf("remove what the bench made, ids that begin with %s: %w", b.run, cleanErr))
			}
		}()
	}
	report := benchReport{Version: thisBuild().version, Nodes: b.nodes, Size: b.size}
	for _, w := range chosen {
		r, err := c.measure(ctx, b, w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		report.Workloads = append(report.Workloads, r)
		if ctx.Err() != nil {
			break
		}
	}
	if path := c.String("plot"); path != "" {
		if err := os.WriteFile(path, report.plot(), 0o644); err != nil {
			return err
		}
	}
	if c.as(asJSON) {
		return json.NewEncoder(c.stdout).Encode(report)
	}
	return report.table(c.stdout, c.as(asWide))
}

func (c *invocation) chosenWorkloads() (chosen []workload, err error) {
	chosen = slices.Clone(workloads)
	if len(c.args) > 0 {
		chosen = nil
		for _, name := range strings.Split(c.args[0], ",") {
			i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
			if i < 0 {
				var known []string
				for _, w := range workloads {
					known = append(known, w.name)
				}
				return nil, usagef("%q is not a workload: %s", name, strings.Join(known, ", "))
			}
			chosen = append(chosen, workloads[i])
		}
	}
	// A list is of all that the farm has, so it comes before what adds to that.
	slices.SortStableFunc(chosen, func(a, b workload) int { return cmp.Compare(b.records, a.records) })
	for _, n := range []struct {
		flag        string
		least, most int
	}{{"clients", 1, 10_000}, {"size", 200, 2000}, {"records", 1, 1_000_000}} {
		if v := c.Int(n.flag); v < n.least || v > n.most {
			return nil, usagef("-%s=%d: it is %d to %d", n.flag, v, n.least, n.most)
		}
	}
	if d := c.Duration("duration"); d < time.Second {
		return nil, usagef("-duration=%v: it is 1s at least", d)
	}
	if d := c.Duration("warmup"); d < 0 {
		return nil, usagef("-warmup=%v: it is 0s at least", d)
	}
	if r := c.Float64("rate"); r < 0 {
		return nil, usagef("-rate=%v: it is over 0", r)
	}
	return chosen, nil
}

// mayWrite refuses a farm that somebody uses.
func (b *bench) mayWrite(ctx context.Context, force bool) error {
	for _, kind := range []string{"printers", "filaments", "print_jobs"} {
		r, err := b.client.Do(ctx, client.Request{Method: http.MethodGet, Path: "/api/v1/" + kind, Query: url.Values{"limit": {"1"}}})
		if err != nil {
			return err
		}
		if n := r.Header.Get("X-Total-Count"); n != "0" && !force {
			return fmt.Errorf("the farm holds %s %s: measure one that is empty, or say -force", n, strings.ReplaceAll(kind, "_", " "))
		}
	}
	return nil
}

// measure prepares a workload and lets it run.
func (c *invocation) measure(ctx context.Context, b *bench, w workload) (workloadReport, error) {
	clients := c.Int("clients")
	if w.clients != 0 && !c.IsSet("clients") {
		clients = w.clients
	}
	if w.needs {
		if err := b.prepare(ctx, max(w.records, c.Int("records")), newProgress(c.stderr, "preparing", 0)); err != nil {
			return workloadReport{}, err
		}
	}
	if w.name == "jobs" {
		if err := b.prepareSpool(ctx); err != nil {
			return workloadReport{}, err
		}
	}
	l := newLoad(b, w, clients, c.Float64("rate"))
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { l.run(ctx) })
	defer running.Wait()
	defer cancel()
	if !wait(ctx, c.Duration("warmup")) {
		return workloadReport{}, context.Cause(ctx)
	}
	p := newProgress(c.stderr, w.name, 0)
	defer p.end()
	l.counting.Store(true)
	began := time.Now()
	total, faults := newHistogram(), map[string]int64{}
	r := workloadReport{Workload: w.name, Clients: clients, Rate: c.Float64("rate"), Errors: faults}
	seconds := time.NewTicker(time.Second)
	defer seconds.Stop()
	last := began
	for end := time.After(c.Duration("duration")); ; {
		done := false
		select {
		case <-seconds.C:
		case <-end:
			done = true
		case <-ctx.Done():
			done = true
		}
		now, second := time.Now(), newHistogram()
		if now.Sub(last) >= 500*time.Millisecond || done {
			failed := l.take(second, faults)
			total.Merge(second)
			if now.Sub(last) >= 500*time.Millisecond {
				r.Seconds = append(r.Seconds, secondOf(began, now, now.Sub(last), second, failed))
				p.show(r.Seconds[len(r.Seconds)-1].line(w.name, c.Duration("duration")))
			}
			last = now
		}
		if done {
			r.finish(now.Sub(began), total)
			return r, nil
		}
	}
}

func secondOf(began, now time.Time, span time.Duration, h *hdrhistogram.Histogram, failed int64) second {
	return second{
		At: now.Sub(began).Seconds(), Calls: float64(h.TotalCount()) / span.Seconds(), Errors: failed,
		P50: float64(h.ValueAtQuantile(50)) / 1000, P99: float64(h.ValueAtQuantile(99)) / 1000,
	}
}

// The objects.

func (b *bench) printer(id string) []byte {
	return padded(fmt.Sprintf(`{"id":%q,"company":"Prusa","model":"MK4S","name":"a printer of a measurement","labels":{"room":"b12","row":"7"},"notes":"`, id), b.size)
}

// padded ends an object that was begun up to its notes.
func padded(begun string, size int) []byte {
	const pad = "cleaned, nozzle 0.4 mm, first layer checked; "
	notes := strings.Repeat(pad, size/len(pad)+1)[:max(1, size-len(begun)-len(`"}`))]
	return []byte(begun + strings.TrimSpace(notes) + `"}`)
}

func (b *bench) createPrinter(host string, buf []byte) []byte {
	id := fmt.Sprintf("%s-p%09d", b.run, b.printers.Add(1))
	return appendCall(buf, http.MethodPost, "/api/v1/printers", host, b.printer(id))
}

func (b *bench) createJob(host string, buf []byte) []byte {
	body := padded(fmt.Sprintf(`{"id":"%s-j%09d","printer_id":"%s-own","filament_id":"%s-own","filepath":"parts/bracket_v7.gcode","print_weight_in_grams":0.001,"name":"a job of a measurement","notes":"`,
		b.run, b.jobs.Add(1), b.run, b.run), b.size)
	return appendCall(buf, http.MethodPost, "/api/v1/print_jobs", host, body)
}

func (b *bench) record(n int) string { return b.run + "-r" + strconv.Itoa(n) }

func (b *bench) read(host, query string, buf []byte) []byte {
	return appendCall(buf, http.MethodGet, "/api/v1/printers/"+b.record(1+rand.IntN(b.readable))+query, host, nil)
}

func (b *bench) list(host string, buf []byte) []byte {
	return appendCall(buf, http.MethodGet, "/api/v1/printers", host, nil)
}

// prepare creates records until there are so many.
func (b *bench) prepare(ctx context.Context, records int, p *progress) error {
	from := b.records
	if from >= records {
		return nil
	}
	b.records = records
	return b.each(ctx, p, records-from, func(host string, buf []byte, i int) []byte {
		return appendCall(buf, http.MethodPost, "/api/v1/printers", host, b.printer(b.record(from+1+i)))
	})
}

func (b *bench) prepareSpool(ctx context.Context) error {
	if b.jobs.Load() > 0 {
		return nil
	}
	for path, body := range map[string]map[string]any{
		"printers":  {"id": b.run + "-own", "company": "Prusa", "model": "MK4S"},
		"filaments": {"id": b.run + "-own", "type": "PLA", "color": "red", "total_weight_in_grams": 100_000},
	} {
		if _, err := b.client.Do(ctx, client.Request{Method: http.MethodPost, Path: "/api/v1/" + path, Body: body}); err != nil {
			return err
		}
	}
	return nil
}

// clean removes what was created.
func (b *bench) clean(ctx context.Context, p *progress) error {
	remove := func(path, prefix string, n int, digits int) error {
		return b.each(ctx, p, n, func(host string, buf []byte, i int) []byte {
			return appendCall(buf, http.MethodDelete, fmt.Sprintf("/api/v1/%s/%s-%s%0*d", path, b.run, prefix, digits, i+1), host, nil)
		})
	}
	jobs := int(b.jobs.Load())
	if jobs > 0 {
		err := b.each(ctx, p, jobs, func(host string, buf []byte, i int) []byte {
			return appendCall(buf, http.MethodPost, fmt.Sprintf("/api/v1/print_jobs/%s-j%09d/status?status=Canceled", b.run, i+1), host, nil)
		})
		if err != nil {
			return err
		}
		if err := remove("print_jobs", "j", jobs, 9); err != nil {
			return err
		}
		for _, path := range []string{"printers", "filaments"} {
			if _, err := b.client.Do(ctx, client.Request{Method: http.MethodDelete, Path: "/api/v1/" + path + "/" + b.run + "-own"}); err != nil {
				return err
			}
		}
	}
	return errors.Join(remove("printers", "r", b.records, 1), remove("printers", "p", int(b.printers.Load()), 9))
}

// each makes n calls over a few connections. What is not there, or is there already, is as it should be: the answer to a
// call may have been lost.
func (b *bench) each(ctx context.Context, p *progress, n int, request func(host string, buf []byte, i int) []byte) error {
	defer p.end()
	var next, done atomic.Int64
	failed := make(chan error, 64)
	var all sync.WaitGroup
	for i := range min(n, cap(failed)) {
		all.Go(func() {
			failed <- b.some(ctx, i, func(host string, buf []byte) []byte {
				if i := int(next.Add(1)) - 1; i < n {
					if i := done.Add(1); i%500 == 0 {
						p.show(fmt.Sprintf("%s %d of %d", p.what, i, n))
					}
					return request(host, buf, i)
				}
				return nil
			})
		})
	}
	all.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// some makes the calls of one connection until there is no request any more. A connection that breaks is replaced, and
// the call made again.
func (b *bench) some(ctx context.Context, number int, request func(host string, buf []byte) []byte) error {
	var conn *benchConn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	var buf []byte
	const tries = 100
	for {
		if buf = request(b.nodes[0], buf[:0]); buf == nil {
			return nil
		}
		for try := 0; ; try++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			status, err := 0, error(nil)
			if conn == nil {
				conn, err = dialBench(b.nodes[(number+try)%len(b.nodes)], 5*time.Second)
			}
			if err == nil {
				status, err = conn.call(buf, longestCall)
			}
			if err == nil && (status < 300 || status == http.StatusNotFound || status == http.StatusConflict) {
				break
			}
			if err == nil {
				err = fmt.Errorf("status %d to %q", status, strings.SplitN(string(buf), "\r\n", 2)[0])
			}
			if conn != nil {
				conn.Close()
				conn = nil
			}
			if try == tries {
				return err
			}
			wait(ctx, benchBackoff)
		}
	}
}
