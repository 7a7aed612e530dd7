package raftnode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// twoMembers is an applier as it is behind a log that founded a cluster and took a learner in.
func twoMembers(t testing.TB) (*applier, *listState) {
	t.Helper()
	m, err := foundingMembers(&MemberRecord{MemberId: 1, Name: "node1", Raft: "a:1", Http: "a:2"})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	sm := &listState{listRecord: listRecord{Index: 1, Meta: meta}}
	a, err := newApplier(sm, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	a.configure = func(cc *raftpb.ConfChangeV2) (*raftpb.ConfState, error) { return confAfter(a.members.conf, cc), nil }
	add := changeEntry(t, &MemberChange{Op: MemberChange_ADD, Member: &MemberRecord{MemberId: 2, Name: "node2", Raft: "b:1", Http: "b:2"}})
	if _, _, err := a.apply(entriesOf(2, raftpb.EntryConfChangeV2, add)); err != nil {
		t.Fatal(err)
	}
	return a, sm
}

func changeEntry(t testing.TB, c *MemberChange) []byte {
	t.Helper()
	cc, err := confChange(c, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(cc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func entriesOf(index uint64, kind raftpb.EntryType, datas ...[]byte) (entries []*raftpb.Entry) {
	for i, data := range datas {
		entries = append(entries, &raftpb.Entry{Index: new(index + uint64(i)), Term: new(uint64(1)), Type: &kind, Data: data})
	}
	return entries
}

// FuzzEntries applies arbitrary entries, which any member may have proposed. Nothing panics, two nodes make the same of
// them however they are cut into batches, a request has one effect, and the membership record stays one.
func FuzzEntries(f *testing.F) {
	node3 := &MemberRecord{MemberId: 3, Name: "node3", Raft: "c:1", Http: "c:2"}
	for _, c := range []*MemberChange{
		{Op: MemberChange_ADD, Member: node3}, {Op: MemberChange_PROMOTE, Member: &MemberRecord{MemberId: 2}},
		{Op: MemberChange_REMOVE, Member: &MemberRecord{MemberId: 1}}, {Op: MemberChange_REMOVE, Member: &MemberRecord{MemberId: 2}},
		{Op: MemberChange_UPDATE, Member: &MemberRecord{MemberId: 2, Raft: "d:1", Http: "d:2"}}, {Op: 77, Member: node3}, {},
	} {
		f.Add(int32(raftpb.EntryConfChangeV2), changeEntry(f, c), []byte("x"))
	}
	first := encodeEntry(header{requestID{1, 1, 1}, 1}, []byte("a command"))
	f.Add(int32(raftpb.EntryNormal), first, first)
	f.Add(int32(raftpb.EntryNormal), encodeEntry(header{requestID{2, 1 << 20, 9}, 3}, nil), first)
	f.Add(int32(raftpb.EntryNormal), encodeEntry(header{requestID{1<<64 - 1, 1<<64 - 1, 1<<64 - 2}, 0}, nil), []byte(nil))
	f.Add(int32(raftpb.EntryConfChange), []byte("\x08\x01"), []byte("\xff"))
	f.Fuzz(func(t *testing.T, kind int32, one, other []byte) {
		if raftpb.EntryType_name[kind] == "" {
			return // a message with such an entry is refused
		}
		datas := [][]byte{one, other, one, slices.Concat(one, other), other}
		seen := map[requestID]bool{}
		for _, data := range datas {
			if h, _, err := decodeEntry(data); err == nil {
				if h.sequence == math.MaxUint64 {
					return // which nobody reaches, and a window cannot count beyond
				}
				seen[h.requestID] = true
			}
		}
		a, atOnce := twoMembers(t)
		if _, _, err := a.apply(entriesOf(3, raftpb.EntryType(kind), datas...)); err != nil {
			t.Fatal(err)
		}
		b, oneByOne := twoMembers(t)
		for i, data := range datas {
			if _, _, err := b.apply(entriesOf(3+uint64(i), raftpb.EntryType(kind), data)); err != nil {
				t.Fatal(err)
			}
			wellFormed(t, b.members)
		}
		if x, y := fmt.Sprintf("%+v", atOnce.listRecord), fmt.Sprintf("%+v", oneByOne.listRecord); x != y {
			t.Fatalf("at once:\n%s\none by one:\n%s", x, y)
		}
		if len(oneByOne.Commands) > len(seen) {
			t.Fatalf("%d requests, %d effects", len(seen), len(oneByOne.Commands))
		}
	})
}

// wellFormed holds what every other part of the package believes of the record.
func wellFormed(t *testing.T, m *members) {
	t.Helper()
	meta := m.meta
	names := map[string]bool{}
	for i, r := range meta.Members {
		if i > 0 && meta.Members[i-1].MemberId >= r.MemberId || names[r.Name] || r.Raft == "" || r.Http == "" || m.removed(r.MemberId) {
			t.Fatalf("member %d of %v", i, meta)
		}
		names[r.Name] = true
	}
	if !slices.IsSorted(meta.Removed) || len(m.conf.Voters) == 0 {
		t.Fatalf("removed %x, configuration %v", meta.Removed, m.conf)
	}
	for _, id := range slices.Concat(m.conf.Voters, m.conf.Learners) {
		if _, known := m.find(id); !known {
			t.Fatalf("%x is in the configuration %v, and not in %v", id, m.conf, meta)
		}
	}
	for _, w := range meta.Windows {
		if len(w.Ranges)%2 != 0 || !slices.IsSorted(w.Ranges) {
			t.Fatalf("window %v", w)
		}
	}
	again, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if decoded, err := decodeMembers(again); err != nil || !proto.Equal(decoded.meta, meta) {
		t.Fatalf("%v came back as %v, %v", meta, decoded, err)
	}
}

// FuzzMembers reads arbitrary membership records, as they are in a state from elsewhere.
func FuzzMembers(f *testing.F) {
	a, sm := twoMembers(f)
	f.Add(sm.Meta)
	f.Add([]byte(nil))
	meta := proto.Clone(a.members.meta).(*Meta)
	meta.Format++
	newer, err := proto.Marshal(meta)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(newer)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMembers(b)
		if err != nil {
			return
		}
		m.table()
		if _, err := m.encode(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzCalls gives a node what a peer may send beside raft's messages: it answers, changes nothing that it may not, and
// goes on.
func FuzzCalls(f *testing.F) {
	for _, r := range []adminRequest{
		{Op: "status"}, {Op: "add", Member: Member{ID: "node2", Raft: "127.0.0.1:1", HTTP: "127.0.0.1:2"}}, {Op: "transfer"},
		{Op: "remove", Member: Member{ID: "node1"}, Force: true}, {Op: "promote", Member: Member{ID: "node1"}}, {Op: "?"},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("{"))
	f.Add(make([]byte, compareInBytes))
	f.Add(bytes.Repeat([]byte{0xff}, compareInBytes))
	c := newTestCluster(f)
	node := c.found("node1")
	c.propose(node, "x")
	f.Fuzz(func(t *testing.T, in []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if status, _ := node.node.answerSum(ctx, 2, in); status != 200 && status != 400 && status != 404 {
			t.Fatalf("compare: %d", status)
		}
		status, out := node.node.answerAdmin(ctx, 2, in)
		var a adminAnswer
		if status != 400 && (status != 200 || json.Unmarshal(out, &a) != nil) {
			t.Fatalf("admin: %d %q", status, out)
		}
		if a.Error != nil && a.Error.Kind == Internal {
			t.Fatalf("%q: %v", in, a.Error)
		}
		if err := node.node.Err(); err != nil {
			t.Fatalf("%q ended the node: %v", in, err)
		}
		for _, m := range node.node.Status().Members {
			if m.ID == "node1" {
				continue
			}
			soon, done := context.WithTimeout(t.Context(), time.Minute)
			defer done()
			if err := node.node.RemoveMember(soon, m.ID, true); err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
		}
	})
}
