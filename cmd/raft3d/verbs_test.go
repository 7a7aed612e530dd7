package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// fakeNode answers as it was told to, and notes what it was asked.
type fakeNode struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]fakeAnswer // by method and target; guarded by mu
	asked   []string              // guarded by mu
}

type fakeAnswer struct {
	status int
	header http.Header
	body   string
}

func newFakeNode(t testing.TB) *fakeNode {
	n := &fakeNode{answers: map[string]fakeAnswer{}}
	n.Server = httptest.NewServer(n)
	n.Config.Handler = n
	t.Cleanup(n.Close)
	t.Setenv("RAFT3D_SERVER", n.URL)
	return n
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	call := r.Method + " " + r.URL.RequestURI()
	n.asked = append(n.asked, strings.TrimSpace(call+" "+string(body)))
	answer, known := n.answers[call]
	if !known {
		answer = fakeAnswer{status: http.StatusNotFound, body: `{"title":"Not Found","status":404,"detail":"there is no such thing"}`}
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

// The scripts in testdata/verbs: "answer" says what a node answers to a call, "run" shows what command lines ask, print
// and return. Regenerate with -rewrite.
func TestVerbsAskAndSayWhatTheScriptsShow(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "verbs"), func(t *testing.T, path string) {
		n := newFakeNode(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "answer":
				answer := fakeAnswer{status: http.StatusOK, header: http.Header{}, body: d.Input + "\n"}
				var method, target string
				for _, arg := range d.CmdArgs {
					switch {
					case arg.Key == "status":
						arg.Scan(t, 0, &answer.status)
					case arg.Key == "next":
						answer.header.Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", arg.Vals[0]))
					case arg.Key == "revision":
						answer.header.Set("Raft3D-Revision", arg.Vals[0])
					case method == "":
						method = arg.Key
					default:
						target = arg.String()
					}
				}
				if answer.status == http.StatusNoContent {
					answer.body = ""
				}
				n.answers[method+" "+target] = answer
				return ""
			case "run":
				var out strings.Builder
				for line := range strings.Lines(d.Input) {
					n.asked = nil
					status, stdout, stderr := run(strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "raft3d"))...)
					for _, asked := range n.asked {
						fmt.Fprintf(&out, "> %s\n", asked)
					}
					out.WriteString(stdout)
					for line := range strings.Lines(stderr) {
						out.WriteString("! " + line)
					}
					if status != exitDone {
						fmt.Fprintf(&out, "status %d\n", status)
					}
				}
				text := strings.ReplaceAll(out.String(), n.URL, "http://node")
				for line := range strings.Lines(text) {
					if !strings.HasPrefix(line, ">") && !strings.HasPrefix(line, "!") && !strings.ContainsAny(line, "{[") &&
						len([]rune(line)) > tableWidth+1 && !strings.Contains(d.Input, "wide") {
						t.Errorf("%s: wider than a terminal: %s", d.Pos, line)
					}
				}
				return text
			}
			t.Fatalf("%s: %q is no directive", d.Pos, d.Cmd)
			return ""
		})
	})
}

func TestWithoutANodeAVerbGivesUpAndSaysWhatBecameOfIt(t *testing.T) {
	for line, want := range map[string]string{
		"jobs list -server=127.0.0.1:1,127.0.0.1:2 -timeout=300ms": "(-timeout)",
		"jobs start x -server=127.0.0.1:1 -timeout=300ms":          "the change did not happen",
	} {
		status, stdout, stderr := run(strings.Fields(line)...)
		if status != exitFailed || stdout != "" || !strings.Contains(stderr, "raft3d: gave up after") || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %q, %q", line, status, stdout, stderr)
		}
	}
}

// backupOf serves what a node sends as its backup, after as many broken answers.
func backupOf(t testing.TB, broken int) (whole []byte) {
	text := bytes.Repeat([]byte("state "), 1000)
	sum := sha256.Sum256(text)
	whole = append(text, sum[:]...)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Raft3D-Revision", "42")
		if broken--; broken >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			_, _ = w.Write(whole[:3000])
			return
		}
		_, _ = w.Write(whole)
	}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	t.Setenv("RAFT3D_SERVER", s.URL)
	return whole
}

func TestABackupIsWholeOrNotThere(t *testing.T) {
	whole := backupOf(t, 2)
	dir := t.TempDir()
	path := filepath.Join(dir, "farm.backup")
	status, stdout, stderr := run("backup", path)
	got, err := os.ReadFile(path)
	if status != exitDone || err != nil || !bytes.Equal(got, whole) || !strings.Contains(stdout, "revision 42") || stderr != "" {
		t.Fatalf("status %d, %q, %q, %d bytes, %v", status, stdout, stderr, len(got), err)
	}
	if status, _, stderr := run("backup", path); status != exitFailed || !strings.Contains(stderr, "-force") {
		t.Errorf("over a file that is there: status %d, %q", status, stderr)
	}

	backupOf(t, 1<<30)
	if status, _, _ := run("backup", "-force", "-timeout=300ms", path); status != exitFailed {
		t.Errorf("with answers that are never whole: status %d", status)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("the old file is now %d bytes, %v", len(got), err)
	}
	backupOf(t, 0)
	if status, stdout, _ := run("backup", "-force", "-o=json", path); status != exitDone || !strings.Contains(stdout, `"revision":42,"bytes":6032`) {
		t.Errorf("status %d, %q", status, stdout)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestCtrlCEndsAFeedInGoodOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Raft3D-Revision", "7")
		if r.Method == http.MethodHead {
			return
		}
		if r.URL.Query().Get("since") != "7" {
			t.Errorf("asked for %s", r.URL)
		}
		fmt.Fprintf(w, "id: 8\ndata: %s\n\n", `{"revision":8,"time":"2026-01-02T03:04:05Z","kind":"print_job","id":"j1","action":"created","object":{"status":"Queued"}}`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	var stderr bytes.Buffer
	out := &cancelAfter{cancel: cancel, text: "Queued"}
	status := Run(ctx, []string{"raft3d", "events", "-f", "-server=" + s.URL}, out, &stderr)
	if want := "       8  01-02 03:04:05  created  print_job  j1 Queued\n"; status != exitDone || stderr.Len() > 0 || out.String() != want {
		t.Errorf("status %d, %q, %q", status, out.String(), stderr.String())
	}
}

// cancelAfter cancels when a text has been written.
type cancelAfter struct {
	bytes.Buffer
	cancel func()
	text   string
}

func (c *cancelAfter) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Contains(c.String(), c.text) {
		c.cancel()
	}
	return n, err
}

func TestProgressShowsHowFarItIs(t *testing.T) {
	for _, test := range []struct {
		done, total int64
		want        string
	}{
		{512, 0, "backup  512 bytes  256 bytes/s"},
		{3 << 20, 0, "backup  3.0 MiB  1.5 MiB/s"},
		{1 << 20, 4 << 20, "backup  [#######.......................]  25 %  1.0 MiB  512.0 KiB/s"},
		{8 << 20, 4 << 20, "backup  [##############################] 100 %  8.0 MiB  4.0 MiB/s"},
	} {
		p := newProgress(io.Discard, "backup", test.total)
		p.done = test.done
		if got := p.line(2 * time.Second); got != test.want {
			t.Errorf("want %q, got %q", test.want, got)
		}
	}
}

func TestShellsCompleteNounsVerbsAndFlags(t *testing.T) {
	for line, want := range map[string]string{
		"jobs --generate-shell-completion":            "cancel:",
		"jobs list -st --generate-shell-completion":   "--status:",
		"jobs list --ser --generate-shell-completion": "--server:",
	} {
		if status, stdout, _ := run(strings.Fields(line)...); status != exitDone || !strings.Contains(stdout, want) {
			t.Errorf("%s: status %d, %q", line, status, stdout)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "pwsh"} {
		if status, stdout, _ := run("completion", shell); status != exitDone || len(stdout) < 100 {
			t.Errorf("%s: status %d, %d bytes", shell, status, len(stdout))
		}
	}
}

func TestEveryVerbHasAnExampleAndEveryNounItsVerbs(t *testing.T) {
	var check func(verbs []verb, line string)
	check = func(verbs []verb, line string) {
		for _, v := range verbs {
			line := strings.TrimSpace(line + " " + v.name)
			status, help, stderr := run(append(strings.Fields(line), "-h")...)
			if status != exitDone || stderr != "" {
				t.Errorf("%s -h: status %d, %q", line, status, stderr)
			}
			if v.verbs != nil {
				for _, below := range v.verbs {
					if !strings.Contains(help, "\n  raft3d "+line+" "+below.name) {
						t.Errorf("%s -h does not name %s:\n%s", line, below.name, help)
					}
				}
				check(v.verbs, line)
				continue
			}
			if !strings.Contains(help, "EXAMPLE\n  raft3d "+line) {
				t.Errorf("%s -h has no example:\n%s", line, help)
			}
		}
	}
	check(verbs(), "")
}
