package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// The paths of the cluster.
const (
	ClusterPath  = "/api/v1/cluster"
	MembersPath  = "/api/v1/cluster/members"
	LeaderPath   = "/api/v1/cluster/leader"
	SnapshotPath = "/debug/snapshot"
)

// longCall is how long a node may take for what moves much: a snapshot, a new leader, a change of members.
const longCall = 60 * time.Second

// Status is the cluster as the node that answered knows it.
type Status struct {
	ClusterID    string   `json:"cluster_id"`
	Member       string   `json:"member"` // the node that answered
	Leader       *string  `json:"leader"` // nil: none is known
	Term         uint64   `json:"term"`
	CommitIndex  uint64   `json:"commit_index"`
	AppliedIndex uint64   `json:"applied_index"`
	Revision     uint64   `json:"revision"`
	Members      []Member `json:"members"`
}

// Member is one node of the cluster.
type Member struct {
	ID            string   `json:"id"`        // its name
	MemberID      string   `json:"member_id"` // 16 hex digits, never used again
	Role          string   `json:"role"`      // leader, voter or learner
	Raft          string   `json:"raft"`      // host:port for the other nodes
	HTTP          string   `json:"http"`      // host:port for clients
	Version       *string  `json:"version"`
	MatchIndex    *uint64  `json:"match_index"`     // how far its log is known to agree
	LastContactMs *float64 `json:"last_contact_ms"` // since the leader heard of it
}

// NewMember is a node to admit.
type NewMember struct {
	ID    string `json:"id"`
	Raft  string `json:"raft"`            // host:port
	HTTP  string `json:"http"`            // host:port
	Voter *bool  `json:"voter,omitempty"` // nil: true, once it has caught up
}

// Snapshot is a snapshot that a node has written.
type Snapshot struct {
	Index    uint64 `json:"index"`
	Term     uint64 `json:"term"`
	Revision uint64 `json:"revision"`
	Bytes    int64  `json:"bytes"`
}

// Status returns the cluster as a node knows it. It needs no quorum.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return fetch[Status](ctx, c, Request{Method: http.MethodGet, Path: ClusterPath})
}

// Members returns the nodes of the cluster.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	status, err := c.Status(ctx)
	return status.Members, err
}

// AddMember admits a node. It is what a node itself does that is started with -join.
func (c *Client) AddMember(ctx context.Context, m NewMember) (Member, error) {
	return fetch[Member](ctx, c, AddMember(m))
}

// AddMember is the call that admits a node.
func AddMember(m NewMember) Request {
	return Request{Method: http.MethodPost, Path: MembersPath, Body: m, Timeout: longCall}
}

// RemoveMember removes a node for ever; it stops by itself. force accepts that no live quorum is left.
func (c *Client) RemoveMember(ctx context.Context, id string, force bool) error {
	_, err := c.Do(ctx, RemoveMember(id, force))
	return err
}

// RemoveMember is the call that removes a node.
func RemoveMember(id string, force bool) Request {
	r := Request{Method: http.MethodDelete, Path: MembersPath + "/" + url.PathEscape(id), Timeout: longCall}
	if force {
		r.Query = url.Values{"force": {"true"}}
	}
	return r
}

// PromoteMember makes a learner that has caught up a voter.
func (c *Client) PromoteMember(ctx context.Context, id string) (Member, error) {
	return fetch[Member](ctx, c, PromoteMember(id))
}

// PromoteMember is the call that makes a learner a voter.
func PromoteMember(id string) Request {
	return Request{Method: http.MethodPost, Path: MembersPath + "/" + url.PathEscape(id) + "/promote", Timeout: longCall}
}

// TransferLeader moves the leadership to the node with that name, or to the best one where id is empty, and returns
// the new leader's name.
func (c *Client) TransferLeader(ctx context.Context, id string) (string, error) {
	moved, err := fetch[struct {
		Leader string `json:"leader"`
	}](ctx, c, TransferLeader(id))
	return moved.Leader, err
}

// TransferLeader is the call that moves the leadership.
func TransferLeader(id string) Request {
	r := Request{Method: http.MethodPost, Path: LeaderPath, Timeout: longCall}
	if id != "" {
		r.Body = map[string]string{"id": id}
	}
	return r
}

// Snapshot has the node that answers write a snapshot now and drop the log before it.
func (c *Client) Snapshot(ctx context.Context) (Snapshot, error) {
	return fetch[Snapshot](ctx, c, TakeSnapshot())
}

// TakeSnapshot is the call that has a node write a snapshot.
func TakeSnapshot() Request {
	return Request{Method: http.MethodPost, Path: SnapshotPath, Timeout: longCall}
}

// Revision returns the newest revision of the farm: every change that was acknowledged before the call is part of it.
func (c *Client) Revision(ctx context.Context) (uint64, error) {
	response, err := c.Do(ctx, Request{Method: http.MethodHead, Path: PrintersPath, Query: url.Values{"limit": {"1"}}})
	if err != nil {
		return 0, err
	}
	return response.Revision, nil
}
