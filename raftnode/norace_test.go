//go:build !race

package raftnode

const seedsByDefault = 2000
