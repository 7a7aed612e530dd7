package raftnode

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3"
)

// A leader that is only slow keeps its place: one whose disk takes seconds for a write, and one that is stopped for less
// than an election timeout. Its followers hear no bad news meanwhile, since its process is there and its port open.
func TestALeaderThatIsOnlySlowKeepsItsPlace(t *testing.T) {
	for name, slow := range map[string]func(c *cluster, lead *member){
		"each write takes 500 ms": func(c *cluster, lead *member) {
			const writeTicks = 25 // of 20 ms
			for range 20 {
				lead.holdsLog = true
				c.run(writeTicks)
				lead.holdsLog = false
				lead.write(1)
				c.settle()
			}
		},
		"it is stopped for most of an election timeout, again and again": func(c *cluster, lead *member) {
			for range 20 {
				// A follower's timeout is at least electionTicks after the heartbeat that it heard last.
				for range c.electionTicks - 2*ticksPerHeartbeat {
					for _, m := range c.members {
						if m != lead {
							m.tick()
						}
					}
				}
				c.run(2 * ticksPerHeartbeat)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 1)
			c.build(3)
			lead := c.leader()
			term := lead.core.term
			for i := range 10 {
				lead.propose(fmt.Sprint("c", i))
			}
			slow(c, lead)
			for _, m := range c.members {
				if m.core.term != term || m.core.lead != lead.id {
					c.fatalf("%d follows %d in term %d; %d led term %d", m.id, m.core.lead, m.core.term, lead.id, term)
				}
			}
			if lead.core.state != raft.StateLeader || len(c.history) != 10 {
				c.fatalf("%d commands were applied", len(c.history))
			}
		})
	}
}
