package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestACallWhoseAnswerIsCutOffAtAnyByteHappensOnce(t *testing.T) {
	l := newLedger()
	first, second := serveBrittle(t, l), serveBrittle(t, l)
	length := 0
	first.cutAt(func(answer []byte) int { length = len(answer); return 0 })
	if _, err := newClient(t, first.url, second.url).Printers().Create(within(t, 10*time.Second), NewPrinter{Company: "a"}); err != nil {
		t.Fatal(err)
	}
	for cut := range length + 2 { // the numbers in it grow
		whole := false
		first.cutAt(func(answer []byte) int { whole = cut >= len(answer); return cut })
		effects, requests := len(l.effects), len(l.keys)
		p, err := newClient(t, first.url, second.url).Printers().Create(within(t, 10*time.Second), NewPrinter{Company: fmt.Sprint(cut)})
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
		l.mu.Lock()
		if len(l.effects) != effects+1 || p.ID != fmt.Sprintf("made-%d", effects+1) {
			t.Fatalf("cut after %d bytes: %d effects, the client has %+v", cut, len(l.effects)-effects, p)
		}
		want := 2
		if whole {
			want = 1
		}
		if len(l.keys)-requests != want || distinct(l.keys[requests:]) != 1 || l.keys[requests] == "" {
			t.Fatalf("cut after %d bytes: want %d requests with one key, got %q", cut, want, l.keys[requests:])
		}
		l.mu.Unlock()
	}
	if distinct(l.keys) != length+3 {
		t.Errorf("%d calls had %d keys", length+3, distinct(l.keys))
	}
}

// The number of calls comes from RAFT3D_CALLS where that is set.
func TestCallsWhoseAnswersAreCutOffAtRandomAllHappenOnce(t *testing.T) {
	calls := 300
	if text := os.Getenv("RAFT3D_CALLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		calls = n
	}
	l := newLedger()
	var servers []string
	for range 3 {
		node := serveBrittle(t, l)
		node.cutAt(func(answer []byte) int { return rand.IntN(2 * len(answer)) })
		servers = append(servers, node.url)
	}
	c := newClient(t, servers...)
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for n := caller; n < calls; n += 4 {
				if _, err := c.Printers().Create(within(t, 60*time.Second), NewPrinter{Company: fmt.Sprintf("call %d", n)}); err != nil {
					t.Errorf("call %d: %v", n, err)
				}
			}
		})
	}
	callers.Wait()
	if len(l.effects) != calls || distinct(l.effects) != calls {
		t.Errorf("%d calls, %d requests: %d effects, %d of them different", calls, len(l.keys), len(l.effects), distinct(l.effects))
	}
}

func TestTheNextNodeIsAskedWhenOneIsDeadAndFirstFromThenOn(t *testing.T) {
	l := newLedger()
	alive := serveBrittle(t, l)
	c := newClient(t, deadServer(t), alive.url)
	for want := 1; want <= 3; want++ {
		if _, err := c.Printers().Create(within(t, 10*time.Second), NewPrinter{}); err != nil {
			t.Fatal(err)
		}
		if alive.answers() != want || c.last.Load() != 1 {
			t.Errorf("after %d calls: %d answers, the last from %d", want, alive.answers(), c.last.Load())
		}
	}
}

func TestANoIsReturnedAsItWasSaidAndNotAskedForAgain(t *testing.T) {
	asked := 0
	c := scripted(t, func(r *http.Request) (*http.Response, error) {
		asked++
		return says(http.StatusConflict, `{"type":"about:blank","title":"Conflict","status":409,"detail":"print_weight_in_grams: needs 300 g, 12.5 g are available",
			"errors":[{"field":"print_weight_in_grams","detail":"needs 300 g, 12.5 g are available"},{"field":"name","detail":"is too long"}],
			"available_weight_in_grams":12.5,"allowed":["Done"]}`)
	}, "a", "b")
	_, err := c.Jobs().Create(t.Context(), NewJob{Weight: 300 * Gram})
	var no *Error
	if !errors.As(err, &no) {
		t.Fatalf("want an *Error, got %T %v", err, err)
	}
	if asked != 1 || no.Status != 409 || *no.Available != 12500 || no.Allowed[0] != "Done" || no.Server != "http://a" ||
		no.Error() != "409 Conflict: print_weight_in_grams: needs 300 g, 12.5 g are available; name: is too long" {
		t.Errorf("asked %d times: %+v\n%v", asked, no, no)
	}
}

func TestANoThatIsNotFromANodeIsSaidWithoutItsPage(t *testing.T) {
	c := scripted(t, func(*http.Request) (*http.Response, error) { return says(http.StatusForbidden, "<html>proxy") }, "a")
	if _, err := c.Status(t.Context()); err == nil || err.Error() != "403 Forbidden" {
		t.Errorf("got %v", err)
	}
}

func TestANodeIsNotAskedAgainBeforeItsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []string
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			asked = append(asked, fmt.Sprintf("%s %.0f", r.URL.Host, time.Since(began).Seconds()))
			if time.Since(began) > 6*time.Second {
				return says(http.StatusOK, `{}`)
			}
			return says(http.StatusServiceUnavailable, "", "Retry-After: "+map[string]string{"a": "3", "b": "7"}[r.URL.Host])
		}, "a", "b")
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(asked, ", "); got != "a 0, b 0, a 3, b 7" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestPausesGrowToTwoSecondsAndTheCallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := scripted(t, func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return refused()
		}, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err := c.Printers().Delete(ctx, "p1", 0)
		var gaveUp *GaveUpError
		if !errors.As(err, &gaveUp) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("got %v", err)
		}
		if time.Since(began) != time.Minute || gaveUp.Attempts != len(at) || len(at) < 30 || len(at) > 70 {
			t.Errorf("%d attempts in %v, %+v", len(at), time.Since(began), gaveUp)
		}
		for i := 1; i < len(at); i++ {
			span := min(minBackoff<<min(i-1, 10), maxBackoff)
			if pause := at[i].Sub(at[i-1]); pause < span/2 || pause > span {
				t.Errorf("pause %d was %v, want %v to %v", i, pause, span/2, span)
			}
		}
	})
}

func TestANodeThatIsSilentIsLeftForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return says(http.StatusOK, `{"term":3}`)
		}, "a", "b")
		status, err := c.Status(t.Context())
		if err != nil || status.Term != 3 || time.Since(began) != defaultAttemptTimeout {
			t.Errorf("%+v, %v after %v", status, err, time.Since(began))
		}
	})
}

func TestTheErrorSaysWhetherTheChangeMayHaveHappened(t *testing.T) {
	dropped := func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	status := func(status int, outcome string) func() (*http.Response, error) {
		return func() (*http.Response, error) { return problem(status, outcome) }
	}
	for name, test := range map[string]struct {
		attempts []func() (*http.Response, error)
		want     Outcome
	}{
		"no node is there":                 {[]func() (*http.Response, error){refused}, NotApplied},
		"too much to do":                   {[]func() (*http.Response, error){status(429, "")}, NotApplied},
		"no quorum, not proposed":          {[]func() (*http.Response, error){status(503, `,"outcome":"not_applied"`)}, NotApplied},
		"no quorum, proposed":              {[]func() (*http.Response, error){status(503, `,"outcome":"unknown"`)}, Unknown},
		"a proxy without a node":           {[]func() (*http.Response, error){status(502, "")}, Unknown},
		"a connection that broke":          {[]func() (*http.Response, error){dropped}, Unknown},
		"broken, then nobody is there":     {[]func() (*http.Response, error){dropped, refused}, Unknown},
		"nobody is there at first, broken": {[]func() (*http.Response, error){refused, dropped}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := scripted(t, func(*http.Request) (*http.Response, error) {
					asked++
					return test.attempts[min(asked, len(test.attempts))-1]()
				}, "a")
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := c.Jobs().Start(ctx, "j1")
				var gaveUp *GaveUpError
				if !errors.As(err, &gaveUp) || gaveUp.Outcome != test.want {
					t.Errorf("want %q, got %v", test.want, err)
				}
				if _, err := c.Status(ctx); !errors.As(err, &gaveUp) || gaveUp.Outcome != "" {
					t.Errorf("of a call that changes nothing: %v", err)
				}
			})
		})
	}
}

func TestAnAnswerThatDoesNotTellItsLengthIsNotTakenForWhole(t *testing.T) {
	c := scripted(t, func(r *http.Request) (*http.Response, error) {
		answer, err := says(http.StatusOK, `{"term":3}`)
		if r.URL.Host == "a" {
			answer.ContentLength = -1
		}
		return answer, err
	}, "a", "b")
	if _, err := c.Status(t.Context()); err != nil || c.last.Load() != 1 {
		t.Errorf("%v, answered by %d", err, c.last.Load())
	}
}

func TestAnAnswerHasABound(t *testing.T) {
	c := scripted(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, TransferEncoding: []string{"chunked"}, ContentLength: -1,
			Body: io.NopCloser(endless{})}, nil
	}, "a")
	if _, err := c.Do(t.Context(), Request{Method: http.MethodGet, Path: "/"}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("got %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestARequestIsSentAsItIsMeant(t *testing.T) {
	var sent *http.Request
	var body string
	c := scripted(t, func(r *http.Request) (*http.Response, error) {
		sent, body = r, ""
		if r.Body != nil {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			body = string(text)
		}
		return says(http.StatusOK, `{"leader":"node2"}`, "Raft3D-Revision: 17")
	}, "https://farm.example/raft3d/")
	ctx, color := t.Context(), "red"
	for _, test := range []struct {
		call func() error
		want string // method, URL, If-Match, whether it has a key, body
	}{
		{func() error { _, err := c.Printers().Get(ctx, "p1"); return err },
			`GET https://farm.example/raft3d/api/v1/printers/p1 "" false `},
		{func() error {
			_, err := c.Printers().Create(ctx, NewPrinter{Company: "Prusa", Model: "MK4"})
			return err
		}, `POST https://farm.example/raft3d/api/v1/printers "" true {"company":"Prusa","model":"MK4"}`},
		{func() error {
			_, err := c.Filaments().Update(ctx, "f/1", FilamentPatch{Color: &color}, 7)
			return err
		}, `PATCH https://farm.example/raft3d/api/v1/filaments/f%2F1 "\"7\"" true {"color":"red"}`},
		{func() error { return c.Jobs().Delete(ctx, "j1", 9) },
			`DELETE https://farm.example/raft3d/api/v1/print_jobs/j1 "\"9\"" true `},
		{func() error { used := 97400 * Gram / 1000; _, err := c.Jobs().Done(ctx, "j1", &used); return err },
			`POST https://farm.example/raft3d/api/v1/print_jobs/j1/status "" true {"status":"Done","used_weight_in_grams":97.4}`},
		{func() error { _, err := c.Jobs().Cancel(ctx, "j1", nil); return err },
			`POST https://farm.example/raft3d/api/v1/print_jobs/j1/status "" true {"status":"Canceled"}`},
		{func() error { return c.RemoveMember(ctx, "node3", true) },
			`DELETE https://farm.example/raft3d/api/v1/cluster/members/node3?force=true&timeout=1m0s "" true `},
		{func() error { _, err := c.PromoteMember(ctx, "node3"); return err },
			`POST https://farm.example/raft3d/api/v1/cluster/members/node3/promote?timeout=1m0s "" true `},
		{func() error { _, err := c.TransferLeader(ctx, "node2"); return err },
			`POST https://farm.example/raft3d/api/v1/cluster/leader?timeout=1m0s "" true {"id":"node2"}`},
		{func() error { _, err := c.TransferLeader(ctx, ""); return err },
			`POST https://farm.example/raft3d/api/v1/cluster/leader?timeout=1m0s "" true `},
		{func() error { _, err := c.Snapshot(ctx); return err },
			`POST https://farm.example/raft3d/debug/snapshot?timeout=1m0s "" true `},
		{func() error {
			if revision, err := c.Revision(ctx); err != nil || revision != 17 {
				return fmt.Errorf("revision %d: %w", revision, err)
			}
			return nil
		}, `HEAD https://farm.example/raft3d/api/v1/printers?limit=1 "" false `},
	} {
		if err := test.call(); err != nil {
			t.Errorf("%s: %v", test.want, err)
			continue
		}
		if got := fmt.Sprintf("%s %s %q %v %s", sent.Method, sent.URL, sent.Header.Get("If-Match"), sent.Header.Get("Idempotency-Key") != "", body); got != test.want {
			t.Errorf("want %s\n got %s", test.want, got)
		}
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	for _, server := range []string{"", "ftp://a", "http://", "http://a?x=1", "http://a b"} {
		if _, err := New(Config{Servers: []string{server}}); err == nil {
			t.Errorf("%q was taken", server)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no server was taken")
	}
}
