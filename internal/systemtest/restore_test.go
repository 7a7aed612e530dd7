//go:build unix

package systemtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gap is how far the revisions of a restored farm lie beyond those that it had.
const gap = 1_000_000_000

// must runs the binary, which must end with status 0, and returns what it wrote.
func must(t testing.TB, args ...string) string {
	t.Helper()
	status, output := runToEnd(t, nil, args...)
	if status != 0 {
		t.Fatalf("raft3d %s ends with status %d: %s", strings.Join(args, " "), status, output)
	}
	return output
}

// asOf is what the lists were at a revision, in their order, by what the feed tells.
func asOf(t testing.TB, n *node, revision uint64) map[string][]string {
	t.Helper()
	type object struct {
		created uint64
		text    string
	}
	state := map[string]map[string]object{"printer": {}, "filament": {}, "print_job": {}}
	for line := range strings.Lines(n.get("/api/v1/events").body) {
		var e struct {
			Revision         uint64
			Kind, ID, Action string
			Object           json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Revision > revision {
			break
		}
		objects := state[e.Kind]
		switch e.Action {
		case "created":
			objects[e.ID] = object{e.Revision, string(e.Object)}
		case "updated":
			objects[e.ID] = object{objects[e.ID].created, string(e.Object)}
		default:
			delete(objects, e.ID)
		}
	}
	lists := map[string][]string{}
	for kind, objects := range state {
		ordered := slices.SortedFunc(maps.Values(objects), func(a, b object) int { return int(a.created) - int(b.created) })
		for _, o := range ordered {
			lists[kind] = append(lists[kind], o.text)
		}
	}
	return lists
}

func TestABackupUnderLoadBecomesAClusterWithAStateThatThereWas(t *testing.T) {
	t.Parallel()
	old := newCluster(t)
	keyed := func(n *node) reply {
		t.Helper()
		req, err := http.NewRequest("POST", "http://"+n.http+"/api/v1/printers", strings.NewReader(`{"company":"Prusa","model":"XL"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "once-whatever-happens")
		r, err := send(n.client, req)
		if err != nil || r.status != 201 {
			t.Fatalf("%v %v", r, err)
		}
		return r
	}
	first := keyed(old.nodes[0])
	load := startLoad(t, 8, old.nodes...)
	load.await(100)
	file := filepath.Join(t.TempDir(), "farm.backup")
	must(t, "backup", "-server=http://"+old.nodes[1].http, file)
	load.await(100)
	load.stopWithoutFailure()

	c := emptyCluster(t)
	c.add()
	if err := os.Mkdir(c.nodes[0].dir, 0o700); err != nil { // as an administrator prepares it
		t.Fatal(err)
	}
	c.nodes[0].dir = filepath.Join(c.dir, "link") // to it
	if err := os.Symlink("node1", c.nodes[0].dir); err != nil {
		t.Fatal(err)
	}
	said := must(t, "restore", file, "-id=node1", "-data="+c.nodes[0].dir)
	says(t, said, "new cluster", "-bootstrap", "-join")
	c.nodes[0].start()
	c.add().start()
	c.add().start()
	c.awaitVoters(c.nodes...)
	restored := c.nodes[2]
	now := restored.get("/api/v1/print_jobs").revision(t)
	if now <= gap {
		t.Fatalf("the restored farm is at revision %d, want one beyond %d", now, gap)
	}
	want := asOf(t, old.nodes[0], now-gap)
	for kind, path := range map[string]string{"printer": "printers", "filament": "filaments", "print_job": "print_jobs"} {
		list := restored.get("/api/v1/" + path).body
		if got := "[" + strings.Join(want[kind], ",\n") + "]"; strings.TrimSpace(list) != got {
			t.Errorf("%s are not those of revision %d: %s", path, now-gap, firstDifference(list, got))
		}
	}
	if len(want["print_job"]) < 20 {
		t.Errorf("the backup has %d jobs; it was to be taken under load", len(want["print_job"]))
	}
	if a, b := old.nodes[0].mustView().ClusterID, restored.mustView().ClusterID; a == b {
		t.Errorf("both clusters have the id %s", a)
	}
	if again := keyed(restored); again.body != first.body || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a key is not what it was: %v, then %v", first, again)
	}
	if made := restored.create("printers", `{"company":"Prusa","model":"MK4"}`); made.revision(t) != now+1 {
		t.Errorf("the first change after a restore has revision %d, want %d", made.revision(t), now+1)
	}
	sameEverywhere(t, c.nodes...)

	// The same file a second time, and where it must not go.
	status, output := runToEnd(t, nil, "restore", file, "-data="+c.nodes[0].dir)
	if status != 1 {
		t.Errorf("a restore over a node ends with status %d", status)
	}
	says(t, output, "holds a node already", "-data")
}

func TestARestoreThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	n := emptyCluster(t).add()
	n.start()
	n.awaitReady()
	n.create("printers", `{"company":"Prusa","model":"MK4"}`)
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	must(t, "backup", "-server=http://"+n.http, good)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	inhabited := filepath.Join(dir, "inhabited")
	if err := os.MkdirAll(filepath.Join(inhabited, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		file []byte
		data string
		says []string
	}{
		"flipped":   {flipped, "new", []string{"damaged", "checksum"}},
		"cut":       {whole[:len(whole)-7], "new", []string{"ends before"}},
		"empty":     {nil, "new", []string{"no backup of a farm"}},
		"another":   {[]byte("PK\x03\x04 something else\n"), "new", []string{"no backup of a farm"}},
		"newer":     {slices.Concat([]byte("raft3d backup 9\n"), whole[16:]), "new", []string{"newer"}},
		"inhabited": {whole, "inhabited", []string{"photos", "-data"}},
	} {
		path := filepath.Join(dir, name+".backup")
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		status, output := runToEnd(t, nil, "restore", path, "-data="+filepath.Join(dir, c.data))
		if status != 1 {
			t.Errorf("%s: status %d", name, status)
		}
		says(t, output, append(c.says, name+".backup")...)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("they have left %v (%v)", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a directory was made")
	}
}

func TestARestoreThatIsKilledLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	n := emptyCluster(t).add()
	n.start()
	n.awaitReady()
	load := startLoad(t, 16, n)
	load.await(2000)
	load.stopWithoutFailure()
	file := filepath.Join(t.TempDir(), "farm.backup")
	must(t, "backup", "-server=http://"+n.http, file)
	took := time.Now()
	must(t, "restore", file, "-data="+filepath.Join(t.TempDir(), "probe"))
	whole := time.Since(took)

	made, nothing := 0, 0
	for range 25 {
		c := emptyCluster(t)
		r := c.add()
		p := startProcess(t, "restore", c.dir, nil, binary, "restore", file, "-data="+r.dir)
		kill := time.NewTimer(rand.N(whole * 5 / 4))
		select {
		case <-kill.C:
		case <-p.ended:
		}
		p.kill()
		if _, err := os.Stat(r.dir); err != nil {
			nothing++
			continue
		}
		made++
		r.start()
		r.awaitReady()
		if a, b := n.get("/api/v1/print_jobs").body, r.get("/api/v1/print_jobs").body; a != b {
			t.Fatalf("a restore that was killed has lost something: %s", firstDifference(a, b))
		}
		r.kill()
	}
	t.Logf("killed within %v: %d had made the directory, %d had not", whole*5/4, made, nothing)
}

// furthest is the node to recover from, as docs/operations.md says. It need not be the leader: its own disk may be behind
// what two others had written, and another one may have led since.
func furthest(t testing.TB, nodes []*node) (best *node) {
	t.Helper()
	var term, index uint64
	for _, n := range nodes {
		said := must(t, "recover", "-force-new-cluster", "-dry-run", "-data="+n.dir)
		_, ends, _ := strings.Cut(said, "Its log ends in ")
		var itsTerm, itsIndex uint64
		if _, err := fmt.Sscanf(ends, "term %d at index %d", &itsTerm, &itsIndex); err != nil {
			t.Fatalf("it does not say where the log ends (%v):\n%s", err, said)
		}
		if best == nil || itsTerm > term || itsTerm == term && itsIndex > index {
			best, term, index = n, itsTerm, itsIndex
		}
	}
	return best
}

func TestTheLastNodeOfThreeBecomesANewClusterWithAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	load := startLoad(t, 8, c.nodes...)
	load.await(300)
	for _, n := range c.nodes {
		n.kill()
	}
	load.stop() // the calls that the death of the nodes has cut off have failed; all others count
	last := furthest(t, c.nodes)
	others := c.without(last)

	// What it refuses, and says instead.
	fresh := filepath.Join(c.dir, "fresh")
	status, output := runToEnd(t, nil, "recover", "-force-new-cluster", "-data="+last.dir, "-to="+fresh)
	if status != 2 {
		t.Errorf("without a word about the risk it ends with status %d", status)
	}
	says(t, output, "lost", "two farms", "backup", "-i-know-the-others-are-dead")
	others[0].start()
	others[0].awaitLog("serving")
	status, output = runToEnd(t, nil, "recover", "-force-new-cluster", "-data="+others[0].dir, "-dry-run")
	if status != 1 {
		t.Errorf("at a node that runs it ends with status %d", status)
	}
	says(t, output, "stop it first")
	others[0].kill()
	said := must(t, "recover", "-force-new-cluster", "-i-know-the-others-are-dead", "-data="+last.dir, "-to="+fresh)
	says(t, said, "new cluster", "-bootstrap", "-join")
	old := last.dir
	last.startOn(fresh)
	last.awaitReady()
	load.base += gap
	load.check(last)

	// One of the dead comes back after all. It is not let in, nobody votes for it, and the farm goes on.
	others[1].start()
	last.create("printers", `{"id":"after","company":"Prusa","model":"MK4"}`)
	others[1].awaitLog("reason=wrong_cluster")
	if r, err := others[1].try("POST", "/api/v1/printers?timeout=500ms", `{"company":"a","model":"b"}`); err == nil && r.status < 500 {
		t.Errorf("the old member still takes writes: %v", r)
	}
	others[1].kill()
	if v := last.mustView(); len(v.Members) != 1 || v.Leader != last.name {
		t.Errorf("the new cluster is now %+v", v)
	}
	if _, err := os.Stat(old); err != nil {
		t.Errorf("the old directory is gone: %v", err)
	}
	n := c.add()
	n.args = append(slices.DeleteFunc(n.args, func(a string) bool { return strings.HasPrefix(a, "-join=") }), "-join="+last.http)
	n.start()
	c.awaitVoters(last, n)
	sameEverywhere(t, last, n)
}
