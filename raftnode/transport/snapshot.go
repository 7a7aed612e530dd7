package transport

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// After the 101, the sender of a snapshot writes these frames: the message; the state in pieces; an empty one; and the state's
// length (8 bytes, big-endian) with its SHA-256. The receiver writes empty frames while it lives, and last one that is not
// empty: snapshotStored, or the reason why not. It may do so before the end.
const (
	snapshotStored = "stored"

	statePiece    = 64 << 10 // bytes of state in a frame
	maxStatePiece = 1 << 20
	trailerSize   = 8 + sha256.Size
	maxReason     = 1 << 10
)

// SendSnapshot sends m, a complete MsgSnap, and after it the state that write writes, on a connection of its own. It does not
// block: m is marshalled before it returns, write is called from another goroutine. What comes of it is told by exactly
// one ReportSnapshot, unless Close has returned before; true: the peer has stored it and stepped m. At most one is on
// its way to a peer, and Config.Snapshots in all: one more has failed.
func (t *Transport) SendSnapshot(m *raftpb.Message, write func(w io.Writer) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, head, err := t.prepareSnapshot(m)
	if err != nil {
		t.log.Warn("snapshot not sent", "member", formatID(m.GetTo()), "err", err)
		t.reports.snapshot(m.GetTo(), false)
		return
	}
	t.wg.Add(1)
	go p.sendSnapshot(m.GetSnapshot().GetMetadata().GetIndex(), head, write)
}

// prepareSnapshot marshals m and takes the tokens that sending it needs. The caller holds mu.
func (t *Transport) prepareSnapshot(m *raftpb.Message) (*peer, []byte, error) {
	if t.closed {
		return nil, nil, errClosed
	}
	r := t.remotes[m.GetTo()]
	if r == nil || r.out == nil {
		return nil, nil, errors.New("the peer is not known")
	}
	head, err := appendMessage(nil, m)
	if err != nil {
		return nil, nil, err
	}
	select {
	case r.out.sending <- struct{}{}:
	default:
		return nil, nil, errors.New("one is on its way to it already")
	}
	select {
	case t.sending <- struct{}{}:
	default:
		<-r.out.sending
		return nil, nil, fmt.Errorf("%d are on their way to other peers", cap(t.sending))
	}
	return r.out, head, nil
}

func (p *peer) sendSnapshot(index uint64, head []byte, write func(io.Writer) error) {
	defer p.t.wg.Done()
	started := time.Now()
	size, err := p.trySnapshot(head, write)
	// Tokens before the report: who hears it may send the next one at once.
	<-p.t.sending
	<-p.sending
	p.t.reports.snapshot(p.id, err == nil)
	if err != nil {
		p.t.log.Warn("snapshot not sent", "member", formatID(p.id), "index", index, "bytes", size, "err", err)
		return
	}
	p.t.log.Info("sent snapshot", "member", formatID(p.id), "index", index, "bytes", size, "took", time.Since(started))
}

func (p *peer) trySnapshot(head []byte, write func(io.Writer) error) (size uint64, err error) {
	p.mu.Lock()
	addr := p.addr
	p.mu.Unlock()
	l, err := p.t.upgrade(p.ctx, p.id, addr, snapshotPath, p.t.cfg.SnapshotTimeout)
	if err != nil {
		var why *Refusal
		if errors.As(err, &why) {
			p.t.tellRefusal(p.id, why)
		}
		return 0, err
	}
	stop := context.AfterFunc(p.ctx, func() { l.conn.Close() })
	defer stop()
	v := &verdict{l: l, done: make(chan struct{})}
	go v.run()
	w := &stateWriter{w: l.conn, sum: sha256.New()}
	err = w.send(head, write)
	if err != nil {
		l.conn.Close() // what was written is no whole snapshot, and the receiver must not wait for the rest
	}
	<-v.done
	l.conn.Close()
	var refused *refusedSnapshot
	if v.err != nil && (err == nil || errors.Is(err, net.ErrClosed) || errors.As(v.err, &refused)) {
		err = v.err // it is why the write failed, or the better reason
	}
	return w.size, err
}

// verdict waits for the receiver's last word, and closes the connection if it is not "stored".
type verdict struct {
	l    *link
	err  error         // set before done is closed
	done chan struct{} // closed by run, last
}

// refusedSnapshot is the receiver's reason.
type refusedSnapshot struct{ reason string }

func (e *refusedSnapshot) Error() string { return "the peer did not store it: " + e.reason }

func (v *verdict) run() {
	defer close(v.done)
	frames := frameReader{r: v.l.r}
	for {
		word, err := frames.next(maxReason)
		switch {
		case err != nil:
			v.err = fmt.Errorf("wait for the peer to store it: %w", err)
		case len(word) == 0:
			continue
		case string(word) != snapshotStored:
			v.err = &refusedSnapshot{string(word)}
		}
		if v.err != nil {
			v.l.conn.Close()
		}
		return
	}
}

// stateWriter cuts the state into frames.
type stateWriter struct {
	w    io.Writer
	sum  hash.Hash
	size uint64
	buf  []byte // the frame that is being filled
}

func (s *stateWriter) send(head []byte, write func(io.Writer) error) error {
	if _, err := s.w.Write(head); err != nil {
		return err
	}
	pieces := bufio.NewWriterSize(s, statePiece)
	if err := write(pieces); err != nil {
		return fmt.Errorf("write its state: %w", err)
	}
	if err := pieces.Flush(); err != nil {
		return err
	}
	trailer := s.sum.Sum(binary.BigEndian.AppendUint64(nil, s.size))
	_, err := s.w.Write(appendFrame(append([]byte(nil), emptyFrame...), trailer))
	return err
}

// Write sends p as one or more frames.
func (s *stateWriter) Write(p []byte) (written int, err error) {
	for written < len(p) {
		piece := p[written:min(len(p), written+statePiece)]
		s.buf = appendFrame(s.buf[:0], piece)
		if _, err := s.w.Write(s.buf); err != nil {
			return written, err
		}
		s.sum.Write(piece)
		s.size += uint64(len(piece))
		written += len(piece)
	}
	return written, nil
}

func (t *Transport) serveSnapshot(w http.ResponseWriter, r *http.Request, from uint64) error {
	select {
	case t.receiving <- struct{}{}:
		defer func() { <-t.receiving }()
	default:
		return &Refusal{reasonBusy, fmt.Sprintf("%d snapshots are being received", cap(t.receiving))}
	}
	g, err := t.welcome(w, r, from, kindSnapshot, t.cfg.SnapshotTimeout)
	if err != nil {
		return err
	}
	defer t.leave(g, from, kindSnapshot)
	size, err := t.receiveSnapshot(g.conn, from)
	if err != nil {
		t.log.Warn("snapshot not stored", "member", formatID(from), "bytes", size, "err", err)
		g.conn.endBy(time.Now().Add(t.cfg.FlushTimeout))
		reason := err.Error()
		_, _ = g.conn.Write(appendFrame(nil, []byte(reason[:min(len(reason), maxReason)]))) // an error means that it hears it otherwise
		// A connection that is closed with unread bytes is reset, and the word before it lost.
		g.conn.closeWrite()
		_, _ = io.Copy(io.Discard, g.conn)
		return nil
	}
	_, err = g.conn.Write(appendFrame(nil, []byte(snapshotStored)))
	t.log.Info("stored snapshot", "member", formatID(from), "bytes", size, "err", err)
	return nil
}

func (t *Transport) receiveSnapshot(conn *timedConn, from uint64) (size uint64, err error) {
	frames := frameReader{r: bufio.NewReaderSize(conn, pieceBytes)}
	payload, err := frames.next(MaxMessage)
	if err != nil {
		return 0, fmt.Errorf("read the message: %w", err)
	}
	m, err := decodeMessage(payload)
	if err == nil {
		err = validateSnapshot(m, from, t.cfg.MemberID)
	}
	if err != nil {
		t.received(from, 0, 1)
		return 0, err
	}
	pulse := &pulse{conn: conn, every: t.cfg.KeepAlive, stop: make(chan struct{})}
	pulse.wg.Add(1)
	go pulse.run()
	state := &stateReader{frames: frames, sum: sha256.New()}
	err = t.receiver.ReceiveSnapshot(m, state)
	close(pulse.stop)
	pulse.wg.Wait() // before the last word
	if err == nil && state.err != io.EOF {
		err = errors.New("its state was not read to the end")
	}
	if err == nil {
		t.received(from, 1, 0)
	}
	return state.size, err
}

// pulse shows the sender that this member lives, while it stores what was sent.
type pulse struct {
	conn  *timedConn
	every time.Duration
	stop  chan struct{}
	wg    sync.WaitGroup
}

func (p *pulse) run() {
	defer p.wg.Done()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			if _, err := p.conn.Write(emptyFrame); err != nil {
				return // the reader of the state finds out
			}
		}
	}
}

// stateReader puts the state together and checks it: it ends in io.EOF only when length and SHA-256 are right.
type stateReader struct {
	frames frameReader
	sum    hash.Hash
	size   uint64
	rest   []byte // of the last frame
	err    error  // for ever
}

func (s *stateReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.rest, s.err = s.next()
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stateReader) next() ([]byte, error) {
	piece, err := s.frames.next(maxStatePiece)
	if err != nil {
		return nil, s.broken(err)
	}
	if len(piece) > 0 {
		s.sum.Write(piece)
		s.size += uint64(len(piece))
		return piece, nil
	}
	trailer, err := s.frames.next(trailerSize)
	if err != nil {
		return nil, s.broken(err)
	}
	if want := s.sum.Sum(binary.BigEndian.AppendUint64(nil, s.size)); string(trailer) != string(want) {
		return nil, fmt.Errorf("state of %d bytes is not what was sent: have %x, was told %x", s.size, want, trailer)
	}
	return nil, io.EOF
}

// broken keeps an end of the connection from looking like the end of the state.
func (s *stateReader) broken(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read state after %d bytes: %w", s.size, err)
}
