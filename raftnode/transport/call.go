package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxCallBody = 1 << 20 // bytes, each way
	maxCalls    = 64      // answered at the same time; past it: refused as busy
	callTimeout = time.Minute
)

// CallFunc answers a peer's Call. ctx ends when the peer hangs up or the transport closes. out is at most 1 MiB.
type CallFunc func(ctx context.Context, from uint64, in []byte) (status int, out []byte)

// CallError is why a Call has no answer.
type CallError struct {
	Sent bool // the peer may have acted on the request; false: it certainly has not
	Err  error
}

func (e *CallError) Error() string {
	if e.Sent {
		return "no answer from peer: " + e.Err.Error()
	}
	return "peer not asked: " + e.Err.Error()
}

func (e *CallError) Unwrap() error { return e.Err }

// HandleCall has fn answer the peers' calls to path, which must not begin like one of the transport's own. Call it before
// the Handler serves.
func (t *Transport) HandleCall(path string, fn CallFunc) {
	if path == streamPath || path == snapshotPath {
		panic("transport: " + path + " is the transport's own path")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls[path] = fn
}

// Call sends one request of at most 1 MiB to a peer, and returns what its CallFunc for path made of it. It waits for ctx,
// and at most a minute. Errors are *CallError; one that wraps a *Refusal was not sent as far as the peer's CallFunc is concerned.
func (t *Transport) Call(ctx context.Context, id uint64, path string, in []byte) (status int, out []byte, err error) {
	if !t.enter() {
		return 0, nil, &CallError{Err: errClosed}
	}
	defer t.wg.Done()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	if len(in) > maxCallBody {
		return 0, nil, &CallError{Err: fmt.Errorf("%d bytes are over the limit of %d", len(in), maxCallBody)}
	}
	addr, ok := t.addr(id)
	if !ok {
		return 0, nil, &CallError{Err: fmt.Errorf("no address of member %016x", id)}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, bytes.NewReader(in))
	if err != nil {
		return 0, nil, &CallError{Err: err}
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Close = true
	l, err := t.open(id, addr, r, callTimeout)
	if err != nil {
		var why *Refusal
		if errors.As(err, &why) {
			t.tellRefusal(id, why)
		}
		var sent *sentError
		return 0, nil, &CallError{Sent: errors.As(err, &sent), Err: err}
	}
	defer l.conn.Close()
	stopRead := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer stopRead()
	out, err = io.ReadAll(io.LimitReader(l.answer.Body, maxCallBody+1))
	if err == nil && len(out) > maxCallBody {
		err = fmt.Errorf("answer is over the limit of %d bytes", maxCallBody)
	}
	if err != nil {
		return 0, nil, &CallError{Sent: true, Err: errors.Join(ctx.Err(), err)}
	}
	return l.answer.StatusCode, out, nil
}

func (t *Transport) addr(id uint64) (addr string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.remotes[id]
	if r == nil || r.out == nil {
		return "", false
	}
	r.out.mu.Lock()
	defer r.out.mu.Unlock()
	return r.out.addr, true
}

func (t *Transport) serveCall(w http.ResponseWriter, r *http.Request, from uint64, fn CallFunc) error {
	select {
	case t.calling <- struct{}{}:
		defer func() { <-t.calling }()
	default:
		return &Refusal{reasonBusy, fmt.Sprintf("%d calls are being answered", maxCalls)}
	}
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallBody))
	if err != nil {
		return &Refusal{reasonBadRequest, err.Error()}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(t.ctx, cancel)
	defer stop()
	status, out := fn(ctx, from, in)
	t.introduce(w.Header(), from)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(status)
	_, _ = w.Write(out) // an error means that the peer has hung up
	return nil
}
