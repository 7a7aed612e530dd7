package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
)

// copies is an onBackup that writes n parts of 32 KiB and then returns err.
func copies(n int, err error) func(context.Context, string, io.Writer) (uint64, error) {
	return func(ctx context.Context, cluster string, w io.Writer) (uint64, error) {
		for i := range n {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			part := fmt.Sprintf("%s %d %s", cluster, i, strings.Repeat("x", 32<<10))
			if _, err := io.WriteString(w, part); err != nil {
				return 0, fmt.Errorf("write part %d: %w", i, err)
			}
		}
		return 4, err
	}
}

func TestABackupIsAFile(t *testing.T) {
	w := stocked(t)
	w.farm.onBackup = copies(3, nil)
	const name = `attachment; filename="raft3d-20260102T030405Z.backup"`
	a := w.call("GET", "/api/v1/backup", "").is(200).has("Content-Type", "application/octet-stream").has("Content-Disposition", name).has("Raft3D-Revision", "4")
	if !strings.HasPrefix(a.body, "00000000000000aa 0 x") || !strings.Contains(a.body, "aa 2 x") || len(a.body) < 3*32<<10 {
		t.Errorf("%d bytes: %.60s", len(a.body), a.body)
	}
	w.farm.onBackup = func(context.Context, string, io.Writer) (uint64, error) { t.Error("HEAD made one"); return 0, nil }
	w.call("HEAD", "/api/v1/backup", "").is(200).has("Content-Disposition", name)
	w.call("GET", "/api/v1/backup?since=1", "").faults(400, "since")
}

func TestABackupThatCannotBeginIsAProblem(t *testing.T) {
	w := stocked(t)
	for _, test := range []struct {
		err    error
		status int
	}{{errUnavailable, 503}, {errors.New("bbolt: page 9 is damaged"), 500}, {context.Canceled, 503}} {
		w.farm.onBackup = copies(0, test.err)
		a := w.call("GET", "/api/v1/backup", "").has("Content-Disposition", "")
		if p := a.problem(test.status); p.Outcome != "" {
			t.Errorf("a read has no outcome: %+v", p)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		w.farm.onBackup = func(ctx context.Context, _ string, _ io.Writer) (uint64, error) {
			<-ctx.Done()
			return 0, fmt.Errorf("wait for the leader: %w", context.Cause(ctx))
		}
		began := time.Now()
		w.call("GET", "/api/v1/backup?timeout=7s", "").problem(503)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// fetch asks for a backup over conn.
func fetch(t *testing.T, conn io.ReadWriter) *http.Response {
	t.Helper()
	fmt.Fprintf(conn, "GET /api/v1/backup?timeout=1s HTTP/1.1\r\nHost: x\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestABackupThatBreaksOffBreaksTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		w.farm.onBackup = copies(3, errors.New("bbolt: page 9 is damaged"))
		response := fetch(t, serveSlowly(t, w)())
		if n, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("want a broken body, got %d bytes, %v", n, err)
		}
		synctest.Wait()
		if !strings.Contains(w.log.String(), "page 9") {
			t.Errorf("not logged: %s", w.log)
		}
		w.farm.onBackup = copies(3, &farm.Error{Kind: farm.Unavailable, Detail: "the node is stopping"})
		if _, err := io.Copy(io.Discard, fetch(t, serveSlowly(t, w)()).Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("want a broken body, got %v", err)
		}
	})
}

func TestABackupTakesAsLongAsItsClientReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		w.farm.onBackup = copies(20, nil)
		response := fetch(t, serveSlowly(t, w)())
		for range 20 {
			time.Sleep(writeTimeout / 3) // far beyond its timeout, and all limits of the http.Server
			if _, err := io.CopyN(io.Discard, response.Body, 32<<10); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Error(err)
		}
	})
}

func TestABackupThatNobodyTakesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stocked(t)
		response := (*http.Response)(nil)
		w.farm.onBackup = copies(20, nil)
		response = fetch(t, serveSlowly(t, w)())
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		if n := w.server.inFlight.Load(); n != 0 {
			t.Errorf("%d calls in flight", n)
		}
		if _, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("want a broken body, got %v", err)
		}
		if w.log.Len() > 0 {
			t.Errorf("logged: %s", w.log)
		}
	})
}
