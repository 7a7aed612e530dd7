//go:build unix

package systemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"raft3d/client"
)

// cutter stands in front of a node and passes everything on, but cuts every other answer off at a random byte. Each
// connection carries one call.
type cutter struct {
	address string
	node    string       // host:port
	cut     atomic.Int64 // answers
}

func newCutter(t testing.TB, node string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{address: l.Addr().String(), node: node}
	var running sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			running.Go(func() {
				defer stop()
				c.pass(ctx, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		end()
		running.Wait()
	})
	return c
}

// pass carries one connection. What the client sends goes on as it comes; the answer is held back until its end, so
// that the cut may fall on any byte of it.
func (c *cutter) pass(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	node, err := net.Dial("tcp", c.node)
	if err != nil {
		return
	}
	defer node.Close()
	stop := context.AfterFunc(ctx, func() { node.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(node, conn)
	}()
	var answer bytes.Buffer
	_, _ = io.Copy(&answer, node) // the client asks for the connection to be closed after each call
	if length := answer.Len(); rand.IntN(2) == 0 && length > 0 {
		answer.Truncate(rand.IntN(length))
		c.cut.Add(1)
	}
	_, _ = answer.WriteTo(conn)
	conn.Close()
	<-sent
}

// oneCall asks for a connection for each call.
type oneCall struct{ *http.Transport }

func (o oneCall) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Close = true
	return o.Transport.RoundTrip(r)
}

// Each caller's script makes a printer, a spool and a job, starts it and ends it: five calls, each with a trace of its
// own in the state and in the history, so that a double or a loss shows whatever the answers were. RAFT3D_CALLS sets
// another number of calls.
func TestEachCallHasOneEffectHoweverOftenItsAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	calls := 500
	if text := os.Getenv("RAFT3D_CALLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		calls = n
	}
	c := newCluster(t)
	var cutters []*cutter
	var servers []string
	for _, n := range c.nodes {
		cut := newCutter(t, n.http)
		cutters, servers = append(cutters, cut), append(servers, cut.address)
	}
	talk, err := client.New(client.Config{Servers: servers, Transport: oneCall{&http.Transport{}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(calls)*patience/100+patience)
	defer cancel()

	const callsEach = 5
	rounds := calls / callsEach
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for round := caller; round < rounds; round += 8 {
				if err := farmLife(ctx, talk, round); err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
			}
		})
	}
	callers.Wait()
	if t.Failed() {
		t.FailNow()
	}

	// The ids were made by the server: a call that had happened twice would have left one object more.
	for _, list := range lists {
		objects := decode[[]json.RawMessage](t, c.nodes[0].get(list))
		if len(objects) != rounds {
			t.Errorf("%s has %d objects after %d rounds", list, len(objects), rounds)
		}
	}
	for _, f := range decode[[]client.Filament](t, c.nodes[0].get("/api/v1/filaments")) {
		if f.Remaining != 900*client.Gram || f.Reserved != 0 {
			t.Errorf("the spool %s has %v g left and %v g reserved, want 900 and 0", f.Name, f.Remaining, f.Reserved)
		}
	}
	created, moved := map[string]int{}, map[string]int{}
	direct, err := client.New(client.Config{Servers: []string{c.nodes[1].http, c.nodes[2].http}})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	next := uint64(1)
	for e, err := range direct.Events(ctx, client.Feed{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Revision != next {
			t.Fatalf("event %d follows event %d", e.Revision, next-1)
		}
		next++
		var object struct{ Name, Status string }
		if err := json.Unmarshal(e.Object, &object); err != nil {
			t.Fatal(err)
		}
		if e.Action == "created" {
			created[e.Kind+" "+object.Name]++
		} else if e.Kind == "print_job" {
			moved[object.Name+" "+object.Status]++
		}
	}
	for name, n := range created {
		if n != 1 {
			t.Errorf("%s was created %d times", name, n)
		}
	}
	for name, n := range moved {
		if n != 1 {
			t.Errorf("the job was moved to %s %d times", name, n)
		}
	}
	if len(created) != 3*rounds || len(moved) != 2*rounds {
		t.Errorf("%d creations and %d moves in %d rounds", len(created), len(moved), rounds)
	}
	sameEverywhere(t, c.nodes...)
	var cut int64
	for _, c := range cutters {
		cut += c.cut.Load()
	}
	if cut < int64(calls)/4 {
		t.Errorf("only %d answers of %d calls were cut off", cut, calls)
	}
	t.Logf("%d calls, %d answers cut off", rounds*callsEach, cut)
}

// farmLife makes five calls that depend on each other.
func farmLife(ctx context.Context, c *client.Client, round int) error {
	name := client.NewText{Name: fmt.Sprintf("round %d", round)}
	printer, err := c.Printers().Create(ctx, client.NewPrinter{NewText: name, Company: "Prusa", Model: "MK4"})
	if err != nil {
		return fmt.Errorf("create a printer: %w", err)
	}
	spool, err := c.Filaments().Create(ctx, client.NewFilament{NewText: name, Type: "PLA", Color: "black", Total: 1000 * client.Gram})
	if err != nil {
		return fmt.Errorf("create a spool: %w", err)
	}
	job, err := c.Jobs().Create(ctx, client.NewJob{NewText: name, PrinterID: printer.ID, FilamentID: spool.ID,
		Filepath: "a.gcode", Weight: 120 * client.Gram})
	if err != nil {
		return fmt.Errorf("create a job: %w", err)
	}
	if _, err := c.Jobs().Start(ctx, job.ID); err != nil {
		return fmt.Errorf("start the job: %w", err)
	}
	used := 100 * client.Gram
	done, err := c.Jobs().Done(ctx, job.ID, &used)
	if err != nil {
		return fmt.Errorf("end the job: %w", err)
	}
	if done.Used == nil || *done.Used != used {
		return errors.New("the job did not use what it used")
	}
	return nil
}
