//go:build unix

package systemtest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// contents is what a directory has, file by file.
func contents(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files = append(files, fmt.Sprintf("%s %x", path, sha256.Sum256(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// startOn has a node begin with a directory that restore or recover made.
func (n *node) startOn(dir string) {
	n.t.Helper()
	n.dir, n.args = dir, append(slices.DeleteFunc(n.args, func(a string) bool {
		return strings.HasPrefix(a, "-data=") || strings.HasPrefix(a, "-join=") || a == "-bootstrap"
	}), "-data="+dir, "-bootstrap")
	n.start()
}

func TestAFollowerWhoseClusterIsGoneKeepsAllThatReachedIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	load := startLoad(t, 8, c.nodes...)
	load.await(300)
	load.stopWithoutFailure()
	lead, others := c.leader()
	last := others[0]
	newest := lead.get("/api/v1/printers").revision(t)
	eventually(t, "the follower has all that was acknowledged", func() error {
		if at := last.get("/api/v1/printers?consistency=stale").revision(t); at < newest {
			return fmt.Errorf("it is at revision %d of %d", at, newest)
		}
		return nil
	})
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range []*node{lead, others[1]} {
		if err := os.RemoveAll(n.dir); err != nil {
			t.Fatal(err)
		}
	}

	before := contents(t, last.dir)
	fresh := filepath.Join(c.dir, "fresh")
	said := must(t, "recover", "-force-new-cluster", "-i-know-the-others-are-dead", "-data="+last.dir, "-to="+fresh)
	says(t, said, "ends in term", "at index", "What it did not know as committed", fmt.Sprintf("from revision %d on", newest+gap+1))
	if after := contents(t, last.dir); !slices.Equal(before, after) {
		t.Errorf("the old directory is changed: it had\n%s\nand has\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}

	last.startOn(fresh)
	last.awaitReady()
	load.base += gap
	load.check(last)

	// It grows to three again, under the names and on the addresses of the dead, and takes what comes.
	var joined []*node
	for _, n := range []*node{lead, others[1]} {
		n.args = append(slices.DeleteFunc(n.args, func(a string) bool {
			return strings.HasPrefix(a, "-join=") || a == "-bootstrap"
		}), "-join="+last.http)
		n.start()
		joined = append(joined, n)
	}
	c.awaitVoters(append(joined, last)...)
	joined[0].create("printers", `{"id":"after","company":"Prusa","model":"MK4"}`)
	sameEverywhere(t, c.nodes...)
}
