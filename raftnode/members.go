package raftnode

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// metaFormat is the format of Meta that this program writes. A newer one is refused.
const metaFormat = 1

// members is the replicated record of raftnode: who belongs to the cluster, who was removed, and which requests
// were applied. It changes only as the log is applied, on every node alike. Its owner is the applier.
type members struct {
	meta    *Meta
	conf    *raftpb.ConfState
	windows map[uint64]*Window // into meta.Windows, by member id
}

// decodeMembers reads what encode wrote; nil is the record of a node that has no state yet.
func decodeMembers(b []byte) (*members, error) {
	m := &members{meta: &Meta{}, conf: &raftpb.ConfState{}, windows: map[uint64]*Window{}}
	if len(b) == 0 {
		m.meta.Format = metaFormat
		return m, nil
	}
	if err := proto.Unmarshal(b, m.meta); err != nil {
		return nil, fmt.Errorf("decode membership record: %w", err)
	}
	if m.meta.Format != metaFormat {
		return nil, fmt.Errorf("membership record has format %d, this program knows %d: use a newer release", m.meta.Format, metaFormat)
	}
	if err := proto.Unmarshal(m.meta.ConfState, m.conf); err != nil {
		return nil, fmt.Errorf("decode configuration in membership record: %w", err)
	}
	for _, w := range m.meta.Windows {
		m.windows[w.MemberId] = w
	}
	return m, nil
}

// foundingMembers is the record of a cluster of one, as its founder starts it.
func foundingMembers(self *MemberRecord) (*members, error) {
	m, err := decodeMembers(nil)
	if err != nil {
		return nil, err
	}
	m.meta.Term = 1
	m.meta.Members = []*MemberRecord{self}
	return m, m.setConf(&raftpb.ConfState{Voters: []uint64{self.MemberId}})
}

func (m *members) encode() ([]byte, error) { return proto.Marshal(m.meta) }

func (m *members) setConf(conf *raftpb.ConfState) error {
	b, err := proto.Marshal(conf)
	if err != nil {
		return fmt.Errorf("encode configuration %v: %w", conf, err)
	}
	m.conf, m.meta.ConfState = conf, b
	return nil
}

// window is what is remembered of the member's requests; it is empty where there was none. It is for asking only.
func (m *members) window(member uint64) *Window {
	if w := m.windows[member]; w != nil {
		return w
	}
	return &Window{MemberId: member}
}

// admit says whether the request is to be applied, and remembers that it was.
func (m *members) admit(h header) admission {
	w := m.windows[h.member]
	if w == nil {
		w = &Window{MemberId: h.member}
		i, _ := slices.BinarySearchFunc(m.meta.Windows, h.member, func(w *Window, id uint64) int { return cmp.Compare(w.MemberId, id) })
		m.meta.Windows = slices.Insert(m.meta.Windows, i, w)
		m.windows[h.member] = w
	}
	return w.admit(h)
}

func (m *members) find(id uint64) (i int, found bool) {
	return slices.BinarySearchFunc(m.meta.Members, id, func(r *MemberRecord, id uint64) int { return cmp.Compare(r.MemberId, id) })
}

func (m *members) removed(id uint64) bool {
	_, found := slices.BinarySearch(m.meta.Removed, id)
	return found
}

func (m *members) byName(name string) *MemberRecord {
	for _, r := range m.meta.Members {
		if r.Name == name {
			return r
		}
	}
	return nil
}

func (m *members) voter(id uint64) bool { return slices.Contains(m.conf.Voters, id) }

// check says why the change can't be made as the record stands; nil: it can. It is asked by the leader before it
// proposes and, what counts, by every node as the change is applied.
func (m *members) check(c *MemberChange) *Error {
	r := c.GetMember()
	if r == nil {
		return errorf(Invalid, "", "the membership change names no member")
	}
	_, known := m.find(r.MemberId)
	switch c.Op {
	case MemberChange_ADD:
		switch same := m.byName(r.Name); {
		case r.MemberId == raft.None || raft.IsLocalMsgTarget(r.MemberId) || r.Name == "" || r.Raft == "" || r.Http == "":
			return errorf(Invalid, "id", "a member needs an id, a raft address and an http address")
		case m.removed(r.MemberId):
			return errorf(Conflict, "id", "member id %016x was removed from this cluster and is never used again: empty the data directory of %s and join anew", r.MemberId, r.Name)
		case known:
			return errorf(Conflict, "id", "member id %016x is in the cluster already", r.MemberId)
		case same != nil:
			return errorf(Conflict, "id", "%s is a member of this cluster already; a node that lost its data directory must first be removed (DELETE /api/v1/cluster/members/%s), and then join again", r.Name, r.Name)
		}
	case MemberChange_PROMOTE:
		if !known {
			return errorf(NotFound, "id", "no member has the id %016x", r.MemberId)
		}
		if m.voter(r.MemberId) {
			return errorf(Conflict, "id", "%s is a voter already", r.Name)
		}
	case MemberChange_REMOVE:
		if !known {
			return errorf(NotFound, "id", "no member has the id %016x", r.MemberId)
		}
		if m.voter(r.MemberId) && len(m.conf.Voters) == 1 {
			return errorf(Conflict, "id", "%s is the last voter: a cluster without one can decide nothing any more", r.Name)
		}
	case MemberChange_UPDATE:
		if !known {
			return errorf(NotFound, "id", "no member has the id %016x", r.MemberId)
		}
		if r.Raft == "" || r.Http == "" {
			return errorf(Invalid, "raft", "a member needs a raft address and an http address")
		}
	default:
		return errorf(Invalid, "", "unknown membership change %d: this program is too old for its cluster", c.Op)
	}
	return nil
}

// confChange is what raft has to be told of the change. Refused changes keep their place in the log but name no
// node: raft then changes nothing, and its count of pending changes stays right.
func confChange(c *MemberChange, refused bool) (*raftpb.ConfChangeV2, error) {
	context, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode membership change: %w", err)
	}
	kind := raftpb.ConfChangeUpdateNode
	switch c.Op {
	case MemberChange_ADD:
		kind = raftpb.ConfChangeAddLearnerNode
	case MemberChange_PROMOTE:
		kind = raftpb.ConfChangeAddNode
	case MemberChange_REMOVE:
		kind = raftpb.ConfChangeRemoveNode
	}
	id := c.GetMember().GetMemberId()
	if refused {
		kind, id = raftpb.ConfChangeUpdateNode, 0
	}
	return &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{{Type: kind.Enum(), NodeId: &id}},
		Context: context,
	}, nil
}

// confAfter is the configuration that follows from a change. raft finds it out by itself, unless it is elsewhere already.
func confAfter(conf *raftpb.ConfState, cc *raftpb.ConfChangeV2) *raftpb.ConfState {
	t := tracker.MakeProgressTracker(1, 0)
	var err error
	if t.Config, t.Progress, err = confchange.Restore(confchange.Changer{Tracker: t}, conf); err == nil {
		t.Config, t.Progress, err = confchange.Changer{Tracker: t}.Simple(cc.Changes...)
	}
	if err != nil {
		panic(fmt.Sprintf("change configuration %v by %v: %v", conf, cc.Changes, err))
	}
	return t.ConfState()
}

// decodeChange reads the membership change in a conf change entry. An entry that is none comes back as a change
// that check refuses, since it is in the log and every node must do the same with it.
func decodeChange(e *raftpb.Entry) *MemberChange {
	var cc raftpb.ConfChangeV2
	if e.GetType() != raftpb.EntryConfChangeV2 || proto.Unmarshal(e.GetData(), &cc) != nil {
		return &MemberChange{}
	}
	return decodeContext(&cc)
}

// apply makes a change that check let pass; conf is what raft made of it.
func (m *members) apply(c *MemberChange, conf *raftpb.ConfState) error {
	r := c.GetMember()
	i, known := m.find(r.MemberId)
	switch c.Op {
	case MemberChange_ADD:
		m.meta.Members = slices.Insert(m.meta.Members, i, r)
	case MemberChange_REMOVE:
		if known {
			m.meta.Members = slices.Delete(m.meta.Members, i, i+1)
		}
		j, _ := slices.BinarySearch(m.meta.Removed, r.MemberId)
		m.meta.Removed = slices.Insert(m.meta.Removed, j, r.MemberId)
		m.meta.Windows = slices.DeleteFunc(m.meta.Windows, func(w *Window) bool { return w.MemberId == r.MemberId })
		delete(m.windows, r.MemberId)
	case MemberChange_UPDATE:
		m.meta.Members[i].Raft, m.meta.Members[i].Http = r.Raft, r.Http
	}
	return m.setConf(conf)
}

// table is a copy for readers on other goroutines.
func (m *members) table() *memberTable {
	t := &memberTable{removed: map[uint64]bool{}, windows: map[uint64]uint64{}}
	for _, r := range m.meta.Members {
		t.members = append(t.members, memberEntry{
			id: r.MemberId, name: r.Name, raft: r.Raft, http: r.Http, staysLearner: r.Learner, voter: m.voter(r.MemberId),
		})
	}
	for _, id := range m.meta.Removed {
		t.removed[id] = true
	}
	for _, w := range m.meta.Windows {
		t.windows[w.MemberId] = w.Incarnation
	}
	return t
}

// memberTable is the membership as of some applied index. It is immutable.
type memberTable struct {
	members []memberEntry // by member id
	removed map[uint64]bool
	windows map[uint64]uint64 // newest incarnation that proposed something
}

type memberEntry struct {
	id               uint64
	name, raft, http string
	voter            bool
	staysLearner     bool
}

func (t *memberTable) byID(id uint64) (memberEntry, bool) {
	for _, m := range t.members {
		if m.id == id {
			return m, true
		}
	}
	return memberEntry{}, false
}

func (t *memberTable) byName(name string) (memberEntry, bool) {
	for _, m := range t.members {
		if m.name == name {
			return m, true
		}
	}
	return memberEntry{}, false
}

// decodeContext is the membership change that a conf change carries; an empty one where it carries none.
func decodeContext(cc *raftpb.ConfChangeV2) *MemberChange {
	c := &MemberChange{}
	if proto.Unmarshal(cc.GetContext(), c) != nil {
		return &MemberChange{}
	}
	return c
}
