package raftnode

import "time"

// Status is what a node knows of its cluster at one moment. Status never blocks on the network when it is this
// node's own; Node.ClusterStatus asks the leader for what only the leader knows.
type Status struct {
	ClusterID   string // 16 hex digits
	Member      string // this node's name
	MemberID    uint64
	Role        string // "leader", "voter", "learner", or "removed"
	Leader      string // the leader's name; empty: none is known
	Term        uint64
	CommitIndex uint64 // the newest entry that a quorum holds, as far as this node knows
	Applied     uint64 // the newest entry in this node's state
	FirstIndex  uint64 // the oldest entry in memory for slow followers
	LastIndex   uint64 // the newest entry in this node's log
	Pending     int    // proposals of this node that wait for their result
	Members     []Member
}

// Member is one node of the cluster as the replicated state has it, with what the leader knows of it.
type Member struct {
	ID       string // the name its operator gave it: node1
	MemberID uint64 // drawn at random when it joined; never used again
	Role     string // "leader", "voter" or "learner"
	Raft     string // host:port for its peers
	HTTP     string // host:port for clients
	Version  string // of its program; empty: not known
	Learner  bool   // stays a learner: it was added with "voter": false

	MatchIndex  uint64        // the newest entry that it is known to hold; 0: not known
	LastContact time.Duration // since the leader last heard it; negative: not known, or never
}
