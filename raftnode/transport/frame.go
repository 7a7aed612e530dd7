package transport

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A frame is the length of its payload (4 bytes, big-endian), CRC-32C over length and payload (4 bytes), and the
// payload. An empty payload is a sign of life, or the end of a snapshot's state.
const frameHeader = 8

// MaxMessage is how large a message may be when marshalled, in bytes; larger ones are never sent, and end the stream
// of a peer that sends one. Raft keeps appends near its MaxSizePerMsg; its owner must keep proposals below this.
const MaxMessage = 32 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// emptyFrame is a frame without payload.
var emptyFrame = appendFrame(nil, nil)

// sealFrame fills in the header of the frame that starts at buf[start:] and reaches to the end of buf.
func sealFrame(buf []byte, start int) {
	frame := buf[start:]
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameHeader))
	sum := crc32.Update(crc32.Checksum(frame[:4], castagnoli), castagnoli, frame[frameHeader:])
	binary.BigEndian.PutUint32(frame[4:], sum)
}

func appendFrame(buf, payload []byte) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, frameHeader)...)
	buf = append(buf, payload...)
	sealFrame(buf, start)
	return buf
}

// appendMessage appends m as one frame; after an error buf is as it was.
func appendMessage(buf []byte, m *raftpb.Message) ([]byte, error) {
	start := len(buf)
	out := append(buf, make([]byte, frameHeader)...)
	out, err := proto.MarshalOptions{}.MarshalAppend(out, m)
	if err != nil {
		return buf, fmt.Errorf("marshal %s: %w", m.GetType(), err)
	}
	if size := len(out) - start - frameHeader; size > MaxMessage {
		return buf, fmt.Errorf("marshal %s: %d bytes are over the limit of %d", m.GetType(), size, MaxMessage)
	}
	sealFrame(out, start)
	return out, nil
}

// frameReader reads frames. What next returns is good until the next call.
type frameReader struct {
	r      *bufio.Reader
	header [frameHeader]byte
	buf    []byte
}

// keptBuffer is how large a buffer may be that is kept for the next use: a rare large message must not cost its memory
// for ever.
const keptBuffer = 1 << 20

// next reads one frame's payload of at most limit bytes. It returns io.EOF only between frames.
func (f *frameReader) next(limit int) ([]byte, error) {
	if _, err := io.ReadFull(f.r, f.header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(f.header[:])
	if uint64(length) > uint64(limit) {
		return nil, &frameError{fmt.Sprintf("length %d is over %d", length, limit)}
	}
	if cap(f.buf) < int(length) || cap(f.buf) > keptBuffer {
		f.buf = make([]byte, length)
	}
	payload := f.buf[:length]
	if _, err := io.ReadFull(f.r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	want := binary.BigEndian.Uint32(f.header[4:])
	sum := crc32.Update(crc32.Checksum(f.header[:4], castagnoli), castagnoli, payload)
	if sum != want {
		return nil, &frameError{fmt.Sprintf("checksum is %08x, not %08x", sum, want)}
	}
	return payload, nil
}

// whole reports whether next would return without waiting.
func (f *frameReader) whole() bool {
	n := f.r.Buffered()
	if n < frameHeader {
		return false
	}
	header, err := f.r.Peek(4)
	return err == nil && uint64(n-frameHeader) >= uint64(binary.BigEndian.Uint32(header))
}

// frameError is a frame that cannot be what was sent.
type frameError struct{ why string }

func (e *frameError) Error() string { return "bad frame: " + e.why }
