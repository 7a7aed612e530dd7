package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

func TestARemovedMemberIsTold(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	a.connected(t, 2)
	b.connected(t, 1)
	a.setStanding(2, Removed)
	a.RemovePeer(2)
	eventually(t, func() bool { return b.refusedFor(reasonRemoved) }, "the removed member is told: %s", b.log)
	b.Send([]*raftpb.Message{heartbeat(2, 1, 1)})
	eventually(t, func() bool { return b.peer(1).Dropped == 1 }, "nothing of it is sent")
	if len(a.messages()) != 0 {
		t.Fatalf("received %v", a.messages())
	}
}

// The connection and the removal may come at the same moment.
func TestAMemberThatIsRemovedWhileItConnectsIsForgotten(t *testing.T) {
	for n := range 3 { // how many checks it passes
		a, b := startMember(t, 1), startMember(t, 2, func(c *Config) { c.Address = "127.0.0.1:1" })
		passed := 0
		a.checked = func(id uint64) {
			if passed == n {
				a.setStanding(id, Removed)
				a.RemovePeer(id)
			}
			passed++
		}
		l, err := b.upgrade(t.Context(), 1, a.addr, streamPath, time.Minute)
		if err == nil { // it came in before
			_, _ = io.Copy(io.Discard, l.r) // ends when it is thrown out
			l.conn.Close()
		}
		eventually(t, func() bool { return len(a.Peers()) == 0 }, "after %d checks it is forgotten: %+v", n, a.Peers())
	}
}

func TestAnUnknownMemberIsLetInOnceItIsKnown(t *testing.T) {
	a, b := startMember(t, 1), startMember(t, 2)
	a.setStanding(2, Unknown)
	b.SetPeer(1, a.addr)
	eventually(t, func() bool { return b.refusedFor(reasonUnknown) }, "it is refused at first")
	a.setStanding(2, Known)
	b.connected(t, 1)
}

func TestIdentityIsChecked(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		caller       func(*Config)
		dials        uint64
	}{
		{"another cluster", reasonWrongCluster, func(c *Config) { c.ClusterID++ }, 1},
		{"another member's address", reasonWrongMember, func(*Config) {}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := startMember(t, 1)
			b := startMember(t, 2, c.caller)
			b.SetPeer(c.dials, a.addr)
			b.Send([]*raftpb.Message{heartbeat(2, c.dials, 1)})
			eventually(t, func() bool { return b.refusedFor(c.reason) }, "the caller is told: %s", b.log)
			if len(a.messages()) > 0 || b.peer(c.dials).Connected {
				t.Fatalf("received %v", a.messages())
			}
		})
	}
}

func TestAnOldCopyOfADirectoryIsRefused(t *testing.T) {
	a := startMember(t, 1)
	newer := startMember(t, 2, func(c *Config) { c.Incarnation = 5 })
	newer.SetPeer(1, a.addr)
	newer.connected(t, 1)
	newer.stop()
	older := startMember(t, 2, func(c *Config) { c.Incarnation = 4 })
	older.SetPeer(1, a.addr)
	eventually(t, func() bool { return older.refusedFor(reasonStale) }, "the older incarnation is told: %s", older.log)
	if older.peer(1).Connected || a.peer(2).Incarnation == 4 {
		t.Fatalf("it is connected: %+v", older.Peers())
	}
}

// The old copy's own peers connect to it before it dials anyone: it must find out from them.
func TestAnOldCopyOfADirectoryRefusesItselfWhenItIsDialled(t *testing.T) {
	newer := startMember(t, 2, func(c *Config) { c.Incarnation = 5 })
	a := startMember(t, 1)
	a.SetPeer(2, newer.addr)
	a.connected(t, 2)
	newer.stop()
	older := startMember(t, 2, func(c *Config) { c.Incarnation = 4 })
	a.SetPeer(2, older.addr)
	eventually(t, func() bool { return older.refusedFor(reasonStale) }, "it learns of it: %s", older.log)
	eventually(t, func() bool { return strings.Contains(a.log.String(), reasonStaleSelf) }, "the caller's log says so")
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refusals) > 0 || a.peer(2).Connected {
		t.Fatalf("the caller is refused for %v, peers are %+v", a.refusals, a.Peers())
	}
}

// A port that was given to something else must not end a member's life.
func TestOnlyTheMemberThatWasMeantCanSayRemoved(t *testing.T) {
	a := startMember(t, 1)
	attempts := make(chan struct{}, 1000)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerRefused, reasonRemoved)
		w.WriteHeader(http.StatusGone)
		attempts <- struct{}{}
	}))
	defer other.Close()
	a.SetPeer(2, other.Listener.Addr().String())
	<-attempts
	<-attempts // the first answer was read
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.refusals) > 0 {
		t.Fatalf("believed %v", a.refusals)
	}
}

func TestRefusalsCanBeReadByPeople(t *testing.T) {
	a, b := startMember(t, 1), startMember(t, 2)
	a.setStanding(3, Removed)
	a.setStanding(4, Unknown)
	for _, c := range []struct {
		name   string
		change func(h http.Header)
		status int
		reason string
	}{
		{"no headers", func(h http.Header) { clear(h) }, http.StatusUpgradeRequired, reasonBadProtocol},
		{"no ids", func(h http.Header) { h.Del(headerFrom) }, http.StatusBadRequest, reasonBadRequest},
		{"no incarnation", func(h http.Header) { h.Del(headerIncarnation) }, http.StatusBadRequest, reasonBadRequest},
		{"itself", func(h http.Header) { h.Set(headerFrom, formatID(1)) }, http.StatusBadRequest, reasonBadRequest},
		{"raft's own id", func(h http.Header) { h.Set(headerFrom, "ffffffffffffffff") }, http.StatusBadRequest, reasonBadRequest},
		{"no member", func(h http.Header) { h.Set(headerFrom, formatID(0)) }, http.StatusBadRequest, reasonBadRequest},
		{"removed", func(h http.Header) { h.Set(headerFrom, formatID(3)) }, http.StatusGone, reasonRemoved},
		{"unknown", func(h http.Header) { h.Set(headerFrom, formatID(4)) }, http.StatusForbidden, reasonUnknown},
		{"cluster", func(h http.Header) { h.Set(headerCluster, formatID(77)) }, http.StatusPreconditionFailed, reasonWrongCluster},
		{"no upgrade", func(http.Header) {}, http.StatusUpgradeRequired, reasonBadProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, streamPath, nil)
			b.introduce(r.Header, 1)
			c.change(r.Header)
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			var why Refusal
			if err := json.Unmarshal(w.Body.Bytes(), &why); err != nil {
				t.Fatalf("%v in %q", err, w.Body)
			}
			if w.Code != c.status || why.Reason != c.reason || why.Detail == "" || w.Header().Get("Content-Type") != "application/json" {
				t.Fatalf("answer is %d %v %+v", w.Code, w.Header(), why)
			}
			if known := w.Header().Get(headerCluster) != ""; known && c.reason == reasonWrongCluster {
				t.Fatal("a stranger is told the cluster id")
			}
		})
	}
}

func TestOtherPathsAndMethodsAreNotFound(t *testing.T) {
	a := startMember(t, 1)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodGet, streamPath, nil),
		httptest.NewRequest(http.MethodPost, "/raft", nil),
		httptest.NewRequest(http.MethodPost, "/raft/call", nil),
	} {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Fatalf("%s %s: %d", r.Method, r.URL, w.Code)
		}
	}
}

func TestCallGetsThePeersAnswer(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	b.HandleCall("/raft/echo", func(_ context.Context, from uint64, in []byte) (int, []byte) {
		return http.StatusConflict, append([]byte(formatID(from)), in...)
	})
	status, out, err := a.Call(context.Background(), 2, "/raft/echo", []byte("hello"))
	if err != nil || status != http.StatusConflict || string(out) != formatID(1)+"hello" {
		t.Fatalf("got %d %q %v", status, out, err)
	}
	status, _, err = a.Call(context.Background(), 2, "/raft/other", nil)
	if err == nil {
		t.Fatalf("a path that nobody handles is answered with %d", status)
	}
}

func TestAFailedCallSaysWhetherItMayHaveHappened(t *testing.T) {
	all := group(t, 3)
	a, b, dead := all[0], all[1], all[2]
	dead.stop()
	entered := make(chan struct{}, 10)
	b.HandleCall("/raft/stuck", func(ctx context.Context, _ uint64, _ []byte) (int, []byte) {
		entered <- struct{}{}
		<-ctx.Done()
		return http.StatusOK, nil
	})
	b.HandleCall("/raft/large", func(context.Context, uint64, []byte) (int, []byte) {
		return http.StatusOK, make([]byte, maxCallBody+1)
	})
	call := func(ctx context.Context, id uint64, path string, in []byte, wantSent bool) error {
		t.Helper()
		_, _, err := a.Call(ctx, id, path, in)
		var failed *CallError
		if !errors.As(err, &failed) || failed.Sent != wantSent {
			t.Fatalf("%s at %d: %v", path, id, err)
		}
		return err
	}
	call(context.Background(), 3, "/raft/stuck", nil, false)
	call(context.Background(), 9, "/raft/stuck", nil, false)
	call(context.Background(), 2, "/raft/stuck", make([]byte, maxCallBody+1), false)
	call(context.Background(), 2, "/raft/large", nil, true)

	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	if err := call(ctx, 2, "/raft/stuck", nil, true); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v does not say that the caller gave up", err)
	}

	b.setStanding(1, Unknown)
	var why *Refusal
	if err := call(context.Background(), 2, "/raft/stuck", nil, false); !errors.As(err, &why) || why.Reason != reasonUnknown {
		t.Fatalf("%v does not say why it was refused", err)
	}
	b.setStanding(1, Known)

	go func() { <-entered; b.srv.CloseClientConnections() }()
	call(context.Background(), 2, "/raft/stuck", nil, true)
}

func TestCloseEndsACallThatWaits(t *testing.T) {
	a := startMember(t, 1)
	asked := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/raft/x" {
			close(asked)
		}
		<-r.Context().Done()
	}))
	defer slow.Close()
	a.SetPeer(2, slow.Listener.Addr().String())
	got := make(chan error, 1)
	go func() {
		_, _, err := a.Call(context.Background(), 2, "/raft/x", nil)
		got <- err
	}()
	<-asked
	a.Close()
	var failed *CallError
	if err := <-got; !errors.As(err, &failed) || !failed.Sent {
		t.Fatalf("the call ended in %v", err)
	}
}
