package raftnode

import "raft3d/raftnode/transport"

// Counters is what a node did since it started, for metrics.
type Counters struct {
	LeaderChanges      uint64 // times that another leader was found, the first one included
	SnapshotsTaken     uint64
	SnapshotsSent      uint64 // to followers that were too far behind
	SnapshotsInstalled uint64 // from a leader
	ProposalsRepeated  uint64 // handed to a leader again, since the first time may have been lost
	MessagesRefused    uint64 // from peers, that contradict what this node knows
	Compared           uint64 // times that this node compared its state with the other voters'
	Differing          uint64 // voters whose state was another one when last compared; not a count over time
	Diverged           bool   // this node stops, since its state is not that of the majority
}

// Counters never blocks.
func (n *Node) Counters() Counters {
	s := &n.seen
	return Counters{
		LeaderChanges: s.elections.Load(), SnapshotsTaken: s.taken.Load(), SnapshotsSent: s.sent.Load(),
		SnapshotsInstalled: s.installed.Load(), ProposalsRepeated: s.repeated.Load(), MessagesRefused: s.refused.Load(),
		Compared: s.compared.Load(), Differing: s.differing.Load(), Diverged: s.diverged.Load() == 1,
	}
}

// Peers is what this node knows of its connections to the others, by their names. It never blocks.
func (n *Node) Peers() map[string]transport.PeerStatus {
	table := n.table.Load()
	peers := map[string]transport.PeerStatus{}
	for _, p := range n.transport.Peers() {
		if m, ok := table.byID(p.ID); ok {
			peers[m.name] = p
		}
	}
	return peers
}
