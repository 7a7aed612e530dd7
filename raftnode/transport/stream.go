package transport

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Handler serves POST /raft/stream, POST /raft/snapshot and the paths of HandleCall; all else is 404. It needs HTTP/1.1, and
// must be reached directly: connections are taken over, so http.Server's Shutdown and Close don't end them; Close does.
func (t *Transport) Handler() http.Handler { return http.HandlerFunc(t.serve) }

func (t *Transport) serve(w http.ResponseWriter, r *http.Request) {
	serve := t.handlerOf(r)
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	if !t.enter() {
		t.refuse(w, r, &Refusal{reasonClosing, "this member is shutting down"})
		return
	}
	defer t.wg.Done()
	from, err := t.admit(r)
	if err == nil {
		err = serve(w, r, from)
	}
	var why *Refusal
	if errors.As(err, &why) {
		t.refuse(w, r, why)
	}
}

// handlerOf returns what serves r, which may return a *Refusal as long as nothing was answered; nil: nothing.
func (t *Transport) handlerOf(r *http.Request) func(w http.ResponseWriter, r *http.Request, from uint64) error {
	if r.Method != http.MethodPost {
		return nil
	}
	switch r.URL.Path {
	case streamPath:
		return t.serveStream
	case snapshotPath:
		return t.serveSnapshot
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if fn := t.calls[r.URL.Path]; fn != nil {
		return func(w http.ResponseWriter, r *http.Request, from uint64) error { return t.serveCall(w, r, from, fn) }
	}
	return nil
}

const (
	kindStream = iota
	kindSnapshot
	incomingKinds
)

// guest is a connection that a peer opened.
type guest struct {
	conn *timedConn
	done chan struct{} // closed when its goroutine has done with it
}

// welcome takes over the connection of an upgrade request and answers it. It replaces an older one of the same peer and kind,
// and waits until that one's goroutine has let go. The caller must call leave.
func (t *Transport) welcome(w http.ResponseWriter, r *http.Request, from uint64, kind int, idle time.Duration) (*guest, error) {
	conn, err := takeOver(w, r, idle)
	if err != nil {
		return nil, err
	}
	g := &guest{conn: conn, done: make(chan struct{})}
	older, err := t.enlist(g, from, kind)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if older != nil {
		older.conn.Close()
		<-older.done
	}
	// The peer may have been removed between the first check and its entry in remotes, where RemovePeer finds it.
	err = t.checkStanding(from)
	if err == nil {
		err = t.accept(conn, from) // last: whom it was said to is whom this member listens to
	}
	if err != nil {
		t.leave(g, from, kind)
		return nil, fmt.Errorf("accept member %016x: %s", from, err) // a Refusal no more: there is nobody to answer
	}
	return g, nil
}

// enlist makes g the connection of its kind with member from, and gives the one that was.
func (t *Transport) enlist(g *guest, from uint64, kind int) (older *guest, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	r := t.remote(from)
	older, r.in[kind] = r.in[kind], g
	if r.out != nil {
		signal(r.out.kick) // it lives: dial it now
	}
	return older, nil
}

var errClosed = errors.New("the transport is closed")

func (t *Transport) leave(g *guest, from uint64, kind int) {
	g.conn.Close()
	t.mu.Lock()
	if rm := t.remotes[from]; rm != nil && rm.in[kind] == g {
		rm.in[kind] = nil
	}
	t.mu.Unlock()
	close(g.done)
}

func (t *Transport) serveStream(w http.ResponseWriter, r *http.Request, from uint64) error {
	g, err := t.welcome(w, r, from, kindStream, t.cfg.IdleTimeout)
	if err != nil {
		return err
	}
	defer t.leave(g, from, kindStream)
	s := &stream{t: t, from: from, conn: g.conn, frames: frameReader{r: bufio.NewReaderSize(g.conn, pieceBytes)}}
	err = s.run()
	var bad *frameError
	if errors.As(err, &bad) {
		t.received(from, 0, 1)
		t.log.Warn("closed a peer's stream", "member", formatID(from), "err", err)
	}
	return nil
}

// stream reads one peer's messages.
type stream struct {
	t      *Transport
	from   uint64
	conn   *timedConn
	frames frameReader

	alive   time.Time // when the last sign of life was written
	refused bool      // a message was refused and logged: the next ones are only counted
}

const (
	batchMessages = 256 // given to Receive at once
	batchSize     = 1 << 20
)

// run reads until the stream ends or breaks.
func (s *stream) run() error {
	for {
		batch, err := s.next()
		if len(batch) > 0 {
			s.t.received(s.from, len(batch), 0)
			s.t.receiver.Receive(batch)
		}
		if err != nil {
			return err
		}
		// The peer writes at least each KeepAlive, so this comes by often enough.
		if now := time.Now(); now.Sub(s.alive) >= s.t.cfg.KeepAlive/2 {
			s.alive = now
			if _, err := s.conn.Write(emptyFrame); err != nil {
				return err
			}
		}
	}
}

// next waits for a message or a sign of life, and takes what has arrived with it.
func (s *stream) next() (batch []*raftpb.Message, err error) {
	for size := 0; ; {
		payload, err := s.frames.next(MaxMessage)
		if err != nil {
			return batch, err
		}
		if len(payload) > 0 {
			if m := s.decode(payload); m != nil {
				batch = append(batch, m)
			}
		}
		size += len(payload)
		if len(batch) >= batchMessages || size >= batchSize || !s.frames.whole() {
			return batch, nil
		}
	}
}

// decode returns the message that may go to raft; nil: there is none.
func (s *stream) decode(payload []byte) *raftpb.Message {
	m, err := decodeMessage(payload)
	if err == nil {
		err = validate(m, s.from, s.t.cfg.MemberID)
	}
	if err != nil {
		s.t.received(s.from, 0, 1)
		if !s.refused {
			s.refused = true
			s.t.log.Warn("dropped a peer's message", "member", formatID(s.from), "err", err)
		}
		return nil
	}
	if m.GetType() == raftpb.MsgTransferLeader {
		m.Term = nil // raft panics when a follower forwards one that has a term; without, it counts as asked here
	}
	return m
}

// decodeMessage decodes what appendMessage wrote. The message does not share memory with payload.
func decodeMessage(payload []byte) (*raftpb.Message, error) {
	m := &raftpb.Message{}
	return m, proto.UnmarshalOptions{RecursionLimit: maxNesting}.Unmarshal(payload, m)
}

// maxNesting is how deep messages nest: Message, Snapshot, SnapshotMetadata, ConfState.
const maxNesting = 6

func (t *Transport) received(from uint64, messages, invalid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rm := t.remotes[from]; rm != nil {
		rm.received += uint64(messages)
		rm.invalid += uint64(invalid)
		if messages > 0 {
			rm.lastReceived = time.Now()
		}
	}
}
