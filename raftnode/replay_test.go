package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"raft3d/wal"
)

// survivor is what the log of the last of two voters has: a snapshot at index 4 with two commands in it, and behind
// that three commands, one of them twice, and the removal of the other voter. It knows up to index 6 as committed.
func survivor(t testing.TB) (rec wal.Recovered, snapshot io.Reader) {
	t.Helper()
	m := threeMembers(t)
	then := &listState{listRecord: listRecord{Index: 4, Meta: must(m.encode()), Commands: []string{"a", "b"}}}
	var state bytes.Buffer
	if err := then.Snapshot(func(_ uint64, _ []byte, w io.WriterTo) error {
		_, err := w.WriteTo(&state)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	command := func(sequence uint64, cmd string) []byte {
		return encodeEntry(header{requestID{1, 1, sequence}, 1}, []byte(cmd))
	}
	cc, err := confChange(&MemberChange{Op: MemberChange_REMOVE, Member: record(2)}, false)
	if err != nil {
		t.Fatal(err)
	}
	entries := []*raftpb.Entry{
		{Data: command(1, "c")},
		{Data: nil}, // a new leader's first
		{Data: command(2, "d")},
		{Data: command(1, "c")}, // carried over to the new leader, and in the log already
		{Data: must(proto.Marshal(cc)), Type: raftpb.EntryConfChangeV2.Enum()},
		{Data: command(3, "e")},
	}
	for i, e := range entries {
		e.Index, e.Term = proto.Uint64(uint64(5+i)), proto.Uint64(2)
	}
	return wal.Recovered{
		Identity:  wal.Identity{ClusterID: 1, MemberID: 1, Name: "node1"},
		HardState: &raftpb.HardState{Term: proto.Uint64(2), Vote: new(uint64), Commit: proto.Uint64(6)},
		Snapshot:  &raftpb.SnapshotMetadata{Index: proto.Uint64(4), Term: proto.Uint64(2), ConfState: m.conf},
		Entries:   entries,
	}, &state
}

func TestReplayKeepsWhatTheLogHasBehindItsCommitIndex(t *testing.T) {
	rec, snapshot := survivor(t)
	sm := &listState{}
	if err := Replay(rec, snapshot, sm); err != nil {
		t.Fatal(err)
	}
	if got, want := sm.commands(), []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) {
		t.Errorf("the state has %v, want %v", got, want)
	}
	index, meta := sm.Applied()
	m, err := decodeMembers(meta)
	if err != nil || index != 10 || fmt.Sprint(m.conf.GetVoters()) != "[1]" {
		t.Errorf("it is at index %d with voters %v (%v), want 10 and [1]", index, m.conf.GetVoters(), err)
	}
}

func TestReplayTellsWhatTheStateMachineCouldNotDo(t *testing.T) {
	rec, _ := survivor(t)
	if err := Replay(rec, failingReader{}, &listState{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a snapshot that is cut short: %v", err)
	}
	rec, snapshot := survivor(t)
	if err := Replay(rec, snapshot, &listState{failAt: 7}); err == nil {
		t.Error("a state machine that fails: no error")
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
