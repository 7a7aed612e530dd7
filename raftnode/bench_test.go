package raftnode

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkPropose is one command of 300 bytes from Propose to its result, over three nodes in one process with their own
// logs and loopback between them, where so many propose at once at the leader.
func BenchmarkPropose(b *testing.B) {
	cmd := []byte(strings.Repeat("x", 300))
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint("writers=", writers), func(b *testing.B) {
			c := newTestCluster(b)
			one := c.found("node1")
			c.join("node2", one)
			c.join("node3", one)
			b.ReportAllocs()
			b.ResetTimer()
			share(b, writers, func() error {
				_, err := one.node.Propose(context.Background(), cmd)
				return err
			})
			b.StopTimer() // what the cleanup takes is another matter
		})
	}
}

// BenchmarkReadBarrier is one linearizable read's wait at a follower, where so many wait at once.
func BenchmarkReadBarrier(b *testing.B) {
	for _, readers := range []int{1, 64} {
		b.Run(fmt.Sprint("readers=", readers), func(b *testing.B) {
			c := newTestCluster(b)
			one := c.found("node1")
			c.join("node2", one)
			three := c.join("node3", one)
			b.ReportAllocs()
			b.ResetTimer()
			share(b, readers, func() error { return three.node.ReadBarrier(context.Background()) })
			b.StopTimer()
		})
	}
}

// share has so many goroutines do the b.N operations.
func share(b *testing.B, among int, do func() error) {
	ended := make(chan error, among)
	for i := range among {
		n := b.N / among
		if i < b.N%among {
			n++
		}
		go func() {
			for range n {
				if err := do(); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	for range among {
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}
