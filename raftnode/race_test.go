//go:build race

package raftnode

// A schedule is one goroutine, in which there is no race to detect; the detector makes it ten times as slow.
const seedsByDefault = 200
