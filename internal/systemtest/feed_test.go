//go:build unix

package systemtest

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"raft3d/client"
)

// feedTransport knows which node the feed is read from.
type feedTransport struct {
	*http.Transport
	host atomic.Pointer[string]
}

func (f *feedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == client.EventsPath {
		f.host.Store(&r.URL.Host)
	}
	return f.Transport.RoundTrip(r)
}

// A reader of the feed is thrown from node to node, by the death of each that it reads from, while others write.
func TestAFeedSeesEveryRevisionOnceWhileItsNodesAreKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var servers []string
	for _, n := range c.nodes {
		servers = append(servers, n.http)
	}
	reading := &feedTransport{Transport: &http.Transport{}}
	talk, err := client.New(client.Config{Servers: servers, Transport: reading})
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()

	writing, stopWriting := context.WithCancel(ctx)
	written := make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			if _, err := talk.Printers().Create(writing, client.NewPrinter{Company: "Prusa", Model: "MK4"}); err != nil {
				if writing.Err() != nil {
					err = nil
				}
				written <- err
				return
			}
		}
	}()
	defer func() {
		stopWriting()
		if err := <-written; err != nil {
			t.Errorf("write: %v", err)
		}
	}()

	const deaths, between = 6, 40
	next, killed := uint64(1), (*node)(nil)
	for e, err := range talk.Watch(ctx, client.Feed{}) {
		if err != nil {
			t.Fatalf("at event %d: %v", next, err)
		}
		if e.Revision != next {
			t.Fatalf("event %d follows event %d", e.Revision, next-1)
		}
		if next++; next%between != 0 {
			continue
		}
		turn := int(next / between)
		if killed != nil {
			killed.start()
			killed.awaitReady()
		}
		if turn > deaths {
			break
		}
		host := *reading.host.Load()
		killed = c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.http == host })]
		killed.kill()
	}
	if next < deaths*between {
		t.Errorf("the feed ended at event %d", next)
	}
}
