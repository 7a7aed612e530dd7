package raftnode

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"raft3d/raftnode/transport"
)

// adminPath is where members ask the leader for what only the leader may or can do.
const adminPath = "/raft/admin"

// adminRequest is one such question. Every operation can be asked again after an answer was lost: members are
// named by their id, which is never used twice.
type adminRequest struct {
	Op     string `json:"op"` // "add", "remove", "promote", "update", "transfer", "status"
	Member Member `json:"member"`
	Force  bool   `json:"force,omitempty"`
}

type adminAnswer struct {
	Member Member  `json:"member"`
	Status *Status `json:"status,omitempty"`
	Error  *Error  `json:"error,omitempty"`
	Again  bool    `json:"again,omitempty"` // the leader is another one by now, or a change is under way: ask again
}

// retryPause is the wait before a membership call is tried again.
const retryPause = 50 * time.Millisecond

// AddMember makes m a learner of this cluster; unless m.Learner says that it stays one, it becomes a voter by itself
// once it has caught up. It may be called on any member. Without a MemberID one is drawn; with one the call can be
// repeated. A name that a voter has is a Conflict: a node that lost its directory must never take part under its
// old id. A learner that is not heard of any more is replaced.
func (n *Node) AddMember(ctx context.Context, m Member) (Member, error) {
	if m.MemberID == 0 {
		m.MemberID = NewID()
	}
	a, err := n.askLeader(ctx, adminRequest{Op: "add", Member: m})
	return a.Member, err
}

// NewID draws an id for a cluster or a member: 63 random bits, never 0.
func NewID() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails (crypto/rand)
		if id := binary.BigEndian.Uint64(b[:]) >> 1; id != 0 {
			return id
		}
	}
}

// RemoveMember takes the member out of the cluster for ever; its process, if it runs, stops by itself. Removing the
// last voter is a Conflict, and so is, unless force, a removal that would leave no live quorum.
func (n *Node) RemoveMember(ctx context.Context, name string, force bool) error {
	m, err := n.named(name)
	if err != nil {
		return err
	}
	_, err = n.askLeader(ctx, adminRequest{Op: "remove", Member: m, Force: force})
	return err
}

// Promote makes a voter of a learner; a Conflict while it is behind.
func (n *Node) Promote(ctx context.Context, name string) error {
	m, err := n.named(name)
	if err != nil {
		return err
	}
	_, err = n.askLeader(ctx, adminRequest{Op: "promote", Member: m})
	return err
}

// TransferLeader moves the leadership to the named voter, or to the one that is best fit where no name is given,
// and returns who leads then.
func (n *Node) TransferLeader(ctx context.Context, name string) (leader string, err error) {
	m := Member{}
	if name != "" {
		if m, err = n.named(name); err != nil {
			return "", err
		}
	}
	a, err := n.askLeader(ctx, adminRequest{Op: "transfer", Member: m})
	return a.Member.ID, err
}

// ClusterStatus is Status with what only the leader knows: how far each member is, and when it was last heard. Where
// no leader answers it is this node's own.
func (n *Node) ClusterStatus(ctx context.Context) (Status, error) {
	own := n.Status()
	if n.seen.lead.Load() == raft.None {
		return own, nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Election)
	defer cancel()
	a, err := n.askLeader(ctx, adminRequest{Op: "status"})
	if err != nil || a.Status == nil {
		return own, nil
	}
	for i, m := range own.Members {
		for _, l := range a.Status.Members {
			if l.MemberID == m.MemberID {
				own.Members[i].MatchIndex, own.Members[i].LastContact = l.MatchIndex, l.LastContact
				if l.Version != "" {
					own.Members[i].Version = l.Version
				}
			}
		}
	}
	return own, nil
}

func (n *Node) named(name string) (Member, error) {
	m, ok := n.table.Load().byName(name)
	if !ok {
		return Member{}, errorf(NotFound, "id", "no member of this cluster is called %q", name)
	}
	return m.public(), nil
}

func (m memberEntry) public() Member {
	role := "learner"
	if m.voter {
		role = "voter"
	}
	return Member{ID: m.name, MemberID: m.id, Role: role, Raft: m.raft, HTTP: m.http, Learner: m.staysLearner, LastContact: -1}
}

// askLeader asks whoever leads, again and again while the leadership moves, until there is an answer or ctx ends.
func (n *Node) askLeader(ctx context.Context, r adminRequest) (adminAnswer, error) {
	outcome := NotApplied
	for {
		a, sent := n.askOnce(ctx, r)
		if !a.Again {
			if a.Error != nil {
				return a, a.Error
			}
			return a, nil
		}
		if sent {
			outcome = Unknown
		}
		select {
		case <-ctx.Done():
			err := errorf(Unavailable, "", "no leader with a majority of the members confirmed it in time")
			err.Outcome = outcome
			return adminAnswer{}, err
		case <-n.stop:
			return adminAnswer{}, n.stoppedError(outcome)
		case <-time.After(retryPause):
		}
	}
}

// askOnce reports also whether the request may have had an effect, whatever the answer.
func (n *Node) askOnce(ctx context.Context, r adminRequest) (a adminAnswer, sent bool) {
	lead := n.seen.lead.Load()
	switch lead {
	case raft.None:
		return adminAnswer{Again: true}, false
	case n.id:
		return n.serveAdmin(ctx, r), true
	}
	in, err := json.Marshal(r)
	if err != nil {
		return adminAnswer{Error: errorf(Internal, "", "encode request: %v", err)}, false
	}
	status, out, err := n.transport.Call(ctx, lead, adminPath, in)
	if err != nil {
		var call *transport.CallError
		return adminAnswer{Again: true}, !errors.As(err, &call) || call.Sent
	}
	if status != http.StatusOK || json.Unmarshal(out, &a) != nil {
		return adminAnswer{Again: true}, true
	}
	return a, true
}

// answerAdmin is the other end of askOnce.
func (n *Node) answerAdmin(ctx context.Context, _ uint64, in []byte) (status int, out []byte) {
	var r adminRequest
	if err := json.Unmarshal(in, &r); err != nil {
		return http.StatusBadRequest, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*n.cfg.Election)
	defer cancel()
	out, err := json.Marshal(n.serveAdmin(ctx, r))
	if err != nil {
		return http.StatusInternalServerError, nil
	}
	return http.StatusOK, out
}

// serveAdmin answers as the leader.
func (n *Node) serveAdmin(ctx context.Context, r adminRequest) adminAnswer {
	var err error
	a := adminAnswer{Member: r.Member}
	if !n.leads() {
		return adminAnswer{Again: true}
	}
	switch r.Op {
	case "add":
		a.Member, err = n.add1(ctx, r.Member)
	case "remove":
		err = n.remove1(ctx, r.Member, r.Force)
	case "promote":
		err = n.promote1(ctx, r.Member)
	case "update":
		err = n.update1(ctx, r.Member)
	case "transfer":
		a.Member, err = n.transfer1(ctx, r.Member)
	case "status":
		a.Status = n.leaderStatus()
	default:
		err = errorf(Invalid, "op", "unknown request %q: this program is older than the one that asked", r.Op)
	}
	var refused *Error
	switch {
	case err == nil:
		return a
	case errors.Is(err, errNotLeader), errors.Is(err, errChangePending), errors.Is(err, errNewLeader):
		return adminAnswer{Again: true}
	case errors.As(err, &refused) && refused.Kind == Unavailable && refused.Outcome == Unknown && ctx.Err() == nil:
		return adminAnswer{Again: true} // what came of it shows when it is asked again
	case errors.As(err, &refused):
		return adminAnswer{Error: refused}
	}
	return adminAnswer{Error: errorf(Internal, "", "%v", err)}
}

func (n *Node) add1(ctx context.Context, m Member) (Member, error) {
	table := n.table.Load()
	if have, ok := table.byID(m.MemberID); ok && have.name == m.ID {
		if have.raft != m.Raft || have.http != m.HTTP {
			have.raft, have.http = m.Raft, m.HTTP
			return have.public(), n.change(ctx, MemberChange_UPDATE, have.record())
		}
		return have.public(), nil // asked again
	}
	if have, ok := table.byName(m.ID); ok && !have.voter {
		alive, settled := false, false
		n.onLoop(func(c *core) { alive, settled = c.alive(have.id), c.settled() })
		if alive {
			return Member{}, errorf(Conflict, "id", "a learner called %s is in this cluster and alive: choose another -id, or remove it first (DELETE /api/v1/cluster/members/%s)", m.ID, m.ID)
		}
		if !settled {
			return Member{}, errNewLeader
		}
		// A learner never voted and never counted: one that lost its directory may begin again under a new id.
		if err := n.change(ctx, MemberChange_REMOVE, have.record()); err != nil {
			return Member{}, err
		}
	}
	e := memberEntry{id: m.MemberID, name: m.ID, raft: m.Raft, http: m.HTTP, staysLearner: m.Learner}
	return e.public(), n.change(ctx, MemberChange_ADD, e.record())
}

func (n *Node) remove1(ctx context.Context, m Member, force bool) error {
	table := n.table.Load()
	have, ok := table.byID(m.MemberID)
	if !ok {
		if table.removed[m.MemberID] {
			return nil // asked again
		}
		return errorf(NotFound, "id", "no member of this cluster is called %q", m.ID)
	}
	if !force {
		if refusal := n.survivesAwhile(ctx, have.id); refusal != nil {
			return n.unlessNew(refusal)
		}
	}
	if have.id == n.id {
		// Never by itself: its log may be the longest, and its vote needed by one that it could not vote for.
		if _, err := n.handOver(ctx, 0); err != nil {
			return n.unlessNew(err)
		}
		return errNotLeader // the new leader removes this one, without a gap
	}
	return n.change(ctx, MemberChange_REMOVE, have.record())
}

// survivesAwhile is core.survives, which it asks again for an election timeout: on a busy machine a member may be silent for a
// moment, and the operator would be told that it is dead.
func (n *Node) survivesAwhile(ctx context.Context, id uint64) (refusal *Error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Election)
	defer cancel()
	pause := time.NewTicker(n.tickLength())
	defer pause.Stop()
	for {
		n.onLoop(func(c *core) { refusal = c.survives(id) })
		if refusal == nil {
			return nil
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return refusal
		case <-n.stop:
			return refusal
		}
	}
}

func (n *Node) promote1(ctx context.Context, m Member) error {
	have, ok := n.table.Load().byID(m.MemberID)
	if !ok {
		return errorf(NotFound, "id", "no member of this cluster is called %q", m.ID)
	}
	if have.voter {
		return errorf(Conflict, "id", "%s is a voter already", m.ID)
	}
	var behind *Error
	n.onLoop(func(c *core) { behind = c.caughtUp(have.id) })
	if behind != nil {
		return n.unlessNew(behind)
	}
	return n.change(ctx, MemberChange_PROMOTE, have.record())
}

func (n *Node) update1(ctx context.Context, m Member) error {
	have, ok := n.table.Load().byID(m.MemberID)
	if !ok {
		return errorf(NotFound, "id", "no member of this cluster is called %q", m.ID)
	}
	if have.raft == m.Raft && have.http == m.HTTP {
		return nil
	}
	have.raft, have.http = m.Raft, m.HTTP
	return n.change(ctx, MemberChange_UPDATE, have.record())
}

func (n *Node) transfer1(ctx context.Context, m Member) (Member, error) {
	if m.MemberID == n.id {
		return m, nil
	}
	if m.MemberID != 0 {
		have, ok := n.table.Load().byID(m.MemberID)
		switch {
		case !ok:
			return Member{}, errorf(NotFound, "id", "no member of this cluster is called %q", m.ID)
		case !have.voter:
			return Member{}, errorf(Conflict, "id", "%s is a learner, and only a voter can lead; promote it first", m.ID)
		}
	}
	to, err := n.handOver(ctx, m.MemberID)
	if err == errNoSuccessor {
		err = n.unlessNew(err)
	}
	if err != nil {
		return Member{}, err
	}
	have, _ := n.table.Load().byID(to)
	return have.public(), nil
}

// unlessNew is the refusal, where it does not rest on the silence of members that a new leader could not hear yet.
func (n *Node) unlessNew(refusal error) error {
	settled := true
	n.onLoop(func(c *core) { settled = c.settled() })
	if !settled {
		return errNewLeader
	}
	return refusal
}

var errNoSuccessor error = errorf(Conflict, "id", "no other voter is alive that could lead")

// handOver moves the leadership from this node to another one, the best fit where to is 0, and waits until it has
// moved: at most an election timeout, after which raft gives up.
func (n *Node) handOver(ctx context.Context, to uint64) (uint64, error) {
	n.onLoop(func(c *core) {
		if to == 0 {
			to = c.successor()
		}
		if to != 0 {
			c.transfer(to)
		}
	})
	if to == 0 {
		return 0, errNoSuccessor
	}
	deadline := time.NewTimer(n.cfg.Election)
	defer deadline.Stop()
	pause := time.NewTicker(n.tickLength())
	defer pause.Stop()
	for {
		switch lead := n.seen.lead.Load(); lead {
		case raft.None, n.id:
		case to:
			return to, nil
		default:
			return 0, errorf(Conflict, "id", "another member took the leadership meanwhile")
		}
		select {
		case <-pause.C:
		case <-deadline.C:
			return 0, errorf(Unavailable, "id", "the other member did not take the leadership within %v; it stays where it is", n.cfg.Election)
		case <-ctx.Done():
			return 0, errorf(Unavailable, "id", "the other member did not take the leadership in time; it stays where it is")
		case <-n.stop:
			return 0, n.stoppedError(Unknown)
		}
	}
}

// change proposes one membership change and waits until it is applied here or refused. raft takes one at a time and
// drops others without a word; the core notices, and the caller is told to ask again.
func (n *Node) change(ctx context.Context, op MemberChange_Op, m *MemberRecord) error {
	done := make(chan result, 1)
	n.mu.Lock()
	sequence := n.nextChange
	n.nextChange++
	n.changeWaiters[sequence] = done
	n.mu.Unlock()
	err := errNotLeader
	if !n.onLoop(func(c *core) { err = c.proposeChange(&MemberChange{Op: op, Member: m, Sequence: sequence}) }) {
		return n.stoppedError(NotApplied)
	}
	if err == nil {
		select {
		case r := <-done:
			return r.err
		case <-ctx.Done():
			e := errorf(Unavailable, "", "the membership change was not confirmed by a majority of the members in time")
			e.Outcome = Unknown
			err = e
		}
	}
	n.mu.Lock()
	delete(n.changeWaiters, sequence)
	n.mu.Unlock()
	return err
}

// leaderStatus is what only the leader knows.
func (n *Node) leaderStatus() *Status {
	s := n.Status()
	n.onLoop(func(c *core) {
		match := map[uint64]uint64{}
		c.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) { match[id] = pr.Match })
		for i, m := range s.Members {
			s.Members[i].MatchIndex = match[m.MemberID]
			if at, ok := c.heard[m.MemberID]; ok {
				s.Members[i].LastContact = time.Duration(c.now-at) * n.tickLength()
			}
			if m.MemberID == n.id {
				s.Members[i].LastContact = 0
			}
		}
	})
	return &s
}

// runAnnounce tells the cluster this node's addresses where they are not those that the cluster knows, and ends.
func (n *Node) runAnnounce() {
	defer n.joined.Done()
	ticker := time.NewTicker(n.cfg.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
		}
		have, ok := n.table.Load().byID(n.id)
		if !ok {
			continue
		}
		if have.raft == n.cfg.RaftAddr && have.http == n.cfg.HTTPAddr {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*n.cfg.Election)
		have.raft, have.http = n.cfg.RaftAddr, n.cfg.HTTPAddr
		_, err := n.askLeader(ctx, adminRequest{Op: "update", Member: have.public()})
		cancel()
		if err == nil {
			n.logger.Info("told the cluster this member's new addresses", "raft", n.cfg.RaftAddr, "http", n.cfg.HTTPAddr)
			return
		}
	}
}
