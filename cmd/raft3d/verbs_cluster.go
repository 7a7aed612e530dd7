package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"raft3d/client"
)

// The verbs for the cluster itself.

func clusterVerbs() []verb {
	return []verb{
		{name: "status", usage: "the cluster: who leads, how far everybody is", example: "raft3d status -server=http://pi1:8001",
			do: func(ctx context.Context, c *invocation) error { return c.members(ctx, true) }},
		{name: "members", usage: "the nodes of the cluster", verbs: []verb{
			{name: "list", usage: "list the nodes", example: "raft3d members list",
				do: func(ctx context.Context, c *invocation) error { return c.members(ctx, false) }},
			{name: "add", args: "NAME", usage: "admit a node, before it is started (-join does it by itself)",
				example: "raft3d members add node4 -raft=pi4:9001 -http=pi4:8001",
				flags: []cli.Flag{
					needed(textFlag("raft", "`HOST:PORT` where the other nodes call it")),
					needed(textFlag("http", "`HOST:PORT` where clients call it")),
					&cli.BoolFlag{Name: "learner", HideDefault: true, Local: true, Usage: "it never becomes a voter by itself"},
				},
				do: func(ctx context.Context, c *invocation) error {
					voter := !c.Bool("learner")
					var m client.Member
					return c.call(ctx, client.AddMember(client.NewMember{
						ID: c.args[0], Raft: c.String("raft"), HTTP: c.String("http"), Voter: &voter,
					}), &m, func() error { return c.say("member %s admitted as a %s", clean(m.ID), clean(m.Role)) })
				}},
			{name: "rm", args: "NAME", usage: "remove a node for ever; it stops by itself", example: "raft3d members rm node3",
				flags: []cli.Flag{&cli.BoolFlag{Name: "force", HideDefault: true, Local: true,
					Usage: "although no quorum of live nodes would be left"}},
				do: func(ctx context.Context, c *invocation) error {
					return c.call(ctx, client.RemoveMember(c.args[0], c.Bool("force")), nil, func() error {
						return c.say("member %s removed", c.args[0])
					})
				}},
			{name: "promote", args: "NAME", usage: "make a learner that has caught up a voter", example: "raft3d members promote node4",
				do: func(ctx context.Context, c *invocation) error {
					var m client.Member
					return c.call(ctx, client.PromoteMember(c.args[0]), &m, func() error {
						return c.say("member %s is a %s", clean(m.ID), clean(m.Role))
					})
				}},
		}},
		{name: "transfer-leader", args: "[NAME]", usage: "lead elsewhere: on that node, or on the best one", example: "raft3d transfer-leader node2",
			do: func(ctx context.Context, c *invocation) error {
				to := ""
				if len(c.args) > 0 {
					to = c.args[0]
				}
				var moved struct{ Leader string }
				return c.call(ctx, client.TransferLeader(to), &moved, func() error { return c.say("%s leads", clean(moved.Leader)) })
			}},
		{name: "snapshot", usage: "have a node write a snapshot and drop the log before it", example: "raft3d snapshot -server=http://pi1:8001",
			patience: 2 * time.Minute,
			do: func(ctx context.Context, c *invocation) error {
				var s client.Snapshot
				return c.call(ctx, client.TakeSnapshot(), &s, func() error {
					return c.say("snapshot of %s at index %d, term %d, revision %d", size(s.Bytes), s.Index, s.Term, s.Revision)
				})
			}},
	}
}

// members shows the cluster's nodes, after what they agree on where summary is wanted.
func (c *invocation) members(ctx context.Context, summary bool) error {
	var s client.Status
	return c.call(ctx, client.Request{Method: http.MethodGet, Path: client.ClusterPath}, &s, func() error {
		if summary {
			leader := orDash(s.Leader)
			if err := c.say("cluster %s, leader %s, term %d, revision %d\nas %s sees it, at index %d of %d\n",
				clean(s.ClusterID), clean(leader), s.Term, s.Revision, clean(s.Member), s.AppliedIndex, s.CommitIndex); err != nil {
				return err
			}
		}
		t := newTable(c.stdout, []column{{title: "NAME"}, {title: "ROLE"}, {title: "HTTP"}, {title: "RAFT"}, {title: "MATCH", right: true},
			{title: "CONTACT", right: true}, {title: "VERSION"}}, c.as(asWide))
		for _, m := range s.Members {
			match, contact := "-", "-"
			if m.MatchIndex != nil {
				match = strconv.FormatUint(*m.MatchIndex, 10)
			}
			if m.LastContactMs != nil {
				contact = fmt.Sprintf("%.0f ms", *m.LastContactMs)
			}
			if err := t.add(m.ID, m.Role, m.HTTP, m.Raft, match, contact, orDash(m.Version)); err != nil {
				return err
			}
		}
		return t.end()
	})
}
