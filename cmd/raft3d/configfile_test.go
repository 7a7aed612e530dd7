package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func configWith(t testing.TB, text string) (path string) {
	path = filepath.Join(t.TempDir(), "raft3d.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheFlagWinsOverTheEnvironmentAndThatOverTheFile(t *testing.T) {
	path := configWith(t, `
		# a node of the farm
		id = "file"
		data = "/var/lib/raft3d"
		heartbeat = "200ms"
		election = "4s"
		snapshot-entries = 5000
		join = ["pi2:8001", "pi3:8001"]
	`)
	t.Setenv("RAFT3D_CONFIG", path)
	t.Setenv("RAFT3D_ID", "environment")
	t.Setenv("RAFT3D_HEARTBEAT", "300ms")
	o := parse(t, "-id=flag", "-election=5s")
	if o.id != "flag" || o.dataDir != "/var/lib/raft3d" || o.heartbeat.String() != "300ms" || o.election.String() != "5s" ||
		o.snapshotEntries != 5000 || strings.Join(o.join, " ") != "pi2:8001 pi3:8001" {
		t.Errorf("%+v", o)
	}
	status, stdout, stderr := run("config", "check", "-id=flag", "-election=5s")
	if status != exitDone || stderr != "" {
		t.Fatalf("status %d, %q", status, stderr)
	}
	for _, want := range []string{
		"config " + path + ` environment variable "RAFT3D_CONFIG"`,
		"id flag command line",
		`heartbeat 300ms environment variable "RAFT3D_HEARTBEAT"`,
		"join pi2:8001,pi3:8001 " + path,
		"min-free 67108864 default",
		"A node can be started with this.",
	} {
		lines := strings.Split(stdout, "\n")
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Join(strings.Fields(line), " ") == want }) {
			t.Errorf("want %q in\n%s", want, stdout)
		}
	}
}

func TestWhatIsWrongWithAConfigurationFileIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense = 1":              "nonsense is no flag of a node",
		"config = \"other\"":        "config is no flag of a node",
		"ID = \"x\"":                "ID is no flag of a node",
		"id = \n":                   "line 1",
		"id = \"a\"\nid = \"b\"":    "line 2",
		"heartbeat = \"soon\"":      "heartbeat",
		"heartbeat = 0.5":           "heartbeat: must be a string",
		"[node]\nid = \"a\"":        "node: must be a string",
		"join = [1]":                "join: a list must be of strings",
		"insecure = \"perhaps\"":    "insecure",
		"log-level = \"loud\"":      "-log-level=loud",
		"http = \"0.0.0.0:8001\"":   "-insecure",
		"snapshot-bytes = \"much\"": "snapshot-bytes",
	} {
		path := configWith(t, text)
		for _, line := range [][]string{{"config", "check", "-config=" + path}, {"-bootstrap", "-config=" + path, "-data=" + t.TempDir()}} {
			if status, stdout, stderr := run(line...); status != exitUsage || !strings.Contains(stderr, want) {
				t.Errorf("%q with %q: want status 2 and %q, got %d, %q\n%s", line[0], text, want, status, stderr, stdout)
			}
		}
	}
	if status, _, stderr := run("config", "check", "-config="+filepath.Join(t.TempDir(), "none")); status != exitUsage || !strings.Contains(stderr, "no such file") {
		t.Errorf("a file that is not there: status %d, %q", status, stderr)
	}
}
