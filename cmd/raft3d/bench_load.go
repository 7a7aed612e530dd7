package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// workload is one kind of load.
type workload struct {
	name, usage string
	clients     int  // the default
	records     int  // objects that must be there to be read; 0: as -records says
	needs       bool // records at all
	request     func(b *bench, host string, buf []byte) []byte
}

var workloads = []workload{
	{name: "writes", usage: "create printers", request: (*bench).createPrinter},
	{name: "jobs", usage: "create print jobs, all on one spool", request: (*bench).createJob},
	{name: "reads", usage: "read one object, linearizable", needs: true, request: func(b *bench, host string, buf []byte) []byte { return b.read(host, "", buf) }},
	{name: "stale", usage: "read one object as the node has it", needs: true, request: func(b *bench, host string, buf []byte) []byte {
		return b.read(host, "?consistency=stale", buf)
	}},
	{name: "mixed", usage: "nine reads to one creation", needs: true, request: func(b *bench, host string, buf []byte) []byte {
		if rand.IntN(10) == 0 {
			return b.createPrinter(host, buf)
		}
		return b.read(host, "", buf)
	}},
	{name: "lists", usage: "read a list of 10,000 whole; goes first, while there are no others", clients: 4, needs: true, records: 10_000, request: (*bench).list},
}

const (
	longestCall  = 65 * time.Second // the longest that a node may take, and some
	benchDigits  = 2                // of latencies: to 1 %
	benchBackoff = 50 * time.Millisecond
)

// load is what some clients do for some time.
type load struct {
	b       *bench
	request func(b *bench, host string, buf []byte) []byte
	clients int
	every   time.Duration // between two calls of a client; 0: each as soon as the one before is answered

	counting atomic.Bool
	hands    []*hand
}

// hand is one client and what it has measured since it was last asked.
type hand struct {
	mu     sync.Mutex
	took   *hdrhistogram.Histogram // microseconds; guarded by mu
	errors map[string]int64        // guarded by mu
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longestCall.Microseconds(), benchDigits)
}

func newLoad(b *bench, w workload, clients int, rate float64) *load {
	l := &load{b: b, request: w.request, clients: clients}
	if rate > 0 {
		l.every = time.Duration(float64(clients) / rate * float64(time.Second))
	}
	for range clients {
		l.hands = append(l.hands, &hand{took: newHistogram(), errors: map[string]int64{}})
	}
	return l
}

// run has the clients work until ctx ends.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for i, h := range l.hands {
		all.Go(func() { l.client(ctx, i, h) })
	}
	all.Wait()
}

// client calls one node after another's answer, at its own connection. With a rate, time is counted from the moment in
// which the call was due, so that a node that stands still is not spared (coordinated omission).
func (l *load) client(ctx context.Context, number int, h *hand) {
	var conn *benchConn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	node := number
	var buf []byte
	due := time.Now()
	if l.every > 0 {
		due = due.Add(rand.N(l.every))
	}
	for ctx.Err() == nil {
		if l.every > 0 {
			if !wait(ctx, time.Until(due)) {
				return
			}
		} else {
			due = time.Now()
		}
		var status int
		var err error
		if conn == nil {
			conn, err = dialBench(l.b.nodes[node%len(l.b.nodes)], 5*time.Second)
		}
		if err == nil {
			buf = l.request(l.b, conn.addr, buf[:0])
			status, err = conn.call(buf, longestCall)
		}
		h.add(l.counting.Load(), time.Since(due), status, err)
		if err != nil {
			if conn != nil {
				conn.Close()
				conn = nil
			}
			node++ // the next one may be better
			if !wait(ctx, benchBackoff) {
				return
			}
		}
		due = due.Add(l.every)
	}
}

// wait returns false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (h *hand) add(counts bool, took time.Duration, status int, err error) {
	if !counts {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil:
		h.errors[connectionFault(err)]++
	case status >= 300:
		h.errors[fmt.Sprint("status ", status)]++
	default:
		// A value past the end of the scale cannot be: the connection gives up before.
		_ = h.took.RecordValue(max(1, took.Microseconds()))
	}
}

func connectionFault(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection"
	case errors.As(err, &op) && op.Timeout():
		return "no answer"
	}
	return "connection lost"
}

// take adds what was measured since the last time.
func (l *load) take(took *hdrhistogram.Histogram, faults map[string]int64) (errors int64) {
	for _, h := range l.hands {
		h.mu.Lock()
		took.Merge(h.took)
		h.took.Reset()
		for what, n := range h.errors {
			faults[what] += n
			errors += n
		}
		clear(h.errors)
		h.mu.Unlock()
	}
	return errors
}
