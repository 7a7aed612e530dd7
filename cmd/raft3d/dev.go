package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"
)

const devExample = `  raft3d dev                       three nodes on ports 8001 to 8003; Ctrl-C ends them
  raft3d dev -dir /tmp/farm        the same, with their data elsewhere
`

func devFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", Value: "data", Usage: "`DIR` where the three data directories are", Local: true},
		&cli.IntFlag{Name: "http-port", Value: 8001, Usage: "`PORT` the first of three for clients", Local: true},
		&cli.IntFlag{Name: "raft-port", Value: 9001, Usage: "`PORT` the first of three for the nodes among themselves", Local: true},
	}
}

// dev runs a cluster of three as children of this process: this same executable, with the flags that one would type
// in three terminals. A child that dies is reported and left dead, since dying nodes are what one wants to try.
type dev struct {
	executable string
	env        []string // of the children
	nodes      []devNode
	out        *prefixWriter

	readyTimeout time.Duration // after which the cluster is said to be slow; it is not ended then
	killAfter    time.Duration // between asking a child to end and killing it
}

type devNode struct {
	name, http, raft, data string
	pid                    int // once started
}

func newDev(c *cli.Command, stdout io.Writer) (*dev, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	d := &dev{
		executable: executable, env: withoutNodeFlags(os.Environ()), out: &prefixWriter{w: stdout, colour: isTerminal(stdout)},
		readyTimeout: time.Minute, killAfter: 10 * time.Second,
	}
	for i := range 3 {
		name := fmt.Sprintf("node%d", i+1)
		d.nodes = append(d.nodes, devNode{
			name: name, data: filepath.Join(c.String("dir"), name),
			http: fmt.Sprintf("127.0.0.1:%d", c.Int("http-port")+i),
			raft: fmt.Sprintf("127.0.0.1:%d", c.Int("raft-port")+i),
		})
	}
	return d, nil
}

// withoutNodeFlags drops what would make three children one: the variables that stand for flags that differ.
func withoutNodeFlags(environ []string) []string {
	var kept []string
	for _, e := range environ {
		switch name, _, _ := strings.Cut(e, "="); name {
		case "RAFT3D_ID", "RAFT3D_HTTP", "RAFT3D_RAFT", "RAFT3D_HTTP_ADV", "RAFT3D_RAFT_ADV", "RAFT3D_DATA",
			"RAFT3D_BOOTSTRAP", "RAFT3D_JOIN", "RAFT3D_CONFIG":
		default:
			kept = append(kept, e)
		}
	}
	return kept
}

// args are the flags of node i: the first starts the cluster, the others join it there.
func (d *dev) args(i int) []string {
	n := d.nodes[i]
	args := []string{"-id=" + n.name, "-http=" + n.http, "-raft=" + n.raft, "-data=" + n.data}
	if i == 0 {
		return append(args, "-bootstrap")
	}
	return append(args, "-join="+d.nodes[0].http)
}

// run starts the nodes, says what to do with them, and ends them when ctx does. It returns when all have ended.
func (d *dev) run(ctx context.Context) error {
	for _, n := range d.nodes {
		for _, address := range []string{n.http, n.raft} {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("%w: something listens there already; if it is another \"raft3d dev\", end it first,"+
					" else give other ports with -http-port and -raft-port", err)
			}
			l.Close()
		}
	}
	// The end of the terminal is an end like Ctrl-C: the children are in groups of their own and would stay.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()
	// Where the kernel is asked to end the children with their parent, the parent is the thread that started them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var children sync.WaitGroup
	ended := make(chan struct{}) // closed when no child runs any more
	alive, endAll := context.WithCancel(ctx)
	defer endAll()
	var failed error
	for i := range d.nodes {
		wait, err := d.start(alive, i)
		if err != nil {
			failed = fmt.Errorf("start %s: %w", d.nodes[i].name, err)
			endAll()
			break
		}
		children.Go(wait)
	}
	go func() { children.Wait(); close(ended) }()
	if failed == nil && d.waitReady(alive, ended) {
		d.out.print("", d.guide())
	}
	<-ended
	if failed == nil && ctx.Err() == nil {
		failed = errors.New("all three nodes have ended")
	}
	return failed
}

// start starts node i. wait returns when it has ended, which it is asked to do when ctx ends.
func (d *dev) start(ctx context.Context, i int) (wait func(), err error) {
	n := &d.nodes[i]
	cmd := exec.CommandContext(ctx, d.executable, d.args(i)...)
	cmd.Env = d.env
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return endGently(cmd.Process) }
	cmd.WaitDelay = d.killAfter
	logs := d.out.lines(i, n.name)
	cmd.Stdout, cmd.Stderr = logs, logs
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n.pid = cmd.Process.Pid
	return func() {
		err := cmd.Wait()
		logs.flush()
		switch {
		case errors.Is(err, context.Canceled): // it was asked to, and did with status 0
			d.out.print(n.name, "ended\n")
		case err != nil:
			d.out.print(n.name, fmt.Sprintf("ended: %v; it is not started again\n", err))
		default:
			d.out.print(n.name, "ended by itself; it is not started again\n")
		}
	}, nil
}

// waitReady waits until every node serves and has a vote, so that any one of them may die. It is false when there is
// nothing to wait for any more.
func (d *dev) waitReady(ctx context.Context, ended <-chan struct{}) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	slow := time.After(d.readyTimeout)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := d.ready(ctx, client)
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			return false
		case <-slow:
			d.out.print("", fmt.Sprintf("not ready after %v: %v; the logs above may say why\n", d.readyTimeout, err))
		case <-again.C:
		}
	}
}

// ready says what is still missing; nil: nothing.
func (d *dev) ready(ctx context.Context, client *http.Client) error {
	for _, n := range d.nodes {
		if _, err := get(ctx, client, "http://"+n.http+"/readyz"); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	answer, err := get(ctx, client, "http://"+d.nodes[0].http+"/api/v1/cluster")
	if err != nil {
		return err
	}
	found, err := decodeCluster(answer)
	if err != nil {
		return err
	}
	votes := 0
	for _, m := range found.members {
		if m.Role != "learner" {
			votes++
		}
	}
	if votes < len(d.nodes) {
		return fmt.Errorf("%d of %d nodes have a vote", votes, len(d.nodes))
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", url, resp.StatusCode, problemDetail(answer))
	}
	return answer, err
}

// guide is what one reads when the cluster is up.
func (d *dev) guide() string {
	var b strings.Builder
	b.WriteString("\nThree nodes are up; each answers everything:\n\n")
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  %s  http://%s  pid %d  %s\n", n.name, n.http, n.pid, n.data)
	}
	b.WriteString("\nPaste these in another terminal:\n\n")
	for _, line := range strings.Split(strings.TrimSpace(d.quickStart()), "\n") {
		b.WriteString("  " + line + "\n")
	}
	fmt.Fprintf(&b, "\nThen kill one, say with kill -9 %d, and go on at the others. Ctrl-C ends all three; their data stays in %s.\n\n",
		d.nodes[0].pid, filepath.Dir(d.nodes[0].data))
	return b.String()
}

// quickStart is the README's quick start, with this cluster's addresses.
func (d *dev) quickStart() string {
	return strings.NewReplacer("127.0.0.1:8001", d.nodes[0].http, "127.0.0.1:8002", d.nodes[1].http,
		"127.0.0.1:8003", d.nodes[2].http).Replace(quickStartLines)
}

// quickStartLines are the calls of a first evening: a test holds them equal to the README's.
const quickStartLines = `
curl -d '{"id":"mk4","company":"Prusa","model":"MK4"}' http://127.0.0.1:8001/api/v1/printers
curl -d '{"id":"black","type":"PLA","color":"black","total_weight_in_grams":1000}' http://127.0.0.1:8002/api/v1/filaments
curl -d '{"id":"bracket","printer_id":"mk4","filament_id":"black","filepath":"bracket.gcode","print_weight_in_grams":120}' http://127.0.0.1:8003/api/v1/print_jobs
curl -X POST 'http://127.0.0.1:8001/api/v1/print_jobs/bracket/status?status=Running'
curl -X POST 'http://127.0.0.1:8002/api/v1/print_jobs/bracket/status?status=Done'
curl http://127.0.0.1:8003/api/v1/print_jobs
curl http://127.0.0.1:8001/api/v1/filaments
curl http://127.0.0.1:8002/api/v1/printers
curl http://127.0.0.1:8003/api/v1/cluster
`

// prefixWriter writes whole lines of several writers to w, each with the name of where it came from.
type prefixWriter struct {
	colour bool

	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// lines returns a writer whose lines go out under name, in the colour of its number. It has one user at a time.
func (p *prefixWriter) lines(number int, name string) *lineWriter {
	prefix := name
	if p.colour {
		prefix = "\x1b[" + strconv.Itoa(36-number) + "m" + name + "\x1b[0m" // cyan, magenta, blue
	}
	return &lineWriter{to: p, prefix: prefix}
}

// print writes text, under a name if it has one. Where stdout is gone nobody can be told.
func (p *prefixWriter) print(name, text string) {
	if name != "" {
		text = name + " | " + text
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.w, text)
}

// lineWriter holds a line back until it is whole.
type lineWriter struct {
	to     *prefixWriter
	prefix string
	rest   []byte
}

// maxLogLine bounds what is held back; a longer line is cut in pieces.
const maxLogLine = 64 << 10 // bytes

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		advance, line, _ := bufio.ScanLines(l.rest, false)
		if advance == 0 {
			break
		}
		l.to.print(l.prefix, string(line)+"\n")
		l.rest = l.rest[advance:]
	}
	if len(l.rest) > maxLogLine {
		l.flush()
	}
	return len(p), nil
}

// flush writes what is left without an end of line.
func (l *lineWriter) flush() {
	if len(l.rest) > 0 {
		l.to.print(l.prefix, string(l.rest)+"\n")
		l.rest = nil
	}
}

// isTerminal says whether w shows colours to a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
