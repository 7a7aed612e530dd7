package main

import (
	"math"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"raft3d/wal"
)

// metrics are the figures of this node that no Status tells: how long its disk and its store take, and how much
// room. httpapi publishes the registry and adds its own; metrics_node.go has what the node counts itself.
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
			Help:    "How long a durable append to the log took, write and fsync; every change waits for one.",
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

// watchDisk adds what the node takes on the disk, read when Prometheus asks.
func (m *metrics) watchDisk(log *wal.Log, state string, space *diskWatch) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("raft3d_wal_size_bytes", "Size of the log's files, allocated ones included.", func() float64 {
		size, _, err := log.Size()
		return orUnknown(size, err)
	})
	gauge("raft3d_snapshots_size_bytes", "Size of the snapshots that are kept.", func() float64 {
		_, size, err := log.Size()
		return orUnknown(size, err)
	})
	gauge("raft3d_store_size_bytes", "Size of the file with this node's state.", func() float64 {
		info, err := os.Stat(state)
		if err != nil {
			return orUnknown(0, err)
		}
		return float64(info.Size())
	})
	gauge("raft3d_disk_free_bytes", "Free space on the disk of the data directory when it was last looked at.", func() float64 {
		return float64(space.free.Load())
	})
	gauge("raft3d_disk_nearly_full", "1 while nothing new is created because the disk is nearly full, else 0.", func() float64 {
		if space.nearlyFull() {
			return 1
		}
		return 0
	})
}

// orUnknown is Prometheus' word for a figure that could not be had.
func orUnknown(size int64, err error) float64 {
	if err != nil {
		return math.NaN()
	}
	return float64(size)
}

func (m *metrics) observeSync(took time.Duration) { m.sync.Observe(took.Seconds()) }

func (m *metrics) observeApply(commands int, took time.Duration) {
	m.apply.Observe(took.Seconds())
	m.commands.Add(float64(commands))
}
