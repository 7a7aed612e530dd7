package main

import (
	"context"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testServer is a server that runs inside this test.
type testServer struct {
	http, raft string
	logs       *text
	cancel     context.CancelFunc
	ended      chan int
}

// start runs the program as a server and waits until it serves.
func start(t *testing.T, args ...string) *testServer {
	t.Helper()
	s := launch(t, args...)
	m := s.logs.await(t, `msg=serving .* http=(\S+) raft=(\S+)`)
	s.http, s.raft = m[1], m[2]
	return s
}

// launch runs the program as a server.
func launch(t *testing.T, args ...string) *testServer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &testServer{logs: newText(), cancel: cancel, ended: make(chan int, 1)}
	args = append([]string{"raft3d", "-http=127.0.0.1:0", "-raft=127.0.0.1:0"}, args...)
	go func() { s.ended <- Run(ctx, args, s.logs, s.logs) }()
	t.Cleanup(func() { s.stop(t) })
	return s
}

// stop ends the server in good order. It may be called again.
func (s *testServer) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	status, running := <-s.ended
	if running {
		close(s.ended)
		if status != exitDone {
			t.Errorf("ended with status %d:\n%s", status, s.logs)
		}
	}
}

func (s *testServer) addPrinter(t *testing.T, id string) {
	t.Helper()
	status, body := do(t, "POST", "http://"+s.http+"/api/v1/printers", `{"id":"`+id+`","company":"Prusa","model":"MK4"}`)
	if status != 201 {
		t.Fatalf("create %s: %d %s\n%s", id, status, body, s.logs)
	}
}

func (s *testServer) hasPrinters(t *testing.T, ids ...string) {
	t.Helper()
	status, body := do(t, "GET", "http://"+s.http+"/api/v1/printers", "")
	for _, id := range ids {
		if !strings.Contains(body, `"id":"`+id+`"`) {
			t.Fatalf("printer %s is missing: %d %s\n%s", id, status, body, s.logs)
		}
	}
}

func TestASingleNodeKeepsItsFarmAndItsStateFileOverACleanRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node1")
	s := start(t, "-bootstrap", "-data="+dir)
	s.addPrinter(t, "mk4")
	s.stop(t)
	if !strings.Contains(s.logs.String(), "ended in good order") {
		t.Errorf("no word of a good end:\n%s", s.logs)
	}

	s = start(t, "-bootstrap", "-data="+dir)
	s.hasPrinters(t, "mk4")
	if !strings.Contains(s.logs.String(), "state_kept=true") {
		t.Errorf("the sealed state was not kept:\n%s", s.logs)
	}
	s.addPrinter(t, "mk4-2")
	s.stop(t)

	s = start(t, "-data="+dir) // neither flag is needed where there is something on the disk
	s.hasPrinters(t, "mk4", "mk4-2")
}

func TestADirectoryKeepsItsName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node1")
	start(t, "-id=pi7", "-bootstrap", "-data="+dir).stop(t)

	status, _, stderr := run("-id=pi8", "-http=127.0.0.1:0", "-raft=127.0.0.1:0", "-bootstrap", "-data="+dir)
	if status != exitUsage || !strings.Contains(stderr, "belongs to pi7") || !strings.Contains(stderr, "-id=pi7") {
		t.Errorf("want it refused with what to do, got %d, %q", status, stderr)
	}
	if s := start(t, "-data="+dir); !strings.Contains(s.logs.String(), "msg=serving member=pi7") {
		t.Errorf("without -id the directory's name counts:\n%s", s.logs)
	}
}

func TestANodeJoinsAndComesBackWithTheSameLine(t *testing.T) {
	dir := t.TempDir()
	first := start(t, "-id=node1", "-bootstrap", "-data="+filepath.Join(dir, "1"))
	first.addPrinter(t, "mk4")
	second := start(t, "-id=node2", "-join="+first.http, "-data="+filepath.Join(dir, "2"))
	second.logs.await(t, "joined the cluster")
	second.hasPrinters(t, "mk4")
	second.stop(t)

	second = start(t, "-id=node2", "-join="+first.http, "-data="+filepath.Join(dir, "2"))
	second.hasPrinters(t, "mk4")
	second.addPrinter(t, "mk4-2")
	first.hasPrinters(t, "mk4-2")
}

func TestAKnownNameWithAnEmptyDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, "-id=node1", "-bootstrap", "-data="+filepath.Join(dir, "1"))
	status, _, stderr := run("-id=node1", "-http=127.0.0.1:0", "-raft=127.0.0.1:0", "-join="+s.http, "-data="+filepath.Join(dir, "other"))
	if status != exitFailed || !strings.Contains(stderr, "curl -X DELETE http://"+s.http+"/api/v1/cluster/members/node1") {
		t.Errorf("got %d, %q", status, stderr)
	}
}

func TestARemovedNodeEndsInGoodOrderAndSaysWhy(t *testing.T) {
	dir := t.TempDir()
	first := start(t, "-id=node1", "-bootstrap", "-data="+filepath.Join(dir, "1"))
	second := start(t, "-id=node2", "-join="+first.http, "-data="+filepath.Join(dir, "2"))
	second.logs.await(t, "joined the cluster")
	second.hasPrinters(t)
	if status, body := do(t, "DELETE", "http://"+first.http+"/api/v1/cluster/members/node2", ""); status != 200 {
		t.Fatalf("remove node2: %d %s", status, body)
	}
	second.logs.await(t, "this node was removed from its cluster")
	if status := <-second.ended; status != exitDone {
		t.Errorf("ended with status %d:\n%s", status, second.logs)
	}
	close(second.ended)
}

func TestANodeThatStillWaitsForItsClusterEndsWhenAskedTo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node2")
	s := launch(t, "-id=node2", "-join="+freeAddress(t), "-data="+dir)
	s.logs.await(t, "waiting to join")
	s.stop(t)
}

func TestMetricsTellHowTheDiskIs(t *testing.T) {
	s := start(t, "-bootstrap", "-data="+filepath.Join(t.TempDir(), "node1"))
	s.addPrinter(t, "mk4")
	_, figures := do(t, "GET", "http://"+s.http+"/metrics", "")
	for _, more := range []string{"wal_fsync_duration_seconds_count", "apply_duration_seconds_count", "applied_commands_total",
		"wal_size_bytes", "snapshots_size_bytes", "store_size_bytes", "disk_free_bytes"} {
		if !regexp.MustCompile(`(?m)^raft3d_` + more + ` [1-9]`).MatchString(figures) {
			t.Errorf("raft3d_%s is not over 0 in:\n%s", more, figures)
		}
	}
	if !strings.Contains(figures, "\nraft3d_disk_nearly_full 0\n") {
		t.Error("the disk of this test is nearly full, or nobody says")
	}
}

func TestANearlyFullDiskKeepsWhatThereIsAndTakesNothingNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node1")
	s := start(t, "-bootstrap", "-data="+dir)
	s.addPrinter(t, "mk4")
	s.stop(t)

	s = start(t, "-data="+dir, "-min-free=4611686018427387904") // more than any disk has
	s.logs.await(t, "disk nearly full")
	if status, body := do(t, "POST", "http://"+s.http+"/api/v1/printers", `{"company":"Prusa","model":"MK4"}`); status != 507 {
		t.Errorf("a creation: %d %s", status, body)
	}
	s.hasPrinters(t, "mk4")
	if status, body := do(t, "DELETE", "http://"+s.http+"/api/v1/printers/mk4", ""); status != 204 {
		t.Errorf("a deletion: %d %s", status, body)
	}
}

func TestPortsAreFreeAgainAfterTheEnd(t *testing.T) {
	s := start(t, "-bootstrap", "-data="+filepath.Join(t.TempDir(), "node1"))
	s.stop(t)
	for _, address := range []string{s.http, s.raft} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("after the end: %v", err)
			continue
		}
		l.Close()
	}
}
