package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// text is an io.Writer that a test can wait on.
type text struct {
	mu      sync.Mutex
	b       bytes.Buffer  // guarded by mu
	changed chan struct{} // guarded by mu: closed by the next Write
}

func newText() *text { return &text{changed: make(chan struct{})} }

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	close(x.changed)
	x.changed = make(chan struct{})
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// await waits until the pattern is in the text and returns its groups.
func (x *text) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(30 * time.Second)
	for {
		x.mu.Lock()
		changed, now := x.changed, x.b.String()
		x.mu.Unlock()
		if m := re.FindStringSubmatch(now); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no %q within 30 s in:\n%s", pattern, now)
		}
	}
}

// freeAddress is one that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// testDev is a dev on free ports whose children are this test binary.
func testDev(t *testing.T, out io.Writer) *dev {
	t.Helper()
	dir := t.TempDir()
	d := &dev{
		executable: os.Args[0], env: append(os.Environ(), actAsRaft3d+"=1", "RAFT3D_LOG_LEVEL=debug"),
		out: &prefixWriter{w: out}, readyTimeout: time.Minute, killAfter: 10 * time.Second,
	}
	for i := range 3 {
		name := fmt.Sprintf("node%d", i+1)
		d.nodes = append(d.nodes, devNode{name: name, http: freeAddress(t), raft: freeAddress(t), data: filepath.Join(dir, name)})
	}
	return d
}

// do is a call as curl would make it: it returns the status and the body.
func do(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // what curl -d says
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

var curlLine = regexp.MustCompile(`^curl (?:-X (\S+) )?(?:-d '([^']*)' )?'?(http://[^' ]+)'?$`)

// curl makes the call of one line of the quick start and fails unless it succeeds.
func curl(t *testing.T, line string) string {
	t.Helper()
	m := curlLine.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("not a line that this test understands: %s", line)
	}
	method := m[1]
	switch {
	case method == "" && m[2] != "":
		method = http.MethodPost
	case method == "":
		method = http.MethodGet
	}
	status, body := do(t, method, m[3], m[2])
	if status >= 300 {
		t.Fatalf("%s\nanswers %d: %s", line, status, body)
	}
	return body
}

func TestDevIsAClusterThatAnswersWhatItPrintsAndOutlivesANode(t *testing.T) {
	out := newText()
	d := testDev(t, out)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		for i, n := range d.nodes {
			if i > 0 && !strings.Contains(out.String(), n.name+" | ended\n") {
				t.Errorf("%s did not end in good order", n.name)
			}
			if c, err := net.Dial("tcp", n.http); err == nil {
				c.Close()
				t.Errorf("%s still listens on %s", n.name, n.http)
			}
		}
		if t.Failed() {
			t.Log(out)
		}
	}()
	out.await(t, "Three nodes are up")

	var last string
	for _, line := range strings.Split(strings.TrimSpace(d.quickStart()), "\n") {
		if answer := curl(t, line); strings.HasSuffix(line, "/filaments") {
			last = answer
		}
	}
	if !strings.Contains(last, `"remaining_weight_in_grams":880`) {
		t.Errorf("880 g must be left on the spool, got %s", last)
	}

	first, err := os.FindProcess(d.nodes[0].pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	out.await(t, `node1 \| ended: .*; it is not started again`)
	curl(t, "curl -d '{\"company\":\"Prusa\",\"model\":\"MK4\"}' http://"+d.nodes[1].http+"/api/v1/printers")
	if list := curl(t, "curl http://"+d.nodes[2].http+"/api/v1/printers"); strings.Count(list, `"model":"MK4"`) != 2 {
		t.Errorf("two printers were created, one after node1 died; node3 says %s", list)
	}
}

func TestDevSaysWhichPortIsTaken(t *testing.T) {
	d := testDev(t, io.Discard)
	l, err := net.Listen("tcp", d.nodes[1].raft)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := d.run(t.Context()); err == nil || !strings.Contains(err.Error(), d.nodes[1].raft) || !strings.Contains(err.Error(), "-raft-port") {
		t.Errorf("want the address and what to do, got %v", err)
	}
}

func TestDevsChildrenAreNotToldTheSameNameByTheEnvironment(t *testing.T) {
	kept := withoutNodeFlags([]string{"PATH=/bin", "RAFT3D_ID=x", "RAFT3D_JOIN=y", "RAFT3D_DATA=z", "RAFT3D_HEARTBEAT=50ms"})
	if want := []string{"PATH=/bin", "RAFT3D_HEARTBEAT=50ms"}; !slices.Equal(kept, want) {
		t.Errorf("want %v, got %v", want, kept)
	}
}

func TestTheLinesOfSeveralNodesStayWhole(t *testing.T) {
	var out bytes.Buffer
	p := &prefixWriter{w: &out}
	one, two := p.lines(0, "node1"), p.lines(1, "node2")
	for _, w := range []struct {
		to   io.Writer
		text string
	}{{one, "a "}, {two, "x\ny\nz"}, {one, "b\n"}, {two, "\n"}, {one, "rest"}} {
		if n, err := io.WriteString(w.to, w.text); n != len(w.text) || err != nil {
			t.Fatalf("wrote %d of %q: %v", n, w.text, err)
		}
	}
	one.flush()
	two.flush()
	if want := "node2 | x\nnode2 | y\nnode1 | a b\nnode2 | z\nnode1 | rest\n"; out.String() != want {
		t.Errorf("want %q, got %q", want, &out)
	}
}

func TestOnlyATerminalGetsColours(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if isTerminal(f) || isTerminal(io.Discard) {
		t.Error("a file is no terminal")
	}
}

// seedDev is the cluster of the first README, on its ports.
func seedDev() *dev {
	d := &dev{}
	for i := range 3 {
		name := fmt.Sprintf("node%d", i+1)
		d.nodes = append(d.nodes, devNode{name: name, http: fmt.Sprintf("127.0.0.1:%d", 8001+i),
			raft: fmt.Sprintf("127.0.0.1:%d", 9001+i), data: "./data/" + name})
	}
	return d
}

func TestReadmeProcfileAndHelpStartTheSameThreeNodes(t *testing.T) {
	readme, procfile := readRepositoryFile(t, "README.md"), readRepositoryFile(t, "Procfile")
	d := seedDev()
	for i, n := range d.nodes {
		flags := strings.Join(d.args(i), " ")
		if !strings.Contains(readme, "\n./bin/raft3d "+flags+"\n") {
			t.Errorf("README.md has no line ./bin/raft3d %s", flags)
		}
		if !strings.Contains(procfile, n.name+": ./bin/raft3d "+flags+"\n") {
			t.Errorf("Procfile has no line for %s with %s", n.name, flags)
		}
		if !strings.Contains(rootHelp, "raft3d "+flags+"\n") {
			t.Errorf("-h has no line raft3d %s", flags)
		}
	}
}

func TestTheReadmesQuickStartIsTheOneThatDevPrints(t *testing.T) {
	_, after, _ := strings.Cut(readRepositoryFile(t, "README.md"), "<!-- quick start -->\n```sh\n")
	block, _, found := strings.Cut(after, "```")
	if !found || block != strings.TrimPrefix(quickStartLines, "\n") {
		t.Errorf("README.md has\n%s\ndev prints%s", block, quickStartLines)
	}
}

func readRepositoryFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
