package main

import (
	"context"
	"errors"

	"raft3d/farm"
	"raft3d/raftnode"
)

// proposals is the node as kvstore sees it: a log that takes commands. Its errors are the farm's.
type proposals struct{ node *raftnode.Node }

func (p proposals) Propose(ctx context.Context, cmd []byte) (any, error) {
	result, err := p.node.Propose(ctx, cmd)
	return result, refusal(err)
}

func (p proposals) ReadBarrier(ctx context.Context) error { return refusal(p.node.ReadBarrier(ctx)) }

// cluster is the node as httpapi sees it. Its errors are the farm's.
type cluster struct{ node *raftnode.Node }

func (c cluster) Status() raftnode.Status { return c.node.Status() }

func (c cluster) ClusterStatus(ctx context.Context) (raftnode.Status, error) {
	status, err := c.node.ClusterStatus(ctx)
	return status, refusal(err)
}

func (c cluster) AddMember(ctx context.Context, m raftnode.Member) (raftnode.Member, error) {
	added, err := c.node.AddMember(ctx, m)
	return added, refusal(err)
}

func (c cluster) RemoveMember(ctx context.Context, id string, force bool) error {
	return refusal(c.node.RemoveMember(ctx, id, force))
}

func (c cluster) Promote(ctx context.Context, id string) error {
	return refusal(c.node.Promote(ctx, id))
}

func (c cluster) TransferLeader(ctx context.Context, id string) (string, error) {
	leader, err := c.node.TransferLeader(ctx, id)
	return leader, refusal(err)
}

func (c cluster) TakeSnapshot(ctx context.Context) (index, term uint64, bytes int64, err error) {
	index, term, bytes, err = c.node.TakeSnapshot(ctx)
	return index, term, bytes, refusal(err)
}

// kinds maps what raftnode refuses to what the farm's callers understand. What is missing is a fault of this node.
var kinds = map[raftnode.ErrorKind]farm.ErrorKind{
	raftnode.Invalid:     farm.Invalid,
	raftnode.NotFound:    farm.NotFound,
	raftnode.Conflict:    farm.Conflict,
	raftnode.Unavailable: farm.Unavailable,
	raftnode.Overloaded:  farm.Overloaded,
}

// refusal turns an error of raftnode into the farm's, which httpapi renders; the two packages do not know each
// other. Any other error stays as it is.
func refusal(err error) error {
	var e *raftnode.Error
	if !errors.As(err, &e) {
		return err
	}
	kind, ok := kinds[e.Kind]
	if !ok {
		return err
	}
	refused := &farm.Error{Kind: kind, Field: e.Field, Detail: e.Detail}
	if kind == farm.Unavailable {
		refused.Outcome = farm.Outcome(e.Outcome)
	}
	return refused
}
