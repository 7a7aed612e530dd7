package transport

import (
	"io"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Everything at once, and then Close: the race detector, the leak check and the count of reports are the proof.
func TestCloseInTheMiddleOfEverything(t *testing.T) {
	all := group(t, 3)
	for _, m := range all {
		m.connected(t, m.id%3+1)
	}
	asked := make([]int, len(all)) // snapshots, by member
	var wg sync.WaitGroup
	stop := make(chan struct{})
	do := func(f func(i uint64)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := uint64(1); ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					f(i)
				}
			}
		}()
	}
	state := randomState(100 << 10)
	for n, m := range all {
		next := all[(n+1)%3]
		do(func(i uint64) {
			m.Send([]*raftpb.Message{appendOf(m.id, next.id, i, 1000), heartbeat(m.id, next.id, i)})
		})
		do(func(i uint64) {
			if i%50 == 0 {
				m.RemovePeer(next.id)
			}
			m.SetPeer(next.id, next.addr)
			m.Peers()
		})
		do(func(i uint64) {
			asked[n]++
			m.SendSnapshot(snapshotMessage(m.id, next.id, i), writeState(state))
		})
	}
	eventually(t, func() bool {
		for _, m := range all {
			m.mu.Lock()
			enough := len(m.got) > 200 && len(m.states) > 2
			m.mu.Unlock()
			if !enough {
				return false
			}
		}
		return true
	}, "messages and snapshots flow in spite of it")
	close(stop)
	wg.Wait() // snapshots asked for after Close are not reported
	var closing sync.WaitGroup
	for _, m := range all {
		for range 2 { // Close may be called twice, and at the same time
			closing.Go(func() { m.Close() })
		}
	}
	closing.Wait()
	for n, m := range all {
		if got := len(m.reports()); got != asked[n] {
			t.Errorf("member %d asked for %d snapshots and heard of %d", m.id, asked[n], got)
		}
		if len(m.Peers()) > 0 && m.peer(all[(n+1)%3].id).Connected {
			t.Errorf("member %d is connected after Close: %+v", m.id, m.Peers())
		}
	}
}

func TestCloseWaitsForTheReceiver(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	inside, release := make(chan struct{}), make(chan struct{})
	b.store = func(_ *raftpb.Message, r io.Reader) error {
		close(inside)
		<-release
		_, err := io.Copy(io.Discard, r)
		return err
	}
	a.SendSnapshot(snapshotMessage(1, 2, 1), writeState("state"))
	<-inside
	closed := make(chan struct{})
	go func() {
		b.Close()
		close(closed)
	}()
	eventually(t, func() bool { return !b.enter() || left(b) }, "Close has begun")
	select {
	case <-closed:
		t.Fatal("Close returned while a snapshot was being stored")
	default:
	}
	close(release)
	<-closed
}

// left undoes an enter that came before Close.
func left(m *member) bool {
	m.wg.Done()
	return false
}
