package link

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far is a node behind a Proxy that answers an upgrade and shows what comes then.
type far struct {
	proxy *Proxy
	came  chan []byte // a frame; closed when a connection ends
}

func newFar(t *testing.T) *far {
	t.Helper()
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l, front := listen(), listen()
	front.Close() // the Proxy listens there
	f := &far{New(front.Addr().String(), l.Addr().String()), make(chan []byte, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		defer close(f.came)
		in := bufio.NewReader(c)
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n"); err != nil {
			return
		}
		for {
			frame, err := readFrame(in)
			if len(frame) > 0 {
				f.came <- frame
			}
			if err != nil {
				return
			}
		}
	}()
	if err := f.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		f.proxy.Down()
		<-ended
	})
	return f
}

// connect opens a stream as the node near does.
func (f *far) connect(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.proxy.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /raft/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: raft3d-raft/1\r\nRaft3d-Name: near\r\n\r\n")
	return c
}

func answered(t *testing.T, c net.Conn) {
	t.Helper()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "HTTP/1.1 101 Switching Protocols\r\n" {
		t.Fatalf("the answer begins with %q, %v", line, err)
	}
}

func frame(payload string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), []byte("sum!"+payload)...)
}

func write(t *testing.T, c net.Conn, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAGoodNetworkPassesEverythingOn(t *testing.T) {
	f := newFar(t)
	c := f.connect(t)
	answered(t, c)
	write(t, c, frame("one"), frame(""), frame("three"))
	for _, want := range []string{"one", "", "three"} {
		if got := <-f.came; !bytes.Equal(got, frame(want)) {
			t.Errorf("%q came, want %q", got, want)
		}
	}
}

func TestFaultsAreThoseOfTheSenderAndHitWholeFrames(t *testing.T) {
	for name, c := range map[string]struct {
		faults Faults
		sender string
		want   int // frames of three
		counts func(Counts) int64
	}{
		"lost":       {Faults{Lose: 1}, "near", 0, func(c Counts) int64 { return c.Lost }},
		"doubled":    {Faults{Double: 1}, "near", 6, func(c Counts) int64 { return c.Doubled }},
		"of another": {Faults{Lose: 1}, "other", 3, func(c Counts) int64 { return c.Frames }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.proxy.Set(c.sender, c.faults)
			conn := f.connect(t)
			answered(t, conn)
			write(t, conn, frame("a"), frame("b"), frame("c"))
			conn.(*net.TCPConn).CloseWrite()
			came := 0
			for got := range f.came {
				if len(got) != len(frame("a")) {
					t.Errorf("half a frame came: %q", got)
				}
				came++
			}
			if came != c.want || c.counts(f.proxy.Counts()) != 3 {
				t.Errorf("%d frames came, want %d; %+v", came, c.want, f.proxy.Counts())
			}
		})
	}
}

func TestAFlippedFrameDiffersInOneBitAndABrokenOneEndsTheConnection(t *testing.T) {
	f := newFar(t)
	f.proxy.Set("near", Faults{Break: 1})
	c := f.connect(t)
	answered(t, c)
	write(t, c, frame("payload"))
	for got := range f.came {
		if len(got) >= len(frame("payload")) {
			t.Errorf("%q came whole", got)
		}
	}
	if _, err := c.Read(make([]byte, 1000)); err == nil {
		_, err = io.Copy(io.Discard, c)
		if err != nil && !isReset(err) {
			t.Error(err)
		}
	}

	p := New("", "")
	l := late{bytes: frame("payload")}
	if copies, err := p.mistreat(&l, Faults{Flip: 1}, true); copies != 1 || err != nil {
		t.Errorf("%d copies, %v", copies, err)
	}
	different := 0
	for i, b := range frame("payload") {
		for x := b ^ l.bytes[i]; x != 0; x &= x - 1 {
			different++
		}
	}
	if different != 1 {
		t.Errorf("%d bits are different", different)
	}
}

func isReset(err error) bool {
	_, ok := err.(*net.OpError)
	return ok
}

func TestACutLinkHoldsEverythingBackUntilItIsHealed(t *testing.T) {
	f := newFar(t)
	f.proxy.Set("near", Faults{Cut: true})
	c := f.connect(t)
	write(t, c, frame("late"))
	for f.proxy.Counts().HeldUp == 0 { // it has met the cut
		runtime.Gosched()
	}
	f.proxy.Set("near", Faults{})
	if got := <-f.came; !bytes.Equal(got, frame("late")) {
		t.Errorf("%q came", got)
	}
}

func TestAProxyGoesDownAlthoughALinkIsCutOnWhichAnAnswerWaits(t *testing.T) {
	f := newFar(t)
	c := f.connect(t)
	answered(t, c)
	f.proxy.Set("near", Faults{Cut: true})
	write(t, c, frame("never"))
	c.Close()
	for f.proxy.Counts().HeldUp == 0 {
		runtime.Gosched()
	}
	f.proxy.Down()
	if _, more := <-f.came; more {
		t.Error("a frame passed")
	}
}

func TestWhileAProxyIsDownDiallingItIsRefused(t *testing.T) {
	f := newFar(t)
	c := f.connect(t)
	answered(t, c)
	f.proxy.Down()
	if _, err := io.Copy(io.Discard, c); err != nil && !isReset(err) {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.proxy.address); err == nil {
		t.Error("it takes connections")
	}
	if err := f.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	f.connect(t)
}
