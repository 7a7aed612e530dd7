//go:build unix

package systemtest

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAStartThatCannotWorkEndsWithAMessageThatNamesTheFlag(t *testing.T) {
	t.Parallel()
	c := emptyCluster(t)
	used := c.add()
	used.start()
	used.awaitReady()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	stopped := c.add()
	stopped.args = append(stopped.args[:4:4], "-bootstrap")
	stopped.start()
	stopped.awaitReady()
	stopped.stop()

	// A command line with free ports; flags that are in more take the place of these.
	line := func(more ...string) []string {
		all := more
		for _, flag := range []string{"-http=" + freeAddress(t), "-raft=" + freeAddress(t), "-data=" + filepath.Join(t.TempDir(), "node")} {
			name, _, _ := strings.Cut(flag, "=")
			if !slices.ContainsFunc(more, func(given string) bool { return strings.HasPrefix(given, name+"=") }) {
				all = append(all, flag)
			}
		}
		return all
	}
	for name, start := range map[string]struct {
		args   []string
		status int
		says   []string
	}{
		"NeitherBootstrapNorJoin": {line("-id=a"), 2, []string{"-bootstrap", "-join"}},
		"BothBootstrapAndJoin":    {line("-bootstrap", "-join="+used.http), 2, []string{"-bootstrap", "-join"}},
		"AnotherNodesDirectory":   {line("-id=other", "-data="+stopped.dir, "-bootstrap"), 2, []string{"-id=other", stopped.name}},
		"HTTPPortInUse":           {line("-http="+taken.Addr().String(), "-bootstrap"), 1, []string{"-http", taken.Addr().String()}},
		"RaftPortInUse":           {line("-raft="+taken.Addr().String(), "-bootstrap"), 1, []string{"-raft", taken.Addr().String()}},
		"OpenToTheNetwork":        {line("-http=0.0.0.0:0", "-bootstrap"), 2, []string{"-http", "-insecure"}},
		"PeersOpenToTheNetwork":   {line("-raft=0.0.0.0:0", "-bootstrap"), 2, []string{"-raft", "-insecure"}},
		"NoSuchFlag":              {line("-bootstrp"), 2, []string{"bootstrp"}},
		"NotAnAddressToJoin":      {line("-join=8001"), 2, []string{"-join"}},
		"ADirectoryInUse":         {line("-data="+used.dir, "-bootstrap"), 1, []string{used.dir}},
	} {
		t.Run(name, func(t *testing.T) {
			status, output := runToEnd(t, nil, start.args...)
			if status != start.status {
				t.Errorf("status %d, want %d; it wrote:\n%s", status, start.status, output)
			}
			says(t, output, start.says...)
		})
	}
	used.create("printers", `{"company":"Prusa","model":"MK4"}`) // nothing of this has harmed the node that runs
}
