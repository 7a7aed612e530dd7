package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

func TestFramesComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payloads := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "payloads")
		var wire []byte
		for _, p := range payloads {
			wire = appendFrame(wire, p)
		}
		f := frameReader{r: bufio.NewReaderSize(bytes.NewReader(wire), 16)}
		for i, want := range payloads {
			got, err := f.next(1 << 20)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("frame %d is %x, %v; want %x", i, got, err, want)
			}
		}
		if _, err := f.next(1 << 20); err != io.EOF {
			t.Fatalf("after the last frame: %v", err)
		}
	})
}

func TestAnyBitThatFlipsInAFrameIsNoticed(t *testing.T) {
	for _, payload := range [][]byte{nil, []byte("payload")} {
		frame := appendFrame(nil, payload)
		for bit := range len(frame) * 8 {
			flipped := bytes.Clone(frame)
			flipped[bit/8] ^= 1 << (bit % 8)
			f := frameReader{r: bufio.NewReader(bytes.NewReader(flipped))}
			if got, err := f.next(1 << 20); err == nil {
				t.Fatalf("bit %d of %x: read %x", bit, frame, got)
			}
		}
	}
}

// What is allocated must not follow from four bytes that anyone can send.
func TestALengthOverTheLimitIsRefusedBeforeItIsBelieved(t *testing.T) {
	f := frameReader{r: bufio.NewReader(bytes.NewReader([]byte{0, 0, 4, 1, 0, 0, 0, 0}))}
	var bad *frameError
	if _, err := f.next(1 << 10); !errors.As(err, &bad) || cap(f.buf) > 0 {
		t.Fatalf("got %v and a buffer of %d", err, cap(f.buf))
	}
}

func TestALaneGivesBackWhatWasPutInWholeFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &queue{maxMessages: 50, maxBytes: 1 << 20}
		var want, got []uint64
		next := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				ok, err := q.push(appendOf(1, 2, next, rapid.IntRange(0, 100<<10).Draw(t, "size")))
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					want = append(want, next)
				} else if q.len() < q.maxMessages && len(q.bulk.buf)-q.bulk.off < q.maxBytes {
					t.Fatalf("no room with %d messages of %d bytes", q.len(), len(q.bulk.buf)-q.bulk.off)
				}
				next++
			},
			"take": func(t *rapid.T) {
				frames, n := q.take()
				f := frameReader{r: bufio.NewReader(bytes.NewReader(frames))}
				for range n {
					payload, err := f.next(MaxMessage)
					if err != nil {
						t.Fatal(err)
					}
					m, err := decodeMessage(payload)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, m.GetIndex())
				}
				if _, err := f.next(MaxMessage); err != io.EOF {
					t.Fatalf("after %d frames: %v", n, err)
				}
			},
			"": func(t *rapid.T) {
				if len(got)+q.len() != len(want) {
					t.Fatalf("put %d, took %d, %d wait", len(want), len(got), q.len())
				}
				for i, index := range got {
					if want[i] != index {
						t.Fatalf("message %d is %d, not %d", i, index, want[i])
					}
				}
			},
		})
	})
}

// FuzzStream gives a stream's bytes: whatever they are, only valid messages come out and nothing panics.
func FuzzStream(f *testing.F) {
	for _, m := range []*raftpb.Message{goodAppend, goodProposal, snapshotMessage(2, 1, 5), heartbeat(2, 1, 3)} {
		frame, err := appendMessage(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame, false)
		f.Add(frame[frameHeader:], true)
	}
	f.Add(emptyFrame, false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed { // gets past the checksum
			b = appendFrame(nil, b)
		}
		frames := frameReader{r: bufio.NewReader(bytes.NewReader(b))}
		for {
			payload, err := frames.next(1 << 20)
			if err != nil {
				return
			}
			m, err := decodeMessage(payload)
			if err != nil {
				continue
			}
			_ = validateSnapshot(m, 2, 1)
			if validate(m, 2, 1) == nil && (m.GetTo() != 1 || m.GetFrom() != 2 && m.GetType() != raftpb.MsgTransferLeader) {
				t.Fatalf("valid: %v", m)
			}
		}
	})
}
