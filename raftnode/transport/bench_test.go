package transport

import (
	"io"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

type sink struct{ got atomic.Int64 }

func (s *sink) Receive(msgs []*raftpb.Message) { s.got.Add(int64(len(msgs))) }
func (s *sink) ReceiveSnapshot(_ *raftpb.Message, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
func (s *sink) ReportUnreachable(uint64)    {}
func (s *sink) ReportSnapshot(uint64, bool) {}
func (s *sink) PeerDown(uint64)             {}
func (s *sink) Refused(uint64, Refusal)     {}

// BenchmarkSend is one message of 400 bytes from Send to Receive, in batches as a busy loop makes them.
func BenchmarkSend(b *testing.B) {
	all := group(b, 2)
	all[0].connected(b, 2)
	s := &sink{}
	all[1].receiver = s // before the first message
	const batch = 64
	msgs := make([]*raftpb.Message, batch)
	for i := range msgs {
		msgs[i] = appendOf(1, 2, uint64(i), 400)
	}
	b.ReportAllocs()
	b.SetBytes(400)
	b.ResetTimer()
	sent := 0
	for sent < b.N {
		for all[0].peer(2).Queued > 4096-batch { // so that nothing is dropped
		}
		all[0].Send(msgs)
		sent += batch
	}
	eventually(b, func() bool { return s.got.Load() == int64(sent) }, "all is received")
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msgs/s")
}
