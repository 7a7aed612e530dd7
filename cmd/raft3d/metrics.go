package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the figures of this node that no Status tells: how long its disk and its store take. httpapi publishes
// the registry and adds its own.
type metrics struct {
	registry *prometheus.Registry

	sync     prometheus.Histogram
	apply    prometheus.Histogram
	commands prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "raft3d_wal_fsync_duration_seconds",
			Help:    "How long the log's fsync took; every change waits for one.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15), // 0.1 ms, a good SSD, to 1.6 s, a dying card
		}),
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "raft3d_apply_duration_seconds",
			Help:    "How long it took to apply one batch of committed changes to the store.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
		commands: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "raft3d_applied_commands_total",
			Help: "Commands applied to the store since this node started, refused ones included.",
		}),
	}
	m.registry.MustRegister(m.sync, m.apply, m.commands)
	return m
}

func (m *metrics) observeSync(took time.Duration) { m.sync.Observe(took.Seconds()) }

func (m *metrics) observeApply(commands int, took time.Duration) {
	m.apply.Observe(took.Seconds())
	m.commands.Add(float64(commands))
}
