package transport

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// randomState is size bytes that no compression or repetition hides an error in.
func randomState(size int) string {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b) // never fails
	return string(b)
}

func writeState(state string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader(state))
		return err
	}
}

// reported waits until n snapshots were reported, and no more.
func reported(t *testing.T, m *member, n int) []snapshotReport {
	t.Helper()
	eventually(t, func() bool { return len(m.reports()) >= n }, "%d snapshots are reported: %s", n, m.log)
	return m.reports()
}

// sole checks that one snapshot came to this end; stopping the sender shows that no second report follows.
func sole(t *testing.T, m *member, to uint64, ok bool) {
	t.Helper()
	reported(t, m, 1)
	m.stop()
	if got := m.reports(); len(got) != 1 || got[0] != (snapshotReport{to, ok}) {
		t.Fatalf("reports are %v, not one of %v to %d: %s", got, ok, to, m.log)
	}
}

func TestASnapshotArrivesWhole(t *testing.T) {
	for _, size := range []int{0, 1, statePiece, 5<<20 + 17} {
		all := group(t, 2)
		a, b := all[0], all[1]
		state := randomState(size)
		var message *raftpb.Message
		b.store = func(m *raftpb.Message, r io.Reader) error {
			message = m
			got, err := io.ReadAll(r)
			if err == nil && string(got) != state {
				err = errors.New("it is not what was sent")
			}
			return err
		}
		a.SendSnapshot(snapshotMessage(1, 2, 77), writeState(state))
		sole(t, a, 2, true)
		if message.GetSnapshot().GetMetadata().GetIndex() != 77 {
			t.Fatalf("message is %v", message)
		}
	}
}

func TestASnapshotThatTheReceiverCannotStoreFailsWithItsReason(t *testing.T) {
	for name, read := range map[string]int64{"before the state": 0, "in the middle of it": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			all := group(t, 2)
			a, b := all[0], all[1]
			b.store = func(_ *raftpb.Message, r io.Reader) error {
				_, _ = io.CopyN(io.Discard, r, read)
				return errors.New("no space left on device")
			}
			a.SendSnapshot(snapshotMessage(1, 2, 1), writeState(randomState(64<<20)))
			sole(t, a, 2, false)
			if !strings.Contains(a.log.String(), "no space left") {
				t.Fatalf("the sender's log does not say why: %s", a.log)
			}
		})
	}
}

func TestASnapshotThatIsNotReadToItsEndFails(t *testing.T) {
	all := group(t, 2)
	all[1].store = func(_ *raftpb.Message, r io.Reader) error {
		_, err := io.CopyN(io.Discard, r, 3)
		return err
	}
	all[0].SendSnapshot(snapshotMessage(1, 2, 1), writeState("state"))
	sole(t, all[0], 2, false)
}

func TestASnapshotWhoseSourceFailsIsNotTakenForWhole(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	stored := make(chan error, 1)
	b.store = func(_ *raftpb.Message, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		stored <- err
		return err
	}
	a.SendSnapshot(snapshotMessage(1, 2, 1), func(w io.Writer) error {
		_, _ = io.WriteString(w, randomState(200<<10))
		return errors.New("source is broken")
	})
	sole(t, a, 2, false)
	if err := <-stored; err == nil {
		t.Fatal("the receiver took it for whole")
	}
}

func TestASnapshotThatMayNotBeSentIsReportedOnce(t *testing.T) {
	t.Run("unknown peer", func(t *testing.T) {
		a := startMember(t, 1)
		a.SendSnapshot(snapshotMessage(1, 9, 1), writeState(""))
		sole(t, a, 9, false)
	})
	t.Run("nobody listens", func(t *testing.T) {
		all := group(t, 2)
		all[1].stop()
		all[0].SendSnapshot(snapshotMessage(1, 2, 1), writeState(""))
		sole(t, all[0], 2, false)
	})
	t.Run("refused", func(t *testing.T) {
		all := group(t, 2)
		all[1].setStanding(1, Unknown)
		all[0].SendSnapshot(snapshotMessage(1, 2, 1), writeState(""))
		sole(t, all[0], 2, false)
		if !all[0].refusedFor(reasonUnknown) {
			t.Fatal("the owner is not told of the refusal")
		}
	})
	t.Run("invalid message", func(t *testing.T) {
		all := group(t, 2)
		all[0].SendSnapshot(snapshotMessage(1, 2, 0), writeState(""))
		sole(t, all[0], 2, false)
		if len(all[1].states) > 0 {
			t.Fatal("it was stored")
		}
	})
	t.Run("no time left", func(t *testing.T) {
		a := startMember(t, 1)
		a.Close()
		a.SendSnapshot(snapshotMessage(1, 2, 1), writeState("")) // after Close nothing is told
		if got := a.reports(); len(got) > 0 {
			t.Fatalf("reports are %v", got)
		}
	})
}

func TestOneSnapshotAPeerAndAFewInAll(t *testing.T) {
	all := group(t, 4)
	a := all[0]
	release := make(chan struct{})
	started := make(chan struct{}, 4)
	slow := func(io.Writer) error { started <- struct{}{}; <-release; return nil }
	a.SendSnapshot(snapshotMessage(1, 2, 1), slow)
	<-started
	a.SendSnapshot(snapshotMessage(1, 2, 1), slow) // a second to the same peer
	if got := reported(t, a, 1); got[0] != (snapshotReport{2, false}) {
		t.Fatalf("reports are %v", got)
	}
	a.SendSnapshot(snapshotMessage(1, 3, 1), slow)
	<-started
	a.SendSnapshot(snapshotMessage(1, 4, 1), slow) // a third in all
	if got := reported(t, a, 2); got[1] != (snapshotReport{4, false}) {
		t.Fatalf("reports are %v", got)
	}
	close(release)
	reported(t, a, 4)
	a.SendSnapshot(snapshotMessage(1, 4, 1), writeState("")) // there is room again
	reported(t, a, 5)
	a.stop()
	if got := a.reports(); len(got) != 5 || !got[2].ok || !got[3].ok || got[4] != (snapshotReport{4, true}) {
		t.Fatalf("reports are %v", got)
	}
}

func TestRemovingOrClosingBreaksOffASnapshot(t *testing.T) {
	for name, end := range map[string]func(a, b *member){
		"sender removes the peer":   func(a, _ *member) { a.RemovePeer(2) },
		"sender closes":             func(a, _ *member) { a.Close() },
		"receiver closes":           func(_, b *member) { b.Close() },
		"receiver removes the peer": func(_, b *member) { b.setStanding(1, Removed); b.RemovePeer(1) },
	} {
		t.Run(name, func(t *testing.T) {
			all := group(t, 2)
			a, b := all[0], all[1]
			receiving := make(chan struct{})
			b.store = func(_ *raftpb.Message, r io.Reader) error {
				_, err := io.CopyN(io.Discard, r, 1000)
				close(receiving)
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				return err
			}
			a.SendSnapshot(snapshotMessage(1, 2, 1), func(w io.Writer) error {
				piece := make([]byte, 1<<20)
				for { // as long as it is allowed to
					if _, err := w.Write(piece); err != nil {
						return err
					}
				}
			})
			<-receiving
			end(a, b)
			sole(t, a, 2, false)
		})
	}
}

// saboteur is a proxy that does something to the byte at one position of what a client sends, and counts bytes.
type saboteur struct {
	net.Listener
	target string
	at     int64
	cut    bool // closes the connection there; else flips a bit
	wg     sync.WaitGroup
}

func startSaboteur(t *testing.T, target string, at int64, cut bool) *saboteur {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &saboteur{Listener: l, target: target, at: at, cut: cut}
	s.wg.Add(1)
	go s.run()
	t.Cleanup(func() { l.Close(); s.wg.Wait() })
	return s
}

func (s *saboteur) run() {
	defer s.wg.Done()
	for {
		client, err := s.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.target)
		if err != nil {
			client.Close()
			continue
		}
		s.wg.Add(2)
		go func() {
			defer s.wg.Done()
			_, _ = io.CopyN(server, client, s.at)
			b := make([]byte, 1)
			if _, err := client.Read(b); err == nil && !s.cut {
				b[0] ^= 1
				_, _ = server.Write(b)
				_, _ = io.Copy(server, client)
			}
			client.Close()
			server.Close()
		}()
		go func() {
			defer s.wg.Done()
			_, _ = io.Copy(client, server)
			client.Close()
			server.Close()
		}()
	}
}

func TestASnapshotThatIsCutOrDamagedAnywhereIsNeverStored(t *testing.T) {
	state := randomState(300 << 10)
	const head = 2000 // more than the request's headers and the message: from here on, each bit counts
	positions := []int64{0, 10, 500, head, int64(len(state))}
	for range 10 {
		positions = append(positions, head+rand.Int64N(int64(len(state)-head)))
	}
	for _, at := range positions {
		for _, cut := range []bool{true, false} {
			b := startMember(t, 2)
			a := startMember(t, 1)
			proxy := startSaboteur(t, b.addr, at, cut)
			a.SetPeer(2, proxy.Addr().String())
			a.SendSnapshot(snapshotMessage(1, 2, 1), writeState(state))
			got := reported(t, a, 1)
			a.stop()
			b.stop()
			if len(a.reports()) != 1 {
				t.Fatalf("at %d, cut %v: reports are %v", at, cut, a.reports())
			}
			if got[0].ok && (cut || at >= head) {
				t.Fatalf("at %d, cut %v: reported as stored", at, cut)
			}
			if len(b.states) > 0 && b.states[0] != state {
				t.Fatalf("at %d, cut %v: another state was stored", at, cut)
			}
		}
	}
}

// Every frame is good, yet the state is not: its own length and checksum find out.
func TestAStateThatLacksOrRepeatsAPieceIsRefused(t *testing.T) {
	pieces := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	frames := func(sent ...int) []byte {
		var b []byte
		for _, i := range sent {
			b = appendFrame(b, pieces[i])
		}
		sum := sha256.Sum256(bytes.Join(pieces, nil))
		return appendFrame(append(b, emptyFrame...), append(binary.BigEndian.AppendUint64(nil, 11), sum[:]...))
	}
	read := func(b []byte) (string, error) {
		s := &stateReader{frames: frameReader{r: bufio.NewReader(bytes.NewReader(b))}, sum: sha256.New()}
		got, err := io.ReadAll(s)
		return string(got), err
	}
	if got, err := read(frames(0, 1, 2)); err != nil || got != "onetwothree" {
		t.Fatalf("the whole state is read as %q, %v", got, err)
	}
	for _, sent := range [][]int{{0, 2}, {0, 1}, {0, 1, 1, 2}, {1, 0, 2}, {}} {
		if got, err := read(frames(sent...)); err == nil {
			t.Errorf("pieces %v are taken for whole: %q", sent, got)
		}
	}
	whole := frames(0, 1, 2)
	for cut := range whole {
		if got, err := read(whole[:cut]); err == nil {
			t.Errorf("%d of %d bytes are taken for whole: %q", cut, len(whole), got)
		}
	}
}
