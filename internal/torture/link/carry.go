package link

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	frameHeader = 8        // bytes: the length of what follows, and its checksum
	maxFrame    = 64 << 20 // bytes; more is not a frame of ours
	maxQueued   = 1024     // frames on their way; past it the sender waits
	chunk       = 32 << 10
)

// errBroken ends a connection in the middle of a frame.
var errBroken = errors.New("the connection was broken on purpose")

// late is bytes and when they come.
type late struct {
	bytes []byte
	at    time.Time
	last  bool // the connection breaks behind them
}

// carry passes one connection on until it ends at either side.
func (p *Proxy) carry(client net.Conn, l net.Listener, down <-chan struct{}) {
	in := bufio.NewReaderSize(client, chunk)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	sender := request.Header.Get("Raft3d-Name")
	framed := strings.HasPrefix(request.Header.Get("Upgrade"), "raft3d-raft/")
	stream := strings.HasSuffix(request.URL.Path, "/stream")

	ended := make(chan struct{})
	var once sync.Once
	var node net.Conn
	end := func() {
		once.Do(func() {
			close(ended)
			client.Close()
			if node != nil {
				node.Close()
			}
		})
	}
	defer end()
	if _, ok := p.await(sender, down); !ok {
		return
	}
	if node, err = net.Dial("tcp", p.node); err != nil {
		return
	}
	if !p.keep(node, l) {
		return
	}
	defer p.drop(node)
	var head bytes.Buffer
	request.Host = p.address
	if err := request.Write(&head); err != nil { // with its body, where it has one
		return
	}
	if _, err := head.WriteTo(node); err != nil {
		return
	}

	queue := make(chan late, maxQueued)
	var parts sync.WaitGroup
	parts.Go(func() { // who waits for the end of a cut hears of nothing else
		defer end()
		select {
		case <-down:
		case <-ended:
		}
	})
	parts.Go(func() {
		defer end()
		p.back(client, node, sender, ended)
	})
	parts.Go(func() {
		defer end()
		p.deliver(node, queue, sender, ended)
	})
	p.forward(in, queue, sender, framed, stream, ended)
	close(queue)
	parts.Wait()
}

// forward takes what the sender writes, decides what becomes of it, and queues it.
func (p *Proxy) forward(in *bufio.Reader, queue chan<- late, sender string, framed, stream bool, ended <-chan struct{}) {
	arrives := time.Now()
	for {
		var piece []byte
		var err error
		if framed {
			piece, err = readFrame(in)
		} else {
			piece = make([]byte, chunk)
			var n int
			n, err = in.Read(piece)
			piece = piece[:n]
		}
		if len(piece) > 0 {
			f, _ := p.faultsOf(sender)
			next := late{bytes: piece}
			copies := 1
			if framed {
				copies, err = p.mistreat(&next, f, stream)
			}
			at := time.Now().Add(f.Delay)
			if f.Jitter > 0 {
				at = at.Add(rand.N(f.Jitter))
			}
			if at.After(arrives) {
				arrives = at
			}
			if f.BytesPerSecond > 0 {
				arrives = arrives.Add(time.Duration(len(piece)) * time.Second / time.Duration(f.BytesPerSecond))
			}
			next.at = arrives
			for range copies {
				select {
				case queue <- next:
				case <-ended:
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// mistreat decides what becomes of a frame and how many times it is sent.
func (p *Proxy) mistreat(l *late, f Faults, stream bool) (copies int, err error) {
	p.frames.Add(1)
	switch {
	case chance(f.Break):
		p.broken.Add(1)
		l.bytes, l.last = l.bytes[:rand.IntN(len(l.bytes))], true
		return 1, errBroken
	case chance(f.Flip):
		p.flipped.Add(1)
		l.bytes[rand.IntN(len(l.bytes))] ^= 1 << rand.IntN(8)
	case stream && chance(f.Lose):
		p.lost.Add(1)
		return 0, nil
	case stream && chance(f.Double):
		p.doubled.Add(1)
		return 2, nil
	}
	return 1, nil
}

// readFrame reads one whole frame with its header.
func readFrame(in *bufio.Reader) ([]byte, error) {
	header, err := in.Peek(frameHeader)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header)
	if length > maxFrame {
		return nil, errors.New("no frame")
	}
	frame := make([]byte, frameHeader+int(length))
	n, err := io.ReadFull(in, frame)
	return frame[:n], err
}

// deliver writes what is queued when its time has come.
func (p *Proxy) deliver(node net.Conn, queue <-chan late, sender string, ended <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := range queue {
		timer.Reset(time.Until(next.at))
		select {
		case <-timer.C:
		case <-ended:
			return
		}
		if _, ok := p.await(sender, ended); !ok {
			return
		}
		if _, err := node.Write(next.bytes); err != nil || next.last {
			return
		}
	}
	// The sender has nothing more to say; what it is answered still comes.
	if half, ok := node.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	<-ended
}

// back passes on what the node answers.
func (p *Proxy) back(client, node net.Conn, sender string, ended <-chan struct{}) {
	buf := make([]byte, chunk)
	for {
		n, err := node.Read(buf)
		if n > 0 {
			if _, ok := p.await(sender, ended); !ok {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
