// Package link stands between the nodes of a cluster as a bad network does.
//
// There are two nouns: a Proxy, which is where the others reach one node, and Faults, which are what it does to what
// one of them sends there. A node tells its name in the first lines of each connection; so a Proxy knows whose it is, and
// each direction between two nodes has faults of its own.
//
// On a stream of raft messages and on a snapshot, frames are known as such: whole ones are lost or doubled (of streams
// only), or come with one bit flipped; or the connection breaks in the middle of one. Whatever else goes over the peers'
// port is late, slow, or does not come.
//
// A Proxy owns a goroutine that accepts and four for each connection; Down ends all of them and returns when they have
// ended. Its methods may be called by any goroutine.
package link

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Faults are what happens to what one node sends to another. The zero value is a good network.
type Faults struct {
	Delay, Jitter  time.Duration // until a frame comes; one of several keeps its place
	BytesPerSecond int           // 0: as fast as it goes

	// Of each frame, from 0 to 1.
	Lose, Double, Flip, Break float64

	Cut bool // nothing comes while it is set, in neither direction of a connection; then all of it
}

// Counts are how often something happened, of all connections so far.
type Counts struct{ Connections, Frames, Lost, Doubled, Flipped, Broken, HeldUp int64 }

// Proxy is where one node is reached by the others.
type Proxy struct {
	address, node string // host:port of both

	mu       sync.Mutex
	listener net.Listener      // guarded by mu; nil: down
	down     chan struct{}     // guarded by mu; closed by Down
	faults   map[string]Faults // guarded by mu; by the name of the sender
	changed  chan struct{}     // guarded by mu; closed when faults change
	open     map[net.Conn]bool // guarded by mu
	running  sync.WaitGroup

	connections, frames, lost, doubled, flipped, broken, heldUp atomic.Int64
}

// New makes a Proxy that is down.
func New(address, node string) *Proxy {
	return &Proxy{address: address, node: node, faults: map[string]Faults{}, changed: make(chan struct{}), open: map[net.Conn]bool{}}
}

// Up begins to accept connections.
func (p *Proxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen in front of %s: %w", p.node, err)
	}
	down := make(chan struct{})
	p.listener, p.down = l, down
	p.running.Go(func() { p.accept(l, down) })
	return nil
}

// Down breaks all connections. Those who dial are refused, as they are by a machine whose process is dead.
func (p *Proxy) Down() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
		close(p.down)
	}
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// Set replaces the faults of what the node with that name sends.
func (p *Proxy) Set(sender string, f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults[sender] == f {
		return
	}
	p.faults[sender] = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// Counts is what happened so far.
func (p *Proxy) Counts() Counts {
	return Counts{p.connections.Load(), p.frames.Load(), p.lost.Load(), p.doubled.Load(), p.flipped.Load(), p.broken.Load(), p.heldUp.Load()}
}

func (p *Proxy) faultsOf(sender string) (f Faults, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[sender], p.changed
}

// keep has Down close c; false: it is too late.
func (p *Proxy) keep(c net.Conn, of net.Listener) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != of {
		c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Proxy) accept(l net.Listener, down <-chan struct{}) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !p.keep(c, l) {
			return
		}
		p.connections.Add(1)
		p.running.Go(func() {
			defer p.drop(c)
			p.carry(c, l, down)
		})
	}
}

// await returns the faults of the sender once its link is not cut; false: the connection has ended meanwhile.
func (p *Proxy) await(sender string, ended <-chan struct{}) (Faults, bool) {
	held := false
	for {
		f, changed := p.faultsOf(sender)
		if !f.Cut {
			return f, true
		}
		if !held {
			held = true
			p.heldUp.Add(1)
		}
		select {
		case <-changed:
		case <-ended:
			return f, false
		}
	}
}

func chance(of float64) bool { return of > 0 && rand.Float64() < of }
