package transport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	streamPath   = "/raft/stream"
	snapshotPath = "/raft/snapshot"

	upgradeTo       = "raft3d-raft/1"
	protocolVersion = "1"

	headerProtocol    = "Raft3d-Protocol"
	headerCluster     = "Raft3d-Cluster"
	headerFrom        = "Raft3d-From"
	headerTo          = "Raft3d-To"
	headerIncarnation = "Raft3d-Incarnation"
	headerKnown       = "Raft3d-Known-Incarnation" // the receiver's, as far as the sender has seen
	headerName        = "Raft3d-Name"
	headerVersion     = "Raft3d-Version"
	headerAddress     = "Raft3d-Address" // where the sender is reached
	headerRefused     = "Raft3d-Refused" // the reason; only in answers by the transport itself

	maxAnswerHeader = 16 << 10 // bytes
	maxRefusal      = 4 << 10  // bytes of its body
)

var refusalStatus = map[string]int{
	reasonRemoved:      http.StatusGone,
	reasonWrongCluster: http.StatusPreconditionFailed,
	reasonWrongMember:  http.StatusPreconditionFailed,
	reasonStale:        http.StatusConflict,
	reasonUnknown:      http.StatusForbidden,
	reasonStaleSelf:    http.StatusServiceUnavailable,
	reasonBusy:         http.StatusServiceUnavailable,
	reasonClosing:      http.StatusServiceUnavailable,
	reasonBadRequest:   http.StatusBadRequest,
	reasonBadProtocol:  http.StatusUpgradeRequired,
}

func formatID(id uint64) string { return fmt.Sprintf("%016x", id) }

func parseID(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }

// introduce writes into h who speaks, and to whom.
func (t *Transport) introduce(h http.Header, to uint64) {
	t.mu.Lock()
	var known uint64
	if r := t.remotes[to]; r != nil {
		known = r.incarnation
	}
	t.mu.Unlock()
	h.Set(headerProtocol, protocolVersion)
	h.Set(headerCluster, formatID(t.cfg.ClusterID))
	h.Set(headerFrom, formatID(t.cfg.MemberID))
	h.Set(headerTo, formatID(to))
	h.Set(headerIncarnation, strconv.FormatUint(t.cfg.Incarnation, 10))
	h.Set(headerKnown, strconv.FormatUint(known, 10))
	h.Set(headerName, t.cfg.Name)
	h.Set(headerVersion, t.cfg.Version)
	h.Set(headerAddress, t.cfg.Address)
}

// admit says who sent r, or why it is not answered. It tells the Receiver when r shows that this member is the stale one.
func (t *Transport) admit(r *http.Request) (from uint64, err error) {
	h := r.Header
	if v := h.Get(headerProtocol); v != protocolVersion {
		return 0, &Refusal{reasonBadProtocol, fmt.Sprintf("this member speaks peer protocol %s, not %q", protocolVersion, v)}
	}
	var ids [3]uint64
	for i, name := range []string{headerCluster, headerFrom, headerTo} {
		if ids[i], err = parseID(h.Get(name)); err != nil {
			return 0, &Refusal{reasonBadRequest, fmt.Sprintf("%s is no id: %q", name, h.Get(name))}
		}
	}
	incarnation, err1 := strconv.ParseUint(h.Get(headerIncarnation), 10, 64)
	known, err2 := strconv.ParseUint(h.Get(headerKnown), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, &Refusal{reasonBadRequest, err.Error()}
	}
	cluster, from, to := ids[0], ids[1], ids[2]
	if cluster != t.cfg.ClusterID {
		t.reports.refused(from, Refusal{reasonWrongCluster, fmt.Sprintf("a member of cluster %016x looks for one of its own at this address", cluster)})
		return 0, &Refusal{reasonWrongCluster, fmt.Sprintf("this is no member of cluster %016x", cluster)}
	}
	if to != t.cfg.MemberID {
		return 0, &Refusal{reasonWrongMember, fmt.Sprintf("this is member %016x, not %016x", t.cfg.MemberID, to)}
	}
	if !peerID(from) || from == t.cfg.MemberID {
		return 0, &Refusal{reasonBadRequest, fmt.Sprintf("member id %016x cannot be a peer's", from)}
	}
	if err := t.checkStanding(from); err != nil {
		return 0, err
	}
	if known > t.cfg.Incarnation || Rivals(known, t.cfg.Incarnation) {
		detail := fmt.Sprintf("member %016x has seen incarnation %d of this member, which is now %d: its directory is an old copy",
			from, known, t.cfg.Incarnation)
		t.reports.refused(from, Refusal{reasonStale, detail})
		return 0, &Refusal{reasonStaleSelf, detail}
	}
	t.mu.Lock()
	err = t.met(t.remote(from), from, incarnation, h)
	if err == nil {
		t.moved(from, h.Get(headerAddress))
	}
	t.mu.Unlock()
	if err != nil {
		return 0, err
	}
	// If RemovePeer came in between, it did not find what was just made.
	if err := t.checkStanding(from); err != nil {
		t.RemovePeer(from)
		return 0, err
	}
	return from, nil
}

// moved takes the address that a member gives for itself, which is newer than any other: a member that moved could not tell
// its cluster where no quorum is left that reaches it, and a joiner has nowhere else to learn who brings it the state. The
// caller holds mu.
func (t *Transport) moved(id uint64, addr string) {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" || port == "0" || t.closed {
		return
	}
	r := t.remote(id)
	switch {
	case r.out == nil:
		t.dial(r, id, addr)
	case r.out.address() != addr:
		t.log.Info("a peer moved", "member", formatID(id), "addr", addr)
		r.out.setAddr(addr)
	}
}

func (t *Transport) checkStanding(id uint64) error {
	switch t.members.Check(id) {
	case Known:
		return nil
	case Removed:
		return &Refusal{reasonRemoved, fmt.Sprintf("member %016x was removed from the cluster", id)}
	}
	return &Refusal{reasonUnknown, fmt.Sprintf("member %016x is not known here yet", id)}
}

// met records what peer id told of itself, unless a newer incarnation of it was met before. Whoever begins anew is not the
// process that was: one that is started again at once may never have refused a dial. The caller holds mu.
func (t *Transport) met(r *remote, id, incarnation uint64, h http.Header) error {
	if incarnation < r.incarnation || Rivals(incarnation, r.incarnation) {
		return &Refusal{reasonStale, fmt.Sprintf("incarnation %d of member %016x was seen before, this is %d: its directory is an old copy",
			r.incarnation, id, incarnation)}
	}
	if r.incarnation != 0 && incarnation != r.incarnation && r.died != r.incarnation {
		t.reports.down(id)
	}
	r.incarnation, r.name, r.version = incarnation, h.Get(headerName), h.Get(headerVersion)
	return nil
}

// turnedAway is a refusal of this member, to log each only once in a row.
type turnedAway struct {
	from, reason string
}

// refuse answers a request of a peer that is not served. Nothing of this member's identity goes to another cluster.
func (t *Transport) refuse(w http.ResponseWriter, r *http.Request, why *Refusal) {
	if why.Reason != reasonWrongCluster && why.Reason != reasonBadRequest {
		to, _ := parseID(r.Header.Get(headerFrom)) // admit has seen that it is one, or refuses for a reason before that
		t.introduce(w.Header(), to)
	}
	w.Header().Set(headerRefused, why.Reason)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close")
	w.WriteHeader(refusalStatus[why.Reason])
	_ = json.NewEncoder(w).Encode(why) // an error means that the peer is gone

	this := turnedAway{r.Header.Get(headerFrom), why.Reason}
	t.mu.Lock()
	again := this == t.lastRefused
	t.lastRefused = this
	t.mu.Unlock()
	if !again {
		t.log.Warn("refused a peer", "member", this.from, "remote", r.RemoteAddr, "reason", why.Reason, "detail", why.Detail)
	}
}

// link is a connection to a peer on which one request was written and its answer's head was read.
type link struct {
	conn   *timedConn
	r      *bufio.Reader // all that comes after the head; reads conn
	answer *http.Response
}

// sentError is an error after which the peer may have got the request.
type sentError struct{ err error }

func (e *sentError) Error() string { return e.err.Error() }
func (e *sentError) Unwrap() error { return e.err }

// open dials addr, writes r and reads the head of the answer, all until r's context ends. idle is for the connection from then on.
// Before the request was written errors are what the dialer said; later they are *sentError, or *Refusal if the peer
// at addr did not want it.
func (t *Transport) open(id uint64, addr string, r *http.Request, idle time.Duration) (*link, error) {
	ctx := r.Context()
	dialCtx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	conn, err := t.cfg.DialContext(dialCtx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	l, err := t.ask(&timedConn{Conn: conn, idle: idle}, id, r)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = &sentError{fmt.Errorf("%w: %w", ctx.Err(), err)}
		}
		return nil, err
	}
	return l, nil
}

func (t *Transport) ask(conn *timedConn, id uint64, r *http.Request) (*link, error) {
	t.introduce(r.Header, id)
	if err := r.Write(conn); err != nil {
		return nil, &sentError{fmt.Errorf("write request to %s: %w", r.URL.Host, err)}
	}
	limited := &io.LimitedReader{R: conn, N: maxAnswerHeader}
	br := bufio.NewReaderSize(limited, maxAnswerHeader)
	answer, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, &sentError{fmt.Errorf("read answer of %s: %w", r.URL.Host, err)}
	}
	limited.N = math.MaxInt64
	if err := t.checkAnswer(id, answer); err != nil {
		return nil, err
	}
	return &link{conn, br, answer}, nil
}

// checkAnswer says whether an answer is one of peer id that takes the request.
func (t *Transport) checkAnswer(id uint64, answer *http.Response) error {
	h := answer.Header
	ours := h.Get(headerCluster) == formatID(t.cfg.ClusterID) && h.Get(headerFrom) == formatID(id)
	if reason := h.Get(headerRefused); reason != "" {
		why := &Refusal{Reason: reason}
		var told Refusal
		if body, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal)); err == nil && json.Unmarshal(body, &told) == nil {
			why.Detail = told.Detail
		}
		// What ends a member's life counts only from the one that was meant.
		if !ours && (reason == reasonRemoved || reason == reasonStale) {
			return &sentError{fmt.Errorf("%s is not said by member %016x: %s", reason, id, why.Detail)}
		}
		return why
	}
	if !ours {
		return &sentError{fmt.Errorf("answer %s is not one of member %016x", answer.Status, id)}
	}
	incarnation, err := strconv.ParseUint(h.Get(headerIncarnation), 10, 64)
	if err != nil {
		return &sentError{fmt.Errorf("answer of member %016x: %w", id, err)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.remotes[id]; r != nil {
		if err := t.met(r, id, incarnation, h); err != nil {
			return &sentError{errors.New(err.Error())} // no Refusal: it is said of the peer, not by it
		}
	}
	return nil
}

// upgrade opens a connection to a peer that carries frames both ways.
func (t *Transport) upgrade(ctx context.Context, id uint64, addr, path string, idle time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout+t.cfg.IdleTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", upgradeTo)
	l, err := t.open(id, addr, r, idle)
	if err != nil {
		return nil, err
	}
	if l.answer.StatusCode != http.StatusSwitchingProtocols {
		l.conn.Close()
		return nil, fmt.Errorf("upgrade %s at %s: %s", path, addr, l.answer.Status)
	}
	return l, nil
}

// takeOver takes the connection of an upgrade request from net/http.
func takeOver(w http.ResponseWriter, r *http.Request, idle time.Duration) (*timedConn, error) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeTo) {
		return nil, &Refusal{reasonBadProtocol, "only with Upgrade: " + upgradeTo}
	}
	conn, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, &Refusal{reasonBadProtocol, err.Error()}
	}
	err = conn.SetDeadline(time.Time{}) // net/http may have set some
	if ahead.Reader.Buffered() > 0 {
		err = errors.New("the peer did not wait for the answer")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &timedConn{Conn: conn, idle: idle}, nil
}

// accept tells the peer at the other end of conn that its frames are welcome.
func (t *Transport) accept(conn *timedConn, from uint64) error {
	h := http.Header{"Connection": {"Upgrade"}, "Upgrade": {upgradeTo}}
	t.introduce(h, from)
	var head strings.Builder
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(&head) // a strings.Builder takes all
	head.WriteString("\r\n")
	_, err := io.WriteString(conn, head.String())
	return err
}
