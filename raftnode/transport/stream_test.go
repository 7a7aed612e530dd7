package transport

import (
	"bufio"
	"bytes"
	"io"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

func TestMessagesArriveInTheirOrder(t *testing.T) {
	all := group(t, 3)
	all[0].connected(t, 2)
	all[0].connected(t, 3)
	const n = 5000
	for i := uint64(0); i < n; i += 100 {
		var batch []*raftpb.Message
		for j := i; j < i+100; j++ {
			batch = append(batch, appendOf(1, 2, j, 100), heartbeat(1, 3, j))
		}
		all[0].Send(batch)
		// A burst may be larger than the queue: that is another test.
		eventually(t, func() bool { return all[0].peer(2).Queued < 1000 && all[0].peer(3).Queued < 1000 }, "queue is short")
	}
	for _, m := range all[1:] {
		eventually(t, func() bool { return len(m.messages()) == n }, "all messages are at member %d", m.id)
	}
	for i, m := range all[1].messages() {
		if m.GetIndex() != uint64(i) || len(m.GetEntries()) != 1 || len(m.GetEntries()[0].GetData()) != 100 {
			t.Fatalf("message %d is %v", i, m)
		}
	}
	for i, m := range all[2].messages() {
		if m.GetCommit() != uint64(i) {
			t.Fatalf("message %d is %v", i, m)
		}
	}
	s := all[0].peer(2)
	if s.Sent != n || s.Dropped != 0 || s.Name != "node2" || s.Version != "v-test" || s.Addr != all[1].addr {
		t.Fatalf("status of the receiver is %+v", s)
	}
	if s := all[1].peer(1); s.Received != n || s.Invalid != 0 || s.LastReceived.IsZero() || s.Name != "node1" || s.Incarnation != 1 {
		t.Fatalf("status of the sender is %+v", s)
	}
}

func TestALargeMessageArrivesWhole(t *testing.T) {
	all := group(t, 2)
	all[0].connected(t, 2)
	all[0].Send([]*raftpb.Message{appendOf(1, 2, 7, 20<<20)})
	eventually(t, func() bool { return len(all[1].messages()) == 1 }, "the message is there")
	if got := len(all[1].messages()[0].GetEntries()[0].GetData()); got != 20<<20 {
		t.Fatalf("it has %d bytes", got)
	}
}

func TestAMessageOverTheLimitIsDroppedAndReported(t *testing.T) {
	all := group(t, 2)
	all[0].connected(t, 2)
	all[0].Send([]*raftpb.Message{appendOf(1, 2, 0, MaxMessage), heartbeat(1, 2, 1)})
	eventually(t, func() bool { return len(all[1].messages()) == 1 }, "the next message is there")
	eventually(t, func() bool { return all[0].counted(all[0].unreachable, 2) == 1 }, "the loss is reported")
	if s := all[0].peer(2); s.Dropped != 1 || !s.Connected {
		t.Fatalf("status is %+v", s)
	}
}

// What a message points to belongs to raft's log, which goes on.
func TestSendDoesNotKeepTheMessage(t *testing.T) {
	all := group(t, 2)
	m := appendOf(1, 2, 0, 10)
	all[0].Send([]*raftpb.Message{m})
	copy(m.Entries[0].Data, "overwritten")
	eventually(t, func() bool { return len(all[1].messages()) == 1 }, "the message is there")
	if got := all[1].messages()[0].GetEntries()[0].GetData(); !bytes.Equal(got, make([]byte, 10)) {
		t.Fatalf("it has %q", got)
	}
}

func TestAPeerThatNeverReadsDoesNotBlockSendAndHeartbeatsPassWhenItDoes(t *testing.T) {
	const limit = 100
	a := startMember(t, 1, func(c *Config) { c.QueueMessages, c.IdleTimeout = limit, time.Minute })
	p := startPuppet(t, 2)
	a.SetPeer(2, p.addr)
	conn := p.next(t)

	sent := uint64(0)
	for a.peer(2).Dropped < 1000 { // that this ends is the proof: what no buffer takes is dropped
		a.Send([]*raftpb.Message{appendOf(1, 2, sent, 1<<20)})
		sent++
		if sent > 5000 {
			t.Fatalf("nothing was dropped: %+v", a.peer(2))
		}
	}
	waiting := a.peer(2).Queued
	a.Send([]*raftpb.Message{heartbeat(1, 2, 42)})
	eventually(t, func() bool { return a.counted(a.unreachable, 2) > 0 }, "the loss is reported")
	if n := a.counted(a.unreachable, 2); n != 1 {
		t.Fatalf("one burst was reported %d times", n)
	}

	frames := frameReader{r: bufio.NewReader(conn)}
	next := func() *raftpb.Message {
		payload, err := frames.next(MaxMessage)
		if err != nil {
			t.Fatal(err)
		}
		m, err := decodeMessage(payload)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for next().GetType() != raftpb.MsgHeartbeat { // what the kernel and one write had
	}
	for range waiting - 1 { // the writer may have begun with one of them
		if m := next(); m.GetType() != raftpb.MsgApp {
			t.Fatalf("got %v", m)
		}
	}
}

func TestADeadPeerIsReportedAndFoundAgain(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	a.connected(t, 2)
	b.stop()
	eventually(t, func() bool { return a.counted(a.down, 2) == 1 }, "the death is reported: %s", a.log)
	if n := a.counted(a.unreachable, 2); n == 0 {
		t.Fatal("the lost connection is not reported")
	}
	a.Send([]*raftpb.Message{heartbeat(1, 2, 1)})
	eventually(t, func() bool { return a.peer(2).Queued == 0 }, "what cannot be sent is dropped")
	eventually(t, func() bool { return a.peer(2).Dropped == 1 }, "the drop is counted")

	again := startMember(t, 2, func(c *Config) { c.Incarnation = 2 })
	a.SetPeer(2, again.addr)
	a.connected(t, 2)
	a.Send([]*raftpb.Message{heartbeat(1, 2, 2)})
	eventually(t, func() bool { return len(again.messages()) == 1 }, "messages flow again")
	if n := a.counted(a.down, 2); n != 1 {
		t.Fatalf("one death is reported %d times", n)
	}
}

// A service manager may have started it again before anybody dials: no dial is refused then.
func TestAPeerThatIsThereAgainAtOnceHasDied(t *testing.T) {
	all := group(t, 2)
	a := all[0]
	a.connected(t, 2)
	again := startMember(t, 2, func(c *Config) { c.Incarnation = 2 })
	again.SetPeer(1, a.addr)
	again.connected(t, 1)
	eventually(t, func() bool { return a.counted(a.down, 2) == 1 }, "the death is reported: %s", a.log)
	a.SetPeer(2, again.addr)
	eventually(t, func() bool { return a.peer(2).Connected && a.peer(2).Addr == again.addr }, "it is dialled")
	if n := a.counted(a.down, 2); n != 1 {
		t.Fatalf("one death is reported %d times", n)
	}
}

func TestAPeerThatWasNeverThereIsNotReportedAsDown(t *testing.T) {
	b := startMember(t, 2)
	b.stop()
	a := startMember(t, 1)
	a.SetPeer(2, b.addr)
	for i := range uint64(3) { // three attempts, each of which loses something
		a.Send([]*raftpb.Message{heartbeat(1, 2, i)})
		eventually(t, func() bool { return a.counted(a.unreachable, 2) > int(i) }, "loss %d is reported", i)
	}
	if n := a.counted(a.down, 2); n != 0 {
		t.Fatalf("reported as down %d times", n)
	}
}

func TestAPeerThatComesUpIsDialledAtOnce(t *testing.T) {
	b := startMember(t, 2)
	a := startMember(t, 1, func(c *Config) { c.RedialPause, c.RedialPauseMax = time.Hour, time.Hour })
	b.setStanding(1, Unknown)
	a.SetPeer(2, b.addr)
	eventually(t, func() bool { return a.refusedFor(reasonUnknown) }, "the first attempt fails")
	b.setStanding(1, Known)
	b.SetPeer(1, a.addr)
	a.connected(t, 2)
}

// A joiner has no state yet that says where the member is that brings it, and must answer it.
func TestAMemberSaysWhereItIsReached(t *testing.T) {
	a, b := startMember(t, 1), startMember(t, 2)
	b.cfg.Address = b.addr
	b.SetPeer(1, a.addr)
	a.connected(t, 2)
	b.stop()
	moved := startMember(t, 2)
	moved.cfg.Address = moved.addr
	moved.SetPeer(1, a.addr)
	eventually(t, func() bool { s := a.peer(2); return s.Connected && s.Addr == moved.addr }, "the new address is dialled: %s", a.log)
}

func TestAMessageForAStrangerIsReported(t *testing.T) {
	a := startMember(t, 1)
	a.Send([]*raftpb.Message{heartbeat(1, 9, 1)})
	eventually(t, func() bool { return a.counted(a.unreachable, 9) == 1 }, "the loss is reported")
}

func TestARemovedPeerStillGetsWhatWasQueued(t *testing.T) {
	all := group(t, 2)
	a, b := all[0], all[1]
	a.connected(t, 2)
	for i := range uint64(1000) {
		a.Send([]*raftpb.Message{appendOf(1, 2, i, 1000)})
	}
	a.setStanding(2, Removed)
	a.RemovePeer(2)
	eventually(t, func() bool { return len(b.messages()) == 1000 }, "all is there")
	if len(a.Peers()) != 0 {
		t.Fatalf("peers are %+v", a.Peers())
	}
}

func TestANewerStreamReplacesTheOlder(t *testing.T) {
	a, b := startMember(t, 1), startMember(t, 2)
	older, newer := rawStream(t, b, a), rawStream(t, b, a)
	if _, err := io.Copy(io.Discard, older.r); err != nil {
		t.Fatalf("the older stream ended in %v", err)
	}
	frame, err := appendMessage(nil, heartbeat(2, 1, 5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newer.conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(a.messages()) == 1 }, "the newer stream is read")
}

func TestADamagedFrameEndsItsStreamOnly(t *testing.T) {
	good, err := appendMessage(nil, heartbeat(2, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, bytes := range map[string][]byte{
		"checksum":        flipped,
		"length":          {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"zeros":           make([]byte, 64),
		"not even frames": []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := startMember(t, 1), startMember(t, 2)
			a.SetPeer(2, b.addr)
			l := rawStream(t, b, a)
			if _, err := l.conn.Write(append(append([]byte(nil), good...), bytes...)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, l.r) // ends when the stream does, in whatever way
			eventually(t, func() bool { return a.peer(2).Invalid == 1 }, "the error is counted")
			if got := a.messages(); len(got) != 1 {
				t.Fatalf("received %v", got)
			}
			b.SetPeer(1, a.addr)
			b.connected(t, 1)
		})
	}
}

func TestAnInvalidMessageIsDroppedAndTheNextOneIsNot(t *testing.T) {
	a, b := startMember(t, 1), startMember(t, 2)
	l := rawStream(t, b, a)
	var frames []byte
	for _, m := range []*raftpb.Message{
		heartbeat(2, 7, 1), // for another
		heartbeat(3, 1, 1), // from another
		{Type: raftpb.MsgHup.Enum(), From: new(uint64(2)), To: new(uint64(1))},
		snapshotMessage(2, 1, 5),
		heartbeat(2, 1, 99),
	} {
		var err error
		if frames, err = appendMessage(frames, m); err != nil {
			t.Fatal(err)
		}
	}
	frames = appendFrame(frames, []byte{0xff, 0xff}) // no protobuf
	if _, err := l.conn.Write(frames); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return a.peer(2).Invalid == 5 }, "all are counted")
	if got := a.messages(); len(got) != 1 || got[0].GetCommit() != 99 {
		t.Fatalf("received %v", got)
	}
}
