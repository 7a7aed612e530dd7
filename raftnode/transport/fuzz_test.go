package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// canned is a connection on which the other end says these bytes, whatever it hears, and hangs up.
type canned struct {
	io.Reader
	written bytes.Buffer
}

func (c *canned) Write(b []byte) (int, error)      { return c.written.Write(b) }
func (c *canned) Close() error                     { return nil }
func (c *canned) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// FuzzHandshake sends requests with arbitrary headers. Each gets one of the answers there are, and none makes a member
// known that its owner does not know.
func FuzzHandshake(f *testing.F) {
	good := [...]string{"1", formatID(testCluster), formatID(2), formatID(1), "1", "1", "127.0.0.1:1", "node2"}
	add := func(path string, change int, to string) {
		h := good
		h[change] = to
		f.Add(path, h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], []byte("body"))
	}
	for _, path := range []string{streamPath, snapshotPath, "/raft/call", "/", ""} {
		add(path, 0, "1")
		for change := range good {
			for _, to := range []string{"", "0", "ffffffffffffffff", "18446744073709551615", "-1", "é\x00"} {
				add(path, change, to)
			}
		}
	}
	m := newMember(1, func(c *Config) {
		c.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") }
	})
	m.standing[4] = Removed
	m.HandleCall("/raft/call", func(_ context.Context, _ uint64, in []byte) (int, []byte) { return http.StatusOK, in })
	handler := m.Handler()
	f.Cleanup(func() { m.Close() })
	f.Fuzz(func(t *testing.T, path, protocol, cluster, from, to, incarnation, known, address, name string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.URL.Path = path
		for header, value := range map[string]string{
			headerProtocol: protocol, headerCluster: cluster, headerFrom: from, headerTo: to, headerIncarnation: incarnation,
			headerKnown: known, headerAddress: address, headerName: name, "Upgrade": upgradeTo,
		} {
			r.Header.Set(header, value)
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, r)
		reason := recorder.Header().Get(headerRefused)
		switch {
		case recorder.Code == http.StatusNotFound && reason == "":
		case recorder.Code == http.StatusOK && path == "/raft/call" && reason == "":
			if protocol != "1" || !bytes.Equal(recorder.Body.Bytes(), body) {
				t.Fatalf("answered %q with %q", body, recorder.Body)
			}
		case reason == "" || recorder.Code != refusalStatus[reason]:
			t.Fatalf("status %d, refused as %q", recorder.Code, reason)
		}
		if id, err := parseID(from); err == nil {
			m.RemovePeer(id)
		}
	})
}

// FuzzAnswer is a peer that answers arbitrary bytes to a request: they are no answer, or a refusal, or one in its name.
func FuzzAnswer(f *testing.F) {
	identity := newMember(2)
	f.Cleanup(func() { identity.Close() })
	head := func(status int, more ...string) []byte {
		h := http.Header{}
		identity.introduce(h, 1)
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		var b bytes.Buffer
		answer := &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: io.NopCloser(bytes.NewReader([]byte(`{"reason":"x","detail":"y"}`)))}
		if err := answer.Write(&b); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(head(http.StatusOK))
	f.Add(head(http.StatusSwitchingProtocols, "Connection", "Upgrade", "Upgrade", upgradeTo))
	f.Add(head(http.StatusOK, headerIncarnation, "x"))
	f.Add(head(http.StatusOK, headerCluster, "7"))
	for reason, status := range refusalStatus {
		f.Add(head(status, headerRefused, reason))
		f.Add(head(status, headerRefused, reason, headerFrom, "9"))
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"))
	f.Add(slices.Concat([]byte("HTTP/1.1 200 OK\r\nX: "), bytes.Repeat([]byte("x"), maxAnswerHeader)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMember(1, func(c *Config) {
			c.DialContext = func(context.Context, string, string) (net.Conn, error) {
				return &canned{Reader: bytes.NewReader(b)}, nil
			}
		})
		defer m.Close()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://peer/raft/call", nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := m.open(2, "peer:1", r, time.Minute)
		if err == nil {
			if h := l.answer.Header; h.Get(headerCluster) != formatID(testCluster) || h.Get(headerFrom) != formatID(2) || h.Get(headerRefused) != "" {
				t.Fatalf("taken: %v", h)
			}
			return
		}
		var why *Refusal
		var sent *sentError
		if errors.As(err, &why) && (why.Reason == "" || len(why.Detail) > maxRefusal) || why == nil && !errors.As(err, &sent) {
			t.Fatalf("%T %v", err, err)
		}
	})
}

// FuzzSnapshots is a peer that sends arbitrary bytes where a snapshot should come. What the owner reads to its end is
// what a sender with that length and that sum meant.
func FuzzSnapshots(f *testing.F) {
	for _, state := range []string{"", "a state"} {
		head, err := appendMessage(nil, snapshotMessage(2, 1, 5))
		if err != nil {
			f.Fatal(err)
		}
		c := &canned{}
		if err := (&stateWriter{w: c, sum: sha256.New()}).send(head, writeState(state)); err != nil {
			f.Fatal(err)
		}
		f.Add(c.written.Bytes(), []byte(state))
		f.Add(c.written.Bytes()[:c.written.Len()-1], []byte(state))
		f.Add(c.written.Bytes()[:len(head)], []byte(state))
	}
	wrong, err := appendMessage(nil, heartbeat(2, 1, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wrong, []byte(nil))
	m := newMember(1, func(c *Config) { c.KeepAlive = time.Hour })
	f.Cleanup(func() { m.Close() })
	f.Fuzz(func(t *testing.T, b, piece []byte) {
		for _, given := range [][]byte{b, appendFrame(nil, b), appendFrame(bytes.Clone(b), piece)} {
			var stored []byte
			var message *raftpb.Message
			m.store = func(msg *raftpb.Message, r io.Reader) (err error) {
				message = msg
				stored, err = io.ReadAll(r)
				return err
			}
			size, err := m.receiveSnapshot(&timedConn{Conn: &canned{Reader: bytes.NewReader(given)}, idle: time.Minute}, 2)
			if err != nil {
				continue
			}
			if message.GetTo() != 1 || message.GetFrom() != 2 || size != uint64(len(stored)) {
				t.Fatalf("%v with %d bytes of %d", message, len(stored), size)
			}
			head, headErr := appendMessage(nil, message)
			again := &canned{}
			if err := errors.Join(headErr, (&stateWriter{w: again, sum: sha256.New()}).send(head, writeState(string(stored)))); err != nil {
				t.Fatal(err)
			}
			if trailer := again.written.Bytes()[again.written.Len()-trailerSize:]; !bytes.Contains(given, trailer) {
				t.Fatalf("took %q, whose sum is not in what was sent", stored)
			}
		}
	})
}
