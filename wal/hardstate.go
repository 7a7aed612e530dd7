package wal

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// hardState is raftpb.HardState as a value.
type hardState struct{ term, vote, commit uint64 }

func hardStateOf(h *raftpb.HardState) hardState {
	return hardState{h.GetTerm(), h.GetVote(), h.GetCommit()}
}

func (s hardState) message() *raftpb.HardState {
	return &raftpb.HardState{Term: &s.term, Vote: &s.vote, Commit: &s.commit}
}

func (s hardState) sameVote(o hardState) bool { return s.term == o.term && s.vote == o.vote }

// seen raises the term to one that an entry or a snapshot of the log has. A vote in that term would have been written
// before it was given, so there was none.
func (s *hardState) seen(term uint64) {
	if s.term < term {
		s.term, s.vote = term, 0
	}
}

// unitField is a field that raftpb.HardState does not have, so raft and etcd carry it along unread: the number of the
// unit of writing that the record ends. Units are numbered from 1, without a gap, through the life of the directory.
const unitField protowire.Number = 1000

func (s hardState) numbered(unit uint64) *raftpb.HardState {
	h := s.message()
	b := protowire.AppendTag(nil, unitField, protowire.VarintType)
	h.ProtoReflect().SetUnknown(protowire.AppendVarint(b, unit))
	return h
}

// decodeHardState is strict, since the checksum of a record does not cover its type.
func decodeHardState(b []byte) (s hardState, unit uint64, err error) {
	var h raftpb.HardState
	if err := proto.Unmarshal(b, &h); err != nil {
		return hardState{}, 0, fmt.Errorf("hard state: %w", err)
	}
	unknown := h.ProtoReflect().GetUnknown()
	number, kind, n := protowire.ConsumeTag(unknown)
	if n < 0 || number != unitField || kind != protowire.VarintType {
		return hardState{}, 0, errors.New("hard state without the number of its unit")
	}
	unit, m := protowire.ConsumeVarint(unknown[n:])
	if m < 0 || n+m != len(unknown) || unit == 0 {
		return hardState{}, 0, errors.New("hard state with a malformed number of its unit")
	}
	return hardStateOf(&h), unit, nil
}
