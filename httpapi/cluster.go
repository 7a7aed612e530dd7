package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"raft3d/farm"
	"raft3d/raftnode"
)

// member is a node of the cluster as it is sent.
type member struct {
	ID            string   `json:"id"`
	MemberID      string   `json:"member_id"` // 16 hex digits
	Role          string   `json:"role"`
	Raft          string   `json:"raft"`
	HTTP          string   `json:"http"`
	Version       *string  `json:"version"`         // null: not known
	MatchIndex    *uint64  `json:"match_index"`     // null: not known
	LastContactMs *float64 `json:"last_contact_ms"` // null: not known, or never
}

func memberOf(m raftnode.Member) member {
	sent := member{ID: m.ID, MemberID: memberID(m.MemberID), Role: m.Role, Raft: m.Raft, HTTP: m.HTTP}
	if m.Version != "" {
		sent.Version = &m.Version
	}
	if m.MatchIndex != 0 {
		sent.MatchIndex = &m.MatchIndex
	}
	if m.LastContact >= 0 {
		ms := float64(m.LastContact.Microseconds()) / 1000
		sent.LastContactMs = &ms
	}
	return sent
}

func memberID(id uint64) string { return fmt.Sprintf("%016x", id) }

// showCluster answers with the cluster as the leader knows it, or as this node does where no leader answers: it is
// most wanted when there is none.
func (s *Server) showCluster(ctx context.Context, c *call) error {
	st, err := s.cluster.ClusterStatus(ctx)
	if err != nil {
		st = s.cluster.Status()
	}
	revision := s.currentRevision(ctx)
	c.w.setRevision(revision)
	sent := struct {
		ClusterID    string   `json:"cluster_id"`
		Member       string   `json:"member"`
		Leader       *string  `json:"leader"` // null: none is known
		Term         uint64   `json:"term"`
		CommitIndex  uint64   `json:"commit_index"`
		AppliedIndex uint64   `json:"applied_index"`
		Revision     uint64   `json:"revision"`
		Members      []member `json:"members"`
	}{
		ClusterID: st.ClusterID, Member: st.Member, Term: st.Term,
		CommitIndex: st.CommitIndex, AppliedIndex: st.Applied, Revision: revision,
		Members: make([]member, 0, len(st.Members)),
	}
	if st.Leader != "" {
		sent.Leader = &st.Leader
	}
	for _, m := range st.Members {
		sent.Members = append(sent.Members, memberOf(m))
	}
	return sendJSON(c.w, http.StatusOK, sent)
}

// addMember admits a node. One that drew its member id before it asked may ask again without harm.
func (s *Server) addMember(ctx context.Context, c *call) error {
	var m raftnode.Member
	var id farm.ID
	voter := true
	if err := decode(c.body, fields{
		{"id", identifier(&id)},
		{"raft", address(&m.Raft)},
		{"http", address(&m.HTTP)},
		{"voter", boolean(&voter)},
		{"member_id", hexID(&m.MemberID)},
	}); err != nil {
		return err
	}
	var missing []farm.FieldError
	for name, value := range map[string]string{"id": string(id), "raft": m.Raft, "http": m.HTTP} {
		if value == "" {
			missing = append(missing, farm.FieldError{Field: name, Detail: "is needed"})
		}
	}
	if err := collect(farm.Invalid, missing); err != nil {
		return err
	}
	m.ID = string(id)
	m.Learner = !voter
	m.LastContact = -1
	added, err := s.cluster.AddMember(ctx, m)
	if err != nil {
		return err
	}
	c.w.set("Location", c.route.path+"/"+added.ID)
	return sendJSON(c.w, http.StatusCreated, struct {
		member
		ClusterID string `json:"cluster_id"`
	}{memberOf(added), s.cluster.Status().ClusterID})
}

// removeMember answers with the member as it was.
func (s *Server) removeMember(ctx context.Context, c *call) error {
	force, err := c.query.flag("force")
	if err != nil {
		return err
	}
	removed := s.memberNamed(c.id)
	if err := s.cluster.RemoveMember(ctx, c.id, force); err != nil {
		return err
	}
	return sendJSON(c.w, http.StatusOK, removed)
}

func (s *Server) promoteMember(ctx context.Context, c *call) error {
	if err := s.cluster.Promote(ctx, c.id); err != nil {
		return err
	}
	promoted := s.memberNamed(c.id)
	if promoted.Role != "leader" {
		promoted.Role = "voter" // this node may not have applied the change yet
	}
	return sendJSON(c.w, http.StatusOK, promoted)
}

// memberNamed is the member as this node knows it: with its name alone where it does not.
func (s *Server) memberNamed(id string) member {
	for _, m := range s.cluster.Status().Members {
		if m.ID == id {
			return memberOf(m)
		}
	}
	return member{ID: id}
}

func (s *Server) moveLeader(ctx context.Context, c *call) error {
	var id farm.ID
	if c.body != nil {
		if err := decode(c.body, fields{{"id", identifier(&id)}}); err != nil {
			return err
		}
	}
	leader, err := s.cluster.TransferLeader(ctx, string(id))
	if err != nil {
		return err
	}
	return sendJSON(c.w, http.StatusOK, struct {
		Leader string `json:"leader"`
	}{leader})
}

// address takes host:port.
func address(dst *string) taker {
	return func(value json.RawMessage) *farm.Error {
		if fault := typed(value, "a string", dst); fault != nil {
			return fault
		}
		host, port, err := net.SplitHostPort(*dst)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || number == 0 || !validHost(host) || net.JoinHostPort(host, port) != *dst {
			return &farm.Error{Kind: farm.Invalid, Detail: "must be host:port, without a scheme or a path, such as 192.0.2.1:9001 or [2001:db8::1]:9001"}
		}
		return nil
	}
}

// validHost says whether host is an address, or could be a name.
func validHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	ok := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_'
	}
	return host != "" && len(host) <= 253 && strings.IndexFunc(host, func(r rune) bool { return !ok(r) }) < 0
}

// hexID takes a member id: 16 hex digits, not all 0.
func hexID(dst *uint64) taker {
	return func(value json.RawMessage) *farm.Error {
		var digits string
		if fault := typed(value, "a string", &digits); fault != nil {
			return fault
		}
		id, err := strconv.ParseUint(digits, 16, 64)
		if err != nil || len(digits) != 16 || id == 0 {
			return &farm.Error{Kind: farm.Invalid, Detail: "must be 16 hex digits, not all 0"}
		}
		*dst = id
		return nil
	}
}
