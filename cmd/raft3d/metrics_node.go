package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"raft3d/raftnode"
)

// nodeMetrics reads what the node counts when Prometheus asks.
type nodeMetrics struct{ node *raftnode.Node }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("raft3d_"+name, help, labels, nil)
}

var (
	leaderChanges = describe("leader_changes_total", "Times that this node found another leader, the first one included.")
	snapshots     = describe("snapshots_total", "Snapshots that this node took of its state, sent to a follower, or installed from a leader.", "kind")
	repeated      = describe("proposals_repeated_total", "Changes that were handed to a leader again, since the first time may have been lost; each is applied once.")
	compared      = describe("state_comparisons_total", "Times that this node compared its state with the other voters'.")
	differing     = describe("state_differing_peers", "Voters whose state was another one than this node's when last compared: something is wrong on one of them.")
	diverged      = describe("state_diverged", "1 where this node stops, since its state is not that of the majority, else 0.")
	refusedTotal  = describe("peer_messages_refused_total", "Messages of peers that contradict what this node knows, and were dropped.")

	peerConnected = describe("peer_connected", "1 while this node's stream to the peer stands, else 0.", "peer")
	peerQueued    = describe("peer_queue_messages", "Messages that wait to be sent to the peer.", "peer")
	peerSent      = describe("peer_sent_messages_total", "Messages sent to the peer.", "peer")
	peerReceived  = describe("peer_received_messages_total", "Messages received from the peer.", "peer")
	peerDropped   = describe("peer_dropped_messages_total", "Messages for the peer that were lost on this side; raft repeats them.", "peer")
	peerInvalid   = describe("peer_invalid_messages_total", "Messages from the peer of a wrong form, and streams that ended in a broken frame.", "peer")
)

// Describe implements prometheus.Collector.
func (m nodeMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leaderChanges, snapshots, repeated, refusedTotal, compared, differing, diverged,
		peerConnected, peerQueued, peerSent, peerReceived, peerDropped, peerInvalid} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m nodeMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c := m.node.Counters()
	count(leaderChanges, c.LeaderChanges)
	count(snapshots, c.SnapshotsTaken, "taken")
	count(snapshots, c.SnapshotsSent, "sent")
	count(snapshots, c.SnapshotsInstalled, "installed")
	count(repeated, c.ProposalsRepeated)
	count(refusedTotal, c.MessagesRefused)
	count(compared, c.Compared)
	ch <- prometheus.MustNewConstMetric(differing, prometheus.GaugeValue, float64(c.Differing))
	ours := 0.0
	if c.Diverged {
		ours = 1
	}
	ch <- prometheus.MustNewConstMetric(diverged, prometheus.GaugeValue, ours)
	for name, p := range m.node.Peers() {
		connected := 0.0
		if p.Connected {
			connected = 1
		}
		ch <- prometheus.MustNewConstMetric(peerConnected, prometheus.GaugeValue, connected, name)
		ch <- prometheus.MustNewConstMetric(peerQueued, prometheus.GaugeValue, float64(p.Queued), name)
		count(peerSent, p.Sent, name)
		count(peerReceived, p.Received, name)
		count(peerDropped, p.Dropped, name)
		count(peerInvalid, p.Invalid, name)
	}
}
