package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"
	"go.uber.org/goleak"
)

// actAsRaft3d, in the environment, makes this test binary the program itself: dev's children are such; or another of
// acts.
const actAsRaft3d = "RAFT3D_TEST_ACT"

var acts = map[string]func(){"1": main}

func TestMain(m *testing.M) {
	if act := acts[os.Getenv(actAsRaft3d)]; act != nil {
		act()
		os.Exit(exitDone)
	}
	goleak.VerifyTestMain(m)
}

// run runs the program to its end, at most for ten seconds: a server that starts, and should not, is ended then.
func run(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	status = Run(ctx, append([]string{"raft3d"}, args...), &out, &err)
	return status, out.String(), err.String()
}

func TestWrongUseIsRefusedWithStatus2AndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"frobnicate", `"frobnicate" is not a verb or flag`},
		{"-nope", "-nope"},
		{"dev extra", `"extra" is not a verb or flag`},
		{"dev -id=x", "-id"},
		{"-bootstrap -join=127.0.0.1:8001", "give one of them"},
		{"-id=a/b", "1 to 64 characters"},
		{"-id=..", "1 to 64 characters"},
		{"-bootstrap -http=0.0.0.0:8001", "-insecure"},
		{"-bootstrap -http=:8001", "-insecure"},
		{"-bootstrap -raft=192.0.2.1:9001", "-insecure"},
		{"-bootstrap -insecure -http=0.0.0.0:8001", "-http-adv=HOST:PORT"},
		{"-bootstrap -insecure -http=[::]:8001", "-http-adv=HOST:PORT"},
		{"-bootstrap -insecure -raft=:9001 -http-adv=pi1:8001", "-raft-adv=HOST:PORT"},
		{"-bootstrap -http-adv=0.0.0.0:8001", "name a host"},
		{"-bootstrap -http-adv=pi1:0", "no port"},
		{"-bootstrap -raft-adv=pi1", "HOST:PORT"},
		{"-bootstrap -http=nonsense", "HOST:PORT"},
		{"-join=node1", "HOST:PORT"},
		{"-join=127.0.0.1:8001,:9", "name a host"},
		{"-heartbeat=1ms", "at least 5ms"},
		{"-heartbeat=100ms -election=200ms", "three"},
		{"-heartbeat=soon", "soon"},
		{"-snapshot-bytes=0", "-snapshot-bytes"},
		{"-snapshot-entries=-1", "-snapshot-entries"},
		{"-min-free=-1", "-min-free"},
		{"-log-level=loud", "debug, info, warn or error"},
		{"-log-format=xml", "text or json"},
	} {
		t.Run(c.args, func(t *testing.T) {
			status, stdout, stderr := run(append(strings.Fields(c.args), "-data="+filepath.Join(t.TempDir(), "d"))...)
			if strings.HasPrefix(c.args, "dev") || !strings.HasPrefix(c.args, "-") {
				status, stdout, stderr = run(strings.Fields(c.args)...)
			}
			if status != exitUsage || !strings.Contains(stderr, c.want) || stdout != "" {
				t.Errorf("want status 2 and %q, got %d, %q and on stdout %q", c.want, status, stderr, stdout)
			}
		})
	}
}

func TestAnEmptyDirectoryIsNeverBootstrappedSilently(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node1")
	status, _, stderr := run("-http=127.0.0.1:0", "-raft=127.0.0.1:0", "-data="+dir)
	if status != exitUsage || !strings.Contains(stderr, "-bootstrap") || !strings.Contains(stderr, "-join=") {
		t.Errorf("want status 2 and both ways to go on, got %d and %q", status, stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the refused start left %s behind: %v", dir, err)
	}
}

func TestWhatIsLeftOfALostLogIsNotWrittenOver(t *testing.T) {
	for _, left := range []string{"state.db", filepath.Join("snap", "000042.snap")} {
		dir := t.TempDir()
		path := filepath.Join(dir, left)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		status, _, stderr := run("-http=127.0.0.1:0", "-raft=127.0.0.1:0", "-data="+dir, "-bootstrap")
		if status != exitFailed || !strings.Contains(stderr, filepath.Base(left)) {
			t.Errorf("want status 1 and %s named, got %d and %q", left, status, stderr)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != "old" {
			t.Errorf("%s is now %q, %v", left, kept, err)
		}
	}
}

func TestEveryFlagIsAVariableToo(t *testing.T) {
	t.Setenv("RAFT3D_ID", "pi1")
	t.Setenv("RAFT3D_HTTP_ADV", "pi1.lan:8001")
	t.Setenv("RAFT3D_BOOTSTRAP", "true")
	t.Setenv("RAFT3D_ELECTION", "3s")
	t.Setenv("RAFT3D_SNAPSHOT_ENTRIES", "50")
	o := parse(t, "-election=5s")
	if o.id != "pi1" || !o.idGiven || o.httpAdv != "pi1.lan:8001" || !o.bootstrap || o.snapshotEntries != 50 {
		t.Errorf("from the environment: %+v", o)
	}
	if o.election.String() != "5s" {
		t.Errorf("the flag must win over the environment: election is %v", o.election)
	}
}

func TestBootstrapAloneIsAnInstallation(t *testing.T) {
	o := parse(t, "-bootstrap")
	if o.id != "node1" || o.idGiven || o.httpListen != "127.0.0.1:8001" || o.raftListen != "127.0.0.1:9001" ||
		o.dataDir != filepath.Join("data", "node1") {
		t.Errorf("defaults: %+v", o)
	}
}

func TestJoinTakesSeveralAddressesAsPeoplePasteThem(t *testing.T) {
	o := parse(t, "-join=127.0.0.1:8001, http://pi2.lan:8002/ ,[::1]:8003")
	if got := strings.Join(o.join, " "); got != "127.0.0.1:8001 pi2.lan:8002 [::1]:8003" {
		t.Errorf("addresses: %s", got)
	}
}

// parse is the options of a command line that is right.
func parse(t *testing.T, args ...string) (o options) {
	t.Helper()
	c := &cli.Command{Flags: serverFlags(), Action: func(_ context.Context, c *cli.Command) (err error) {
		o, err = optionsOf(c)
		return err
	}}
	if err := c.Run(t.Context(), append([]string{"raft3d"}, args...)); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestHelpNamesEveryFlagWithOneDashAndShowsAnExample(t *testing.T) {
	status, stdout, stderr := run("-h")
	if status != exitDone || stderr != "" {
		t.Fatalf("status %d, %q", status, stderr)
	}
	for _, f := range serverFlags() {
		if !strings.Contains(stdout, "\n  -"+f.Names()[0]) {
			t.Errorf("-h does not name -%s", f.Names()[0])
		}
	}
	for _, verb := range []string{"dev", "version"} {
		if !strings.Contains(stdout, "raft3d "+verb+" ") {
			t.Errorf("-h does not name %s", verb)
		}
		if status, help, _ := run(verb, "-h"); status != exitDone || !strings.Contains(help, "EXAMPLE\n  raft3d "+verb) {
			t.Errorf("%s -h: status %d, %q", verb, status, help)
		}
	}
}

func TestVersionSaysWhichProgramThisIs(t *testing.T) {
	status, stdout, _ := run("version")
	if status != exitDone || !strings.HasPrefix(stdout, "raft3d ") || !strings.Contains(stdout, " go1.") {
		t.Errorf("status %d, %q", status, stdout)
	}
}
