package raftnode

import (
	"bytes"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// threeMembers is a cluster of two voters, node1 and node2, and a learner, node3; node9 was removed.
func threeMembers(t testing.TB) *members {
	t.Helper()
	m, err := foundingMembers(record(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		change *MemberChange
		conf   *raftpb.ConfState
	}{
		{&MemberChange{Op: MemberChange_ADD, Member: record(9)}, &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{9}}},
		{&MemberChange{Op: MemberChange_ADD, Member: record(2)}, &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2, 9}}},
		{&MemberChange{Op: MemberChange_PROMOTE, Member: record(2)}, &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{9}}},
		{&MemberChange{Op: MemberChange_REMOVE, Member: record(9)}, &raftpb.ConfState{Voters: []uint64{1, 2}}},
		{&MemberChange{Op: MemberChange_ADD, Member: record(3)}, &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}},
	} {
		if refusal := m.check(step.change); refusal != nil {
			t.Fatalf("%v: %v", step.change, refusal)
		}
		if err := m.apply(step.change, step.conf); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// record is the member called node<id>.
func record(id uint64) *MemberRecord {
	name := "node" + string(rune('0'+id))
	return &MemberRecord{MemberId: id, Name: name, Raft: name + ":9001", Http: name + ":8001"}
}

func TestAMembershipChangeIsJudgedByTheReplicatedRecordAlone(t *testing.T) {
	with := func(r *MemberRecord, change func(*MemberRecord)) *MemberRecord { change(r); return r }
	for _, tt := range []struct {
		name   string
		op     MemberChange_Op
		member *MemberRecord
		kind   ErrorKind // 0: it is made
		says   string
	}{
		{"a new member", MemberChange_ADD, record(4), 0, ""},
		{"a new member that stays a learner", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.Learner = true }), 0, ""},
		{"a voter's id once more", MemberChange_ADD, record(1), Conflict, "in the cluster already"},
		{"a learner's id under another name", MemberChange_ADD, with(record(3), func(r *MemberRecord) { r.Name = "x" }), Conflict, "in the cluster already"},
		{"a voter's name under another id", MemberChange_ADD, with(record(1), func(r *MemberRecord) { r.MemberId = 4 }), Conflict, "lost its data directory"},
		{"a learner's name under another id", MemberChange_ADD, with(record(3), func(r *MemberRecord) { r.MemberId = 4 }), Conflict, "lost its data directory"},
		{"a removed id", MemberChange_ADD, record(9), Conflict, "never used again"},
		{"a removed id under another name", MemberChange_ADD, with(record(9), func(r *MemberRecord) { r.Name = "x" }), Conflict, "never used again"},
		{"a removed member's name under a new id", MemberChange_ADD, with(record(9), func(r *MemberRecord) { r.MemberId = 4 }), 0, ""},
		{"an add without an id", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.MemberId = 0 }), Invalid, "needs an id"},
		{"an add under an id that raft uses itself", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.MemberId = raft.LocalAppendThread }), Invalid, "needs an id"},
		{"an add without a name", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.Name = "" }), Invalid, "needs an id"},
		{"an add without a raft address", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.Raft = "" }), Invalid, "raft address"},
		{"an add without an http address", MemberChange_ADD, with(record(4), func(r *MemberRecord) { r.Http = "" }), Invalid, "http address"},

		{"the promotion of a learner", MemberChange_PROMOTE, record(3), 0, ""},
		{"the promotion of a voter", MemberChange_PROMOTE, record(2), Conflict, "a voter already"},
		{"the promotion of nobody", MemberChange_PROMOTE, record(4), NotFound, "no member"},
		{"the promotion of a removed member", MemberChange_PROMOTE, record(9), NotFound, "no member"},

		{"the removal of a voter", MemberChange_REMOVE, record(2), 0, ""},
		{"the removal of a learner", MemberChange_REMOVE, record(3), 0, ""},
		{"the removal of nobody", MemberChange_REMOVE, record(4), NotFound, "no member"},
		{"a second removal", MemberChange_REMOVE, record(9), NotFound, "no member"},

		{"new addresses", MemberChange_UPDATE, with(record(2), func(r *MemberRecord) { r.Raft, r.Http = "a:1", "b:2" }), 0, ""},
		{"new addresses for nobody", MemberChange_UPDATE, record(4), NotFound, "no member"},
		{"new addresses that are empty", MemberChange_UPDATE, with(record(2), func(r *MemberRecord) { r.Raft = "" }), Invalid, "raft address"},

		{"no member", MemberChange_ADD, nil, Invalid, "names no member"},
		{"no change", MemberChange_NONE, record(4), Invalid, "unknown membership change"},
		{"a change of a later release", MemberChange_Op(99), record(4), Invalid, "too old"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := threeMembers(t)
			before, _ := m.encode()
			refusal := m.check(&MemberChange{Op: tt.op, Member: tt.member})
			if after, _ := m.encode(); !bytes.Equal(before, after) {
				t.Errorf("asking changed the record from %x to %x", before, after)
			}
			switch {
			case tt.kind == 0 && refusal != nil:
				t.Errorf("refused: %v", refusal)
			case tt.kind != 0 && refusal == nil:
				t.Errorf("was let pass")
			case tt.kind != 0 && (refusal.Kind != tt.kind || !strings.Contains(refusal.Detail, tt.says) || refusal.Outcome != NotApplied):
				t.Errorf("refused as kind %d, outcome %s: %q; want kind %d and %q in it", refusal.Kind, refusal.Outcome, refusal.Detail, tt.kind, tt.says)
			}
		})
	}
}

func TestTheLastVoterIsNeverRemoved(t *testing.T) {
	m := threeMembers(t)
	if err := m.apply(&MemberChange{Op: MemberChange_REMOVE, Member: record(2)}, &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{3}}); err != nil {
		t.Fatal(err)
	}
	refusal := m.check(&MemberChange{Op: MemberChange_REMOVE, Member: record(1)})
	if refusal == nil || refusal.Kind != Conflict {
		t.Fatalf("the removal of the only voter beside a learner: %v", refusal)
	}
	if refusal := m.check(&MemberChange{Op: MemberChange_REMOVE, Member: record(3)}); refusal != nil {
		t.Fatalf("the removal of the learner: %v", refusal)
	}
}

func TestARemovedMemberIsForgottenButForItsID(t *testing.T) {
	m := threeMembers(t)
	m.admit(header{requestID: requestID{member: 2, incarnation: 1, sequence: 1}})
	if err := m.apply(&MemberChange{Op: MemberChange_REMOVE, Member: record(2)}, &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{3}}); err != nil {
		t.Fatal(err)
	}
	table := m.table()
	if _, known := table.byID(2); known || !table.removed[2] || !m.removed(2) || len(m.meta.Windows) != 0 || m.voter(2) {
		t.Fatalf("after its removal the record says %v", m.meta)
	}
}

func TestAnUpdateChangesAddressesAndNothingElse(t *testing.T) {
	m := threeMembers(t)
	r := &MemberRecord{MemberId: 3, Name: "other", Raft: "a:1", Http: "b:2", Learner: true}
	if err := m.apply(&MemberChange{Op: MemberChange_UPDATE, Member: r}, m.conf); err != nil {
		t.Fatal(err)
	}
	got, _ := m.table().byID(3)
	if want := (memberEntry{id: 3, name: "node3", raft: "a:1", http: "b:2"}); got != want {
		t.Fatalf("have %+v, want %+v", got, want)
	}
}

func TestAskingForAWindowDoesNotChangeTheRecord(t *testing.T) {
	m := threeMembers(t)
	before, _ := m.encode()
	if m.window(2).has(1, 1) {
		t.Fatal("a request was applied that was never made")
	}
	if after, _ := m.encode(); !bytes.Equal(before, after) {
		t.Fatalf("the record was %x and is %x", before, after)
	}
}

func TestTheRecordComesBackAsItWas(t *testing.T) {
	m := threeMembers(t)
	m.meta.Term = 7
	for _, id := range []uint64{3, 1} { // windows are kept by member id, whoever came first
		m.admit(header{requestID: requestID{member: id, incarnation: 2, sequence: 5}})
	}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeMembers(b)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(m.meta, back.meta) || !proto.Equal(m.conf, back.conf) {
		t.Fatalf("%v with %v came back as %v with %v", m.meta, m.conf, back.meta, back.conf)
	}
	if got := back.admit(header{requestID: requestID{member: 3, incarnation: 2, sequence: 5}}); got != duplicate {
		t.Fatalf("a request that was applied before the restart is admitted as %d after it", got)
	}
	if again, _ := back.encode(); !bytes.Equal(b, again) {
		t.Fatalf("%x was encoded again as %x", b, again)
	}
}

func TestARecordOfANewerReleaseIsRefused(t *testing.T) {
	b, err := proto.Marshal(&Meta{Format: metaFormat + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeMembers(b); err == nil || !strings.Contains(err.Error(), "use a newer release") {
		t.Fatalf("format %d: %v", metaFormat+1, err)
	}
}

func TestADamagedRecordIsAnError(t *testing.T) {
	for name, b := range map[string][]byte{
		"no protobuf":         {0xff},
		"no format":           {0x10, 0x01},
		"a damaged ConfState": must(proto.Marshal(&Meta{Format: metaFormat, ConfState: []byte{0xff}})),
	} {
		if m, err := decodeMembers(b); err == nil {
			t.Errorf("%s: read as %v", name, m.meta)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// Whatever stands in the log where a membership change belongs, every node does the same with it: it is refused, and
// raft is told of a change of nobody.
func TestGarbageInPlaceOfAMembershipChangeIsRefusedWithoutANode(t *testing.T) {
	context := func(b []byte) []byte {
		return must(proto.Marshal(&raftpb.ConfChangeV2{
			Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(1)}}, Context: b,
		}))
	}
	for name, e := range map[string]*raftpb.Entry{
		"no data":                        {Type: raftpb.EntryConfChangeV2.Enum()},
		"no protobuf":                    {Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff, 0xff}},
		"no context":                     {Type: raftpb.EntryConfChangeV2.Enum(), Data: context(nil)},
		"a context that is no protobuf":  {Type: raftpb.EntryConfChangeV2.Enum(), Data: context([]byte{0xff})},
		"a context without a member":     {Type: raftpb.EntryConfChangeV2.Enum(), Data: context(must(proto.Marshal(&MemberChange{Op: MemberChange_REMOVE})))},
		"a change that would be refused": {Type: raftpb.EntryConfChangeV2.Enum(), Data: context(must(proto.Marshal(&MemberChange{Op: MemberChange_ADD, Member: record(1)})))},
		"a conf change of the first kind": {Type: raftpb.EntryConfChange.Enum(), Data: must(proto.Marshal(&raftpb.ConfChange{
			Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(1)}))},
	} {
		t.Run(name, func(t *testing.T) {
			applyOneChange(t, e)
		})
	}
}

func TestArbitraryBytesInPlaceOfAMembershipChangeNeverPanic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom([]*raftpb.EntryType{raftpb.EntryConfChange.Enum(), raftpb.EntryConfChangeV2.Enum()}).Draw(rt, "type")
		e := &raftpb.Entry{Type: kind, Data: rapid.SliceOf(rapid.Byte()).Draw(rt, "data")}
		applyOneChange(rt, e)
	})
}

type failer interface {
	Fatalf(format string, args ...any)
	Helper()
}

// applyOneChange applies an entry that must be refused, and checks what raft and the state machine hear of it.
func applyOneChange(t failer, e *raftpb.Entry) {
	t.Helper()
	founding, err := foundingMembers(record(1))
	if err != nil {
		t.Fatalf("found: %v", err)
	}
	meta, err := founding.encode()
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	state := &listState{listRecord: listRecord{Index: 1, Meta: meta}}
	a, err := newApplier(state, 1, 1)
	if err != nil {
		t.Fatalf("applier: %v", err)
	}
	told := 0
	a.configure = func(cc *raftpb.ConfChangeV2) (*raftpb.ConfState, error) {
		told++
		if len(cc.Changes) != 1 || cc.Changes[0].GetNodeId() != 0 {
			t.Fatalf("raft was told %v", cc)
		}
		return &raftpb.ConfState{Voters: []uint64{1}}, nil
	}
	index, term := uint64(2), uint64(1)
	e.Index, e.Term = &index, &term
	done, changed, err := a.apply([]*raftpb.Entry{e})
	if err != nil || len(done) != 0 || !changed || told != 1 {
		t.Fatalf("results %v, changed %v, raft told %d times, error %v", done, changed, told, err)
	}
	if after, err := decodeMembers(state.Meta); err != nil || state.Index != 2 || !proto.Equal(after.meta, founding.meta) {
		t.Fatalf("the record at index %d is %v (%v), was %v", state.Index, after, err, founding.meta)
	}
}
