package transport

import (
	"io"
	"log"
	"math"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// with gives a copy of m that f has changed.
func with(m *raftpb.Message, f func(*raftpb.Message)) *raftpb.Message {
	c := proto.CloneOf(m)
	f(c)
	return c
}

// message is from member 2 to member 1 in term 5.
func message(t raftpb.MessageType, f func(*raftpb.Message)) *raftpb.Message {
	m := &raftpb.Message{Type: &t, From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(5))}
	f(m)
	return m
}

func entry(index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: []byte("x")}
}

func none(*raftpb.Message)      {}
func noTerm(m *raftpb.Message)  { m.Term = nil }
func oneRead(m *raftpb.Message) { m.Entries = []*raftpb.Entry{{Data: []byte("ctx")}} }

var goodAppend = message(raftpb.MsgApp, func(m *raftpb.Message) {
	m.Index, m.LogTerm, m.Commit = new(uint64(7)), new(uint64(3)), new(uint64(1<<40))
	m.Entries = []*raftpb.Entry{entry(8, 3), entry(9, 5)}
})

var goodProposal = message(raftpb.MsgProp, func(m *raftpb.Message) {
	m.Term = nil
	m.Entries = []*raftpb.Entry{{Data: []byte("x")}, {}}
})

func TestWhatRaftSendsIsValid(t *testing.T) {
	for _, m := range []*raftpb.Message{
		goodAppend,
		goodProposal,
		with(goodAppend, func(m *raftpb.Message) { m.Entries = nil }),
		with(goodAppend, func(m *raftpb.Message) { m.Snapshot = &raftpb.Snapshot{} }), // as older programs did
		message(raftpb.MsgAppResp, func(m *raftpb.Message) {
			m.Index, m.Reject, m.RejectHint, m.LogTerm = new(uint64(9)), new(true), new(uint64(7)), new(uint64(5))
		}),
		message(raftpb.MsgVote, func(m *raftpb.Message) { m.Context = []byte("CampaignTransfer") }),
		message(raftpb.MsgVoteResp, none),
		message(raftpb.MsgPreVote, none),
		message(raftpb.MsgPreVoteResp, func(m *raftpb.Message) { m.Reject = new(true) }),
		message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Context = make([]byte, 16) }),
		message(raftpb.MsgHeartbeatResp, none),
		message(raftpb.MsgTimeoutNow, none),
		message(raftpb.MsgTransferLeader, func(m *raftpb.Message) { m.From = new(uint64(3)) }),
		with(message(raftpb.MsgReadIndex, oneRead), noTerm),
		message(raftpb.MsgReadIndexResp, oneRead),
	} {
		if err := validate(m, 2, 1); err != nil {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := validateSnapshot(snapshotMessage(2, 1, 7), 2, 1); err != nil {
		t.Error(err)
	}
}

func TestWhatRaftDoesNotSendIsInvalid(t *testing.T) {
	foreign := map[string]*raftpb.Message{
		"another's":         message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.From = new(uint64(3)) }),
		"another's vote":    message(raftpb.MsgVoteResp, func(m *raftpb.Message) { m.From = new(uint64(3)) }),
		"for another":       message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.To = new(uint64(3)) }),
		"nobody's transfer": message(raftpb.MsgTransferLeader, func(m *raftpb.Message) { m.From = nil }),
		"a thread's":        message(raftpb.MsgTransferLeader, func(m *raftpb.Message) { m.From = new(uint64(raft.LocalAppendThread)) }),
		"no type":           message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Type = nil }),
		"no term":           message(raftpb.MsgHeartbeat, noTerm),
		"proposal's term":   with(goodProposal, func(m *raftpb.Message) { m.Term = new(uint64(5)) }),
		"read's term":       message(raftpb.MsgReadIndex, oneRead),
		"empty proposal":    with(goodProposal, func(m *raftpb.Message) { m.Entries = nil }),
		"two reads":         with(message(raftpb.MsgReadIndexResp, oneRead), func(m *raftpb.Message) { m.Entries = append(m.Entries, m.Entries[0]) }),
		"no read":           message(raftpb.MsgReadIndexResp, none),
		"large read":        with(message(raftpb.MsgReadIndexResp, oneRead), func(m *raftpb.Message) { m.Entries[0].Data = make([]byte, maxContext+1) }),
		"large context":     message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Context = make([]byte, maxContext+1) }),
		"entries":           message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Entries = goodAppend.Entries }),
		"a vote inside":     message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Vote = new(uint64(2)) }),
		"answers inside":    message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Responses = []*raftpb.Message{goodAppend} }),
		"a snapshot inside": message(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Snapshot = snapshotMessage(2, 1, 7).Snapshot }),
		"snapshot":          snapshotMessage(2, 1, 7),
		"vote of the past":  message(raftpb.MsgVote, func(m *raftpb.Message) { m.LogTerm = new(uint64(6)) }),
		"unknown type":      message(raftpb.MessageType(99), none),
		"negative type":     message(raftpb.MessageType(-1), none),
		"nil entry":         with(goodAppend, func(m *raftpb.Message) { m.Entries = []*raftpb.Entry{nil} }),
		"gap":               with(goodAppend, func(m *raftpb.Message) { m.Entries[1].Index = new(uint64(10)) }),
		"gap before":        with(goodAppend, func(m *raftpb.Message) { m.Index = new(uint64(6)) }),
		"falling terms":     with(goodAppend, func(m *raftpb.Message) { m.Entries[1].Term = new(uint64(2)) }),
		"term of the future": with(goodAppend, func(m *raftpb.Message) {
			m.Entries[1].Term = new(uint64(6))
		}),
		"no entry term": with(goodAppend, func(m *raftpb.Message) {
			m.LogTerm, m.Entries[0].Term = nil, nil
		}),
		"overflow": with(goodAppend, func(m *raftpb.Message) {
			m.Index, m.Entries = new(uint64(math.MaxUint64)), []*raftpb.Entry{entry(0, 3)}
		}),
		"entry type": with(goodAppend, func(m *raftpb.Message) { m.Entries[0].Type = raftpb.EntryType(3).Enum() }),
		"conf change": with(goodProposal, func(m *raftpb.Message) {
			m.Entries[0].Type, m.Entries[0].Data = raftpb.EntryConfChangeV2.Enum(), []byte{0xff}
		}),
	}
	for _, local := range []raftpb.MessageType{
		raftpb.MsgHup, raftpb.MsgBeat, raftpb.MsgUnreachable, raftpb.MsgSnapStatus, raftpb.MsgCheckQuorum,
		raftpb.MsgStorageAppend, raftpb.MsgStorageAppendResp, raftpb.MsgStorageApply, raftpb.MsgStorageApplyResp, raftpb.MsgForgetLeader,
	} {
		foreign[local.String()] = message(local, none)
	}
	for name, m := range foreign {
		if err := validate(m, 2, 1); err == nil {
			t.Errorf("%s: %v is valid", name, m)
		}
	}
}

func TestASnapshotMustMakeSense(t *testing.T) {
	good := snapshotMessage(2, 1, 7)
	for name, m := range map[string]*raftpb.Message{
		"not a snapshot":   goodAppend,
		"no snapshot":      with(good, func(m *raftpb.Message) { m.Snapshot = nil }),
		"no metadata":      with(good, func(m *raftpb.Message) { m.Snapshot.Metadata = nil }),
		"index 0":          with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.Index = nil }),
		"term 0":           with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.Term = nil }),
		"a later term":     with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.Term = new(uint64(2)) }),
		"no configuration": with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.ConfState = nil }),
		"another's":        with(good, func(m *raftpb.Message) { m.From = new(uint64(3)) }),
		"voter and learner": with(good, func(m *raftpb.Message) {
			m.Snapshot.Metadata.ConfState.Learners = []uint64{1}
		}),
		"twice a voter": with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.ConfState.Voters = []uint64{1, 1} }),
		"nobody":        with(good, func(m *raftpb.Message) { m.Snapshot.Metadata.ConfState.Voters = []uint64{0, 1} }),
		"half a joint configuration": with(good, func(m *raftpb.Message) {
			m.Snapshot.Metadata.ConfState.AutoLeave = new(true)
		}),
		"very many": with(good, func(m *raftpb.Message) {
			for i := range uint64(maxMembers) {
				m.Snapshot.Metadata.ConfState.Learners = append(m.Snapshot.Metadata.ConfState.Learners, i+10)
			}
		}),
	} {
		if err := validateSnapshot(m, 2, 1); err == nil {
			t.Errorf("%s: valid", name)
		}
	}
}

// node gives a raft of three with member 1 in the given role in term 5.
func node(t testing.TB, leader bool) *raft.RawNode {
	storage := raft.NewMemoryStorage()
	err := storage.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.SetHardState(&raftpb.HardState{Term: new(uint64(4)), Commit: new(uint64(1))}); err != nil {
		t.Fatal(err)
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := func(m *raftpb.Message) {
		if err := rn.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	if !leader {
		step(message(raftpb.MsgHeartbeat, none))
		return rn
	}
	if err := rn.Campaign(); err != nil {
		t.Fatal(err)
	}
	for rn.HasReady() { // its vote for itself must be stored before it counts
		rd := rn.Ready()
		if err := storage.Append(rd.Entries); err != nil {
			t.Fatal(err)
		}
		rn.Advance(rd)
	}
	step(message(raftpb.MsgVoteResp, none))
	if got := rn.BasicStatus(); got.RaftState != raft.StateLeader || got.GetTerm() != 5 {
		t.Fatalf("not a leader in term 5: %+v", got)
	}
	return rn
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return
}

// The reason for the rules: raft trusts its peers. When one of these no longer panics, its rule may go.
func TestRaftPanicsOnWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		leader bool
		m      *raftpb.Message
	}{
		"empty proposal": {true, with(goodProposal, func(m *raftpb.Message) { m.Entries = nil })},
		"conf change that cannot be read": {true, with(goodProposal, func(m *raftpb.Message) {
			m.Entries[0].Type, m.Entries[0].Data = raftpb.EntryConfChange.Enum(), []byte{0xff}
		})},
		"proposal with a term, at a follower": {false, with(goodProposal, func(m *raftpb.Message) { m.Term = new(uint64(5)) })},
		"transfer with a term, at a follower": {false, message(raftpb.MsgTransferLeader, none)}, // decode takes the term away
		"entries with a gap": {false, with(goodAppend, func(m *raftpb.Message) {
			m.Index, m.LogTerm, m.Commit = new(uint64(1)), new(uint64(1)), nil
			m.Entries = []*raftpb.Entry{entry(4, 5)}
		})},
		"configuration of a voter who is a learner": {false, with(snapshotMessage(2, 1, 70), func(m *raftpb.Message) {
			m.Term = new(uint64(5))
			m.Snapshot.Metadata.ConfState.Learners = []uint64{1}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			rn := node(t, c.leader)
			if !panics(func() { _ = rn.Step(proto.CloneOf(c.m)); rn.Ready() }) { // raft writes into what it forwards
				t.Error("raft does not panic")
			}
			if c.m.GetType() == raftpb.MsgTransferLeader {
				s := &stream{from: 2, t: &Transport{cfg: Config{MemberID: 1}}}
				payload, err := proto.Marshal(c.m)
				if err != nil {
					t.Fatal(err)
				}
				if m := s.decode(payload); panics(func() { _ = node(t, false).Step(m) }) {
					t.Error("raft panics on what is left of it")
				}
				return
			}
			if validate(c.m, 2, 1) == nil || validateSnapshot(c.m, 2, 1) == nil {
				t.Error("it is valid")
			}
		})
	}
}

func TestRaftTakesAnyConfigurationThatIsValid(t *testing.T) {
	ids := rapid.SliceOfN(rapid.Uint64Range(0, 5), 0, 4)
	valid := 0
	rapid.Check(t, func(t *rapid.T) {
		m := snapshotMessage(2, 1, 70)
		m.Term = new(uint64(5))
		m.Snapshot.Metadata.ConfState = &raftpb.ConfState{
			Voters: ids.Draw(t, "voters"), Learners: ids.Draw(t, "learners"),
			VotersOutgoing: ids.Draw(t, "outgoing"), LearnersNext: ids.Draw(t, "next"),
			AutoLeave: new(rapid.Bool().Draw(t, "auto")),
		}
		if validateSnapshot(m, 2, 1) != nil {
			return
		}
		valid++
		if err := node(nil, false).Step(m); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d configurations were valid", valid)
}
