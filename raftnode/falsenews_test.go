package raftnode

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3"
)

// A follower that hears that the leader's process is gone forgets it and stands. Where that is wrong, the others still
// hear the leader and do not vote: as long as those who were told so are no majority, the leader stays, and its term.
// Messages are late here, and one member may really be cut off from the leader all the time.
func TestFalseNewsOfItsDeathUnseatsNoLiveLeader(t *testing.T) {
	stood := 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+1)
			c := newCluster(t, seed+1)
			c.electionTicks = 3 * ticksPerHeartbeat
			rng := rand.New(rand.NewPCG(seed+1, 3))
			voters := 2 + rng.IntN(4)
			c.build(uint64(voters))
			lead := c.leader()
			term := lead.core.term
			doubting := func(m *member) bool {
				return m != lead && (m.core.lead != lead.id || c.cuts[[2]uint64{lead.id, m.id}])
			}
			if rng.IntN(2) == 0 && voters > 2 { // of two, the leader alone would be no majority
				m := c.members[1+rng.IntN(voters-1)]
				c.cuts[[2]uint64{lead.id, m.id}], c.cuts[[2]uint64{m.id, lead.id}] = true, true
			}
			var late []*packet
			for range 300 {
				doubters := 0
				for _, m := range c.members {
					if doubting(m) {
						doubters++
					}
				}
				if m := c.members[rng.IntN(voters)]; m != lead && (doubting(m) || doubters+1 < voters/2+1) {
					m.step(input{down: []uint64{lead.id}})
				}
				c.network, late = append(late, c.network...), nil
				for len(c.network) > 0 && rng.IntN(3) == 0 {
					late = append(late, c.take(rng.IntN(len(c.network))))
				}
				c.run(1)
				for _, m := range c.members {
					if m.core.state == raft.StatePreCandidate {
						stood++
					}
				}
				if lead.core.state != raft.StateLeader || lead.core.term != term {
					c.fatalf("%d led term %d, and was unseated", lead.id, term)
				}
			}
		})
	}
	if stood == 0 && !t.Failed() {
		t.Error("nobody ever stood")
	}
}
