package httpapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"raft3d/farm"
)

// Server-sent events. A stream that waits holds no View, no buffer and no timer of its own but one: thousands cost
// their goroutines and sockets. All are woken by the one broadcast behind Farm.Wait, and each reads for itself: the
// system call that sends a part costs more than the View that it is read in.
//
// Each event is a message with the revision as its id and the event as its data, in one line; it has no event field,
// so that a browser hands all of them to onmessage. A stream whose filter passes over changes sends an id without data
// with its heartbeat: the client's place moves on, and history that was trimmed meanwhile is not missed.

const (
	heartbeat       = 15 * time.Second
	drainLimit      = 2 * time.Second // for the last part to be taken when the node shuts down
	reconnectMin    = 500             // ms, that a client should wait
	reconnectSpread = 1000            // ms, so that the streams of a node that ends do not all come at once
)

// enterStream counts a stream instead of a call, or refuses it.
func (s *Server) enterStream() (leave func(), err error) {
	if s.streams.Add(1) > s.maxStreams {
		s.streams.Add(-1)
		return nil, &farm.Error{Kind: farm.Overloaded, Detail: fmt.Sprintf("this node already feeds %d streams; ask another one", s.maxStreams)}
	}
	s.inFlight.Add(-1) // a call that lasts for weeks takes no other's place
	return func() {
		s.inFlight.Add(1)
		s.streams.Add(-1)
	}, nil
}

// follow sends what there is and then what comes, until the client leaves or this node shuts down.
func (f *feed) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hurried := make(chan struct{})
	stop := context.AfterFunc(f.server.drained, func() {
		defer close(hurried)
		cancel()
		f.w.limit(drainLimit)
	})
	defer func() {
		if !stop() {
			<-hurried
		}
	}()

	f.part = append(reconnect(nil), f.part...)
	for {
		switch err := f.send(); {
		case err != nil:
			return err
		case f.server.draining():
			return f.leave()
		case f.more:
		default:
			if err := f.wait(ctx); err != nil {
				return err
			}
		}
		switch err := f.next(ctx); {
		case err == nil, f.server.draining():
		case ctx.Err() != nil:
			return errGone
		default:
			return err
		}
	}
}

// wait returns when there is something to read, or this node shuts down.
func (f *feed) wait(ctx context.Context) error {
	f.returnBuffer()
	defer f.takeBuffer()
	for {
		beat, cancel := context.WithTimeout(ctx, heartbeat)
		err := f.server.farm.Wait(beat, f.query.Since)
		due := beat.Err() != nil
		cancel()
		switch {
		case f.server.draining():
			return nil
		case ctx.Err() != nil:
			return errGone
		case err == nil:
			return nil
		case !due:
			return err
		}
		f.part = append(f.part, ": still here\n"...)
		if f.query.Since > f.named {
			f.named = f.query.Since
			f.part = fmt.Appendf(f.part, "id: %d\n", f.named)
		}
		f.part = append(f.part, '\n')
		if err := f.send(); err != nil {
			return err
		}
	}
}

// leave ends the stream so that the client knows that it should come again, to whichever node.
func (f *feed) leave() error {
	f.part = reconnect(append(f.part[:0], ": this node is shutting down\n"...))
	return f.send()
}

// reconnect adds how long to wait before connecting again.
func reconnect(b []byte) []byte {
	return fmt.Appendf(b, "retry: %d\n\n", reconnectMin+rand.IntN(reconnectSpread))
}

// eventMessage is an event as a server-sent one.
func eventMessage(b []byte, revision uint64, event []byte) []byte {
	b = strconv.AppendUint(append(b, "id: "...), revision, 10)
	b = append(b, "\ndata: "...)
	return append(eventLine(b, revision, event), '\n')
}
