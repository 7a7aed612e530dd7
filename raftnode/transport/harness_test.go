package transport

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testCluster = 0xc1

// member is a Transport with an owner that writes down what it is told, behind a server of its own.
type member struct {
	*Transport
	id   uint64
	addr string
	srv  *httptest.Server
	log  *syncBuffer

	mu          sync.Mutex
	standing    map[uint64]Standing // missing: Known
	got         []*raftpb.Message
	unreachable map[uint64]int
	down        map[uint64]int
	snapshots   []snapshotReport
	refusals    []Refusal
	states      []string // of snapshots that were stored
	store       func(m *raftpb.Message, state io.Reader) error
	checked     func(id uint64) // not nil: called after each Check
}

type snapshotReport struct {
	id uint64
	ok bool
}

// startMember gives a member whose patience is short enough for tests. change may alter its configuration.
func startMember(t testing.TB, id uint64, change ...func(*Config)) *member {
	t.Helper()
	m := newMember(id, change...)
	m.srv = httptest.NewServer(m.Handler())
	m.addr = m.srv.Listener.Addr().String()
	t.Cleanup(m.stop)
	return m
}

func newMember(id uint64, change ...func(*Config)) *member {
	m := &member{id: id, log: &syncBuffer{}, standing: map[uint64]Standing{}, unreachable: map[uint64]int{}, down: map[uint64]int{}}
	c := Config{
		ClusterID: testCluster, MemberID: id, Incarnation: 1,
		Name: fmt.Sprintf("node%d", id), Version: "v-test",
		Logger:      slog.New(slog.NewTextHandler(m.log, nil)),
		RedialPause: 5 * time.Millisecond, RedialPauseMax: 20 * time.Millisecond, KeepAlive: 50 * time.Millisecond,
	}
	for _, f := range change {
		f(&c)
	}
	m.Transport = New(c, m, m)
	return m
}

// stop ends a member as the end of its process would.
func (m *member) stop() {
	m.srv.Listener.Close()
	m.Close()
	m.srv.Close()
}

// group starts members that know each other's addresses.
func group(t testing.TB, n int, change ...func(*Config)) []*member {
	t.Helper()
	var all []*member
	for id := range n {
		all = append(all, startMember(t, uint64(id+1), change...))
	}
	for _, a := range all {
		for _, b := range all {
			a.SetPeer(b.id, b.addr)
		}
	}
	return all
}

func (m *member) Check(id uint64) Standing {
	m.mu.Lock()
	s, ok := m.standing[id]
	checked := m.checked
	m.mu.Unlock()
	if checked != nil {
		checked(id)
	}
	if !ok {
		return Known
	}
	return s
}

func (m *member) setStanding(id uint64, s Standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.standing[id] = s
}

func (m *member) Receive(msgs []*raftpb.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, msgs...)
}

func (m *member) ReceiveSnapshot(msg *raftpb.Message, state io.Reader) error {
	m.mu.Lock()
	store := m.store
	m.mu.Unlock()
	if store != nil {
		return store(msg, state)
	}
	all, err := io.ReadAll(state)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states = append(m.states, string(all))
	return nil
}

func (m *member) ReportUnreachable(id uint64) { m.note(func() { m.unreachable[id]++ }) }
func (m *member) PeerDown(id uint64)          { m.note(func() { m.down[id]++ }) }
func (m *member) Refused(_ uint64, r Refusal) { m.note(func() { m.refusals = append(m.refusals, r) }) }
func (m *member) ReportSnapshot(id uint64, ok bool) {
	m.note(func() { m.snapshots = append(m.snapshots, snapshotReport{id, ok}) })
}

func (m *member) note(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *member) messages() []*raftpb.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got)
}

func (m *member) reports() []snapshotReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.snapshots)
}

func (m *member) counted(of map[uint64]int, id uint64) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return of[id]
}

func (m *member) refusedFor(reason string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.refusals, func(r Refusal) bool { return r.Reason == reason })
}

func (m *member) peer(id uint64) PeerStatus {
	for _, s := range m.Peers() {
		if s.ID == id {
			return s
		}
	}
	return PeerStatus{}
}

func (m *member) connected(t testing.TB, id uint64) {
	t.Helper()
	eventually(t, func() bool { return m.peer(id).Connected }, "member %d is connected to %d", m.id, id)
}

// eventually waits for cond; what says what did not become true.
func eventually(t testing.TB, cond func() bool, what string, args ...any) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never true: "+what, args...)
		}
	}
}

// heartbeat is a small message that can be told from others by its commit.
func heartbeat(from, to, n uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &from, To: &to, Term: new(uint64(1)), Commit: &n}
}

// appendOf is a MsgApp of one entry at index n+1 with size bytes.
func appendOf(from, to, n uint64, size int) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: &from, To: &to, Term: new(uint64(1)),
		Index: &n, LogTerm: new(uint64(1)),
		Entries: []*raftpb.Entry{{Term: new(uint64(1)), Index: new(n + 1), Data: make([]byte, size)}},
	}
}

func snapshotMessage(from, to, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: &from, To: &to, Term: new(uint64(1)),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: &index, Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{from, to}},
		}},
	}
}

// puppet is a peer that upgrades connections like a member and then does only what the test does with them.
type puppet struct {
	conns chan *timedConn
	addr  string
}

// startPuppet answers as member id, whose transport lends its identity.
func startPuppet(t testing.TB, id uint64) *puppet {
	t.Helper()
	identity := startMember(t, id)
	p := &puppet{conns: make(chan *timedConn)}
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := takeOver(w, r, time.Minute)
		if err != nil || identity.accept(conn, 1) != nil {
			return
		}
		select {
		case p.conns <- conn:
		case <-ended:
			conn.Close()
		}
	}))
	p.addr = srv.Listener.Addr().String()
	t.Cleanup(func() {
		srv.Close()
		close(ended)
	})
	return p
}

// next waits for the next connection, which ends with the test.
func (p *puppet) next(t testing.TB) *timedConn {
	t.Helper()
	select {
	case c := <-p.conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nobody connected")
		return nil
	}
}

// rawStream opens a stream to m on which the test writes what it wants, in the name of from.
func rawStream(t testing.TB, from *member, to *member) *link {
	t.Helper()
	l, err := from.upgrade(context.Background(), to.id, to.addr, streamPath, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close() })
	return l
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
