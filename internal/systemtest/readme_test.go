//go:build unix

package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The README's blocks are pasted, line by line and in order, into a shell beside a cluster that its own command lines
// have started. What is changed in a line is what no two machines have in common: ports, paths, and the PID.
func TestTheLinesOfTheREADMEWorkAsTheyStand(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test pastes the README's lines into a shell, as its readers do, and needs %s: %v", program, err)
		}
	}
	c := emptyCluster(t)
	for range 3 {
		c.add()
	}
	var replacements []string
	for i, n := range c.nodes {
		replacements = append(replacements,
			fmt.Sprintf("127.0.0.1:800%d", i+1), n.http, fmt.Sprintf("127.0.0.1:900%d", i+1), n.raft,
			fmt.Sprintf("./data/node%d", i+1), n.dir)
	}
	adapt := strings.NewReplacer(replacements...)
	lines := readmeLines(t)

	// "Three terminals": the seed's lines, so that what the other tests start is what the README says.
	started := 0
	for _, line := range lines {
		if flags, ok := strings.CutPrefix(line, "./bin/raft3d -id=node"); ok {
			n := c.nodes[started]
			n.args = strings.Fields(adapt.Replace("-id=node" + flags))
			if want := []string{"-id=" + n.name, "-http=" + n.http, "-raft=" + n.raft, "-data=" + n.dir}; !slices.Equal(n.args[:min(4, len(n.args))], want) {
				t.Fatalf("the README starts %s with %v, want %v and how it begins", n.name, n.args, want)
			}
			n.start()
			started++
		}
	}
	if started != 3 {
		t.Fatalf("the README starts %d nodes, want 3", started)
	}
	c.awaitVoters(c.nodes...)
	c.lead(c.nodes[0]) // "Break it" kills the leader and writes at node2

	outputs := map[string]string{} // the last one of each line, as the README has it
	ran, servers := 0, ""
	for _, line := range lines {
		command, _, _ := strings.Cut(line, "   #")
		command = strings.TrimSpace(command)
		switch word, _, _ := strings.Cut(command, " "); {
		case word == "curl":
			outputs[command] = c.paste(adapt.Replace(command))
			ran++
		case command == "kill -9 PID":
			dead, rest := c.leader()
			c.paste(fmt.Sprintf("kill -9 %d", dead.pid()))
			dead.exit()
			c.awaitLeaderAmong(rest)
		case strings.HasPrefix(command, "./bin/raft3d -id=node1 "):
			if c.nodes[0].running() {
				t.Error("the README's own lines have not killed node1 before they start it again")
			}
			c.nodes[0].start()
			c.awaitVoters(c.nodes...)
		case strings.HasPrefix(command, "./bin/raft3d -id=node"), strings.HasPrefix(command, "./bin/raft3d -insecure -id="):
			// they run already; others' machines
		case strings.HasPrefix(command, "export RAFT3D_SERVER="):
			servers = adapt.Replace(command) + "; "
		case strings.HasPrefix(command, "./bin/raft3d "):
			outputs[command] = c.paste(servers + strings.Replace(command, "./bin/raft3d", binary, 1))
		case slices.Contains([]string{"go run ./cmd/raft3d dev", "go build -o bin/raft3d ./cmd/raft3d", "go test ./...",
			"GOREMAN_RPC_ADDR=127.0.0.1 go tool goreman start"}, command):
			// TestDev..., TestMain, this, and the Procfile's own test
		default:
			t.Errorf("the README has a line that this test does not know how to run: %s", line)
		}
	}
	if ran < 10 {
		t.Errorf("only %d curl lines found in the README", ran)
	}
	// What the text around the lines says of them.
	says(t, outputs["curl http://127.0.0.1:8003/api/v1/print_jobs"], `"id":"bracket"`, `"status":"Done"`)
	says(t, outputs["curl http://127.0.0.1:8001/api/v1/filaments"], `"remaining_weight_in_grams":880`)
	says(t, outputs["curl http://127.0.0.1:8003/api/v1/printers"], `"id":"mk4"`, `"id":"mk4-2"`)
	says(t, outputs["curl http://127.0.0.1:8001/api/v1/cluster"], `"leader":"node1"`)
	says(t, outputs["./bin/raft3d jobs list -status=Queued,Running"], "hinge", "Running")
	says(t, outputs["./bin/raft3d filaments list"], "841.5 g")
	if status := c.nodes[2].exit(); status != 0 {
		t.Errorf("node3, taken out by the README, ended with status %d, want 0", status)
	}
}

// readmeLines are the lines of the README's shell blocks.
func readmeLines(t testing.TB) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && block != "":
			block = ""
		case strings.HasPrefix(line, "```"):
			if block = line; block != "```sh" {
				t.Errorf("the README has a block %q; this test knows only shell", line)
			}
		case block != "" && strings.TrimSpace(line) != "":
			lines = append(lines, line)
		}
	}
	return lines
}

// paste has a shell run one line, which must succeed; a curl that is answered with an error fails.
func (c *cluster) paste(line string) (output string) {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", `curl() { command curl --fail-with-body -sS --max-time 20 "$@"; }; `+line)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s\n%v\n%s%s", line, err, out, &complaints)
	}
	return string(out)
}

// awaitLeaderAmong waits until these nodes, the only ones that run, have a leader.
func (c *cluster) awaitLeaderAmong(rest []*node) {
	c.t.Helper()
	leader, _ := c.leader()
	if !slices.Contains(rest, leader) {
		c.t.Fatalf("%s leads, which is not among those that run", leader.name)
	}
}

func TestTheProcfileHasTheREADMEsLines(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "Procfile"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, line := range readmeLines(t) {
		if strings.HasPrefix(line, "./bin/raft3d -id=node") {
			want = append(want, strings.Fields(line)...)
		}
	}
	for line := range strings.Lines(string(text)) {
		_, command, _ := strings.Cut(line, ": ")
		got = append(got, strings.Fields(command)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the Procfile runs\n%v\nthe README says\n%v", got, want)
	}
}
