package transport

import (
	"encoding/binary"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// queue holds the frames that wait for one peer, in two lanes: appends and proposals, which can be many and large, and
// all other messages, which are small and must not wait behind them. Each lane is bounded by itself, in messages and
// bytes; what does not fit is dropped, and what waits is kept.
type queue struct {
	maxMessages, maxBytes int

	mu           sync.Mutex
	urgent, bulk lane
}

// lane is frames one after another, as they go to the wire. buf[:off] has been taken.
type lane struct {
	buf      []byte
	off      int
	messages int
}

// push marshals m into its lane; false: there was no room.
func (q *queue) push(m *raftpb.Message) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.urgent
	if t := m.GetType(); t == raftpb.MsgApp || t == raftpb.MsgProp {
		l = &q.bulk
	}
	if l.messages >= q.maxMessages || len(l.buf)-l.off >= q.maxBytes {
		return false, nil
	}
	buf, err := appendMessage(l.buf, m)
	if err != nil {
		return false, err
	}
	l.buf = buf
	l.messages++
	return true, nil
}

// batchBytes is how much is taken of the bulk at once: so much can be ahead of a heartbeat, besides what the kernel has.
const batchBytes = 256 << 10

// take removes frames for one write, urgent ones first; none: nil. They are good until the next take.
func (q *queue) take() (frames []byte, messages int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.urgent.compact()
	q.bulk.compact()
	if q.urgent.messages > 0 {
		return q.urgent.take(batchBytes)
	}
	return q.bulk.take(batchBytes)
}

// shrink gives back the memory of a burst once it is over.
func (q *queue) shrink() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range []*lane{&q.urgent, &q.bulk} {
		if l.messages == 0 && cap(l.buf) > keptBuffer {
			*l = lane{}
		}
	}
}

// purge drops all that waits and says how many messages that were.
func (q *queue) purge() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.urgent.messages + q.bulk.messages
	q.urgent, q.bulk = lane{}, lane{}
	return n
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.urgent.messages + q.bulk.messages
}

// take returns at least one frame, and as many more as fit into limit bytes.
func (l *lane) take(limit int) (frames []byte, messages int) {
	start, end := l.off, l.off
	for end < len(l.buf) {
		next := end + frameHeader + int(binary.BigEndian.Uint32(l.buf[end:]))
		if messages > 0 && next-start > limit {
			break
		}
		end = next
		messages++
	}
	l.off = end
	l.messages -= messages
	return l.buf[start:end], messages
}

// compact makes room in front. It moves no more bytes than were taken since the last time.
func (l *lane) compact() {
	if l.off*2 < len(l.buf) || l.off == 0 {
		return
	}
	l.buf = l.buf[:copy(l.buf, l.buf[l.off:])]
	l.off = 0
}
