package raftnode

import (
	"encoding/binary"
	"fmt"
	"slices"

	"raft3d/raftnode/transport"
)

// requestID names one proposal for ever: the member that took it, the incarnation of that member's directory, and
// a number that rises by one within an incarnation.
type requestID struct {
	member, incarnation, sequence uint64
}

// header stands in front of each command in the log: the request's id, and the oldest sequence that its proposer
// still waited for, below which nothing is wanted any more. That bounds what has to be remembered.
//
// Shape: member (8 bytes, big endian), then unsigned varints: incarnation, sequence, sequence - low.
type header struct {
	requestID
	low uint64 // at most sequence
}

const maxHeader = 8 + 3*binary.MaxVarintLen64

// encodeEntry is the header followed by the command.
func encodeEntry(h header, cmd []byte) []byte {
	b := make([]byte, 0, maxHeader+len(cmd))
	b = binary.BigEndian.AppendUint64(b, h.member)
	b = binary.AppendUvarint(b, h.incarnation)
	b = binary.AppendUvarint(b, h.sequence)
	b = binary.AppendUvarint(b, h.sequence-h.low)
	return append(b, cmd...)
}

// decodeEntry takes an entry's data apart; cmd aliases data.
func decodeEntry(data []byte) (h header, cmd []byte, err error) {
	if len(data) < 8 {
		return header{}, nil, fmt.Errorf("entry of %d bytes has no request id", len(data))
	}
	h.member = binary.BigEndian.Uint64(data)
	rest := data[8:]
	var behind uint64
	for _, field := range []*uint64{&h.incarnation, &h.sequence, &behind} {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return header{}, nil, fmt.Errorf("entry of %d bytes has a damaged request id", len(data))
		}
		*field, rest = v, rest[n:]
	}
	if behind > h.sequence {
		return header{}, nil, fmt.Errorf("request %d of member %x says that it is %d behind", h.sequence, h.member, behind)
	}
	h.low = h.sequence - behind
	return h, rest, nil
}

// admission says what became of a request that came up for application.
type admission int

const (
	admitted  admission = iota // it is new: apply it
	duplicate                  // it was applied before, or its proposer gave it up
	outdated                   // it is of an older incarnation than the newest one known
)

// admit says whether the request is to be applied, and remembers that it was. It depends on nothing but the
// window and the header, so all nodes decide alike.
func (w *Window) admit(h header) admission {
	switch {
	case h.incarnation < w.Incarnation, transport.Rivals(h.incarnation, w.Incarnation):
		return outdated
	case h.incarnation > w.Incarnation:
		w.Incarnation, w.Low, w.Ranges = h.incarnation, h.low, nil
	}
	if h.low > w.Low {
		w.raise(h.low)
	}
	if !w.insert(h.sequence) {
		return duplicate
	}
	return admitted
}

// has reports whether the request was applied, or given up.
func (w *Window) has(incarnation, sequence uint64) bool {
	if w.Incarnation != incarnation {
		return false
	}
	in := sequence < w.Low
	for i := 0; i < len(w.Ranges); i += 2 {
		in = in || w.Ranges[i] <= sequence && sequence <= w.Ranges[i+1]
	}
	return in
}

// raise forgets what lies below low.
func (w *Window) raise(low uint64) {
	w.Low = low
	for len(w.Ranges) > 0 && w.Ranges[1] < w.Low {
		w.Ranges = w.Ranges[2:]
	}
	if len(w.Ranges) > 0 && w.Ranges[0] <= w.Low {
		w.Low = w.Ranges[1] + 1
		w.Ranges = w.Ranges[2:]
	}
}

// insert adds the sequence and reports whether it was new.
func (w *Window) insert(sequence uint64) bool {
	if sequence < w.Low {
		return false
	}
	if sequence == w.Low { // the usual case: in order, nothing to remember
		w.raise(sequence + 1)
		return true
	}
	// i is the first range that ends at or after the sequence, or just before it.
	i := 0
	for i < len(w.Ranges) && w.Ranges[i+1]+1 < sequence {
		i += 2
	}
	switch {
	case i == len(w.Ranges) || sequence+1 < w.Ranges[i]:
		w.Ranges = slices.Insert(w.Ranges, i, sequence, sequence)
	case sequence+1 == w.Ranges[i]:
		w.Ranges[i] = sequence
	case sequence == w.Ranges[i+1]+1:
		w.Ranges[i+1] = sequence
		if i+2 < len(w.Ranges) && w.Ranges[i+2] == sequence+1 {
			w.Ranges = slices.Delete(w.Ranges, i+1, i+3)
		}
	default:
		return false
	}
	return true
}
