// Package client talks to a Raft3D cluster from Go: printers, filaments, print jobs, the change feed, the cluster itself.
//
//	c, err := client.New(client.Config{Servers: []string{"http://pi1:8001", "http://pi2:8001", "http://pi3:8001"}})
//	job, err := c.Jobs().Create(ctx, client.NewJob{PrinterID: "mk4", FilamentID: "black", Filepath: "a.gcode", Weight: 120 * client.Gram})
//
// There are four nouns: a Client, a Collection (the objects of one kind), a Request (one call, for whatever has no
// method of its own), and the Event of a feed.
//
// Every node answers everything, so a call is made through whichever answers. One that meets a dead node, an answer that
// was cut off, or a node that is overloaded or without a quorum (429, 502, 503, 504) is made again through the next one,
// with pauses that grow, until it is answered or its context ends: give each call a context with a deadline. A change
// happens once however often it had to be sent, since all attempts of a call carry one Idempotency-Key, drawn at random;
// to be as safe across a restart of your own program, choose the key yourself, in a Request, and keep it.
//
// A call ends in one of three ways: with an answer; with an *Error, the server's no; or with a *GaveUpError, which says
// whether the change may still have happened.
//
// A Client is safe for many goroutines at once and starts none of its own that outlive a call, but for the connections
// that it keeps for the next: Close ends those. This package needs the standard library only. It has types of its own
// for everything, so that a program that uses it builds nothing of the server.
package client

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Config says how to reach a cluster. Only Servers has no default.
type Config struct {
	// Servers are the HTTP addresses of nodes, any one or all of them: "http://pi1:8001", or "pi1:8001" for short. They
	// are tried in this order, beginning with the one that answered last.
	Servers []string

	// Transport carries the requests; nil: one of the client's own, with connections that are kept.
	Transport http.RoundTripper

	// AttemptTimeout is how long one node may take to answer before the next is asked; 0: 10 s, twice what a node itself
	// allows a call to take. Feeds and backups are held to signs of life instead.
	AttemptTimeout time.Duration

	UserAgent string // empty: "raft3d-client"
}

const (
	defaultAttemptTimeout = 10 * time.Second
	dialTimeout           = 3 * time.Second // a machine that is switched off does not refuse, it is silent
	maxAnswerBytes        = 64 << 20        // of one answer that is held in memory
	maxErrorBytes         = 1 << 20         // of an answer that says no
	pageSize              = 250             // objects of a list asked for at once; at their largest, about 15 MB
)

// Client is a way to a cluster. Make it with New.
type Client struct {
	servers        []*url.URL
	http           *http.Client
	attemptTimeout time.Duration
	userAgent      string

	last atomic.Int64 // index in servers of the one that answered last
}

// New returns a Client. It asks nothing of the servers yet; an error says which address is none.
func New(config Config) (*Client, error) {
	c := &Client{
		attemptTimeout: cmp.Or(config.AttemptTimeout, defaultAttemptTimeout),
		userAgent:      cmp.Or(config.UserAgent, "raft3d-client"),
	}
	for _, given := range config.Servers {
		server, err := parseServer(given)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, server)
	}
	if len(c.servers) == 0 {
		return nil, errors.New("no server is given to talk to")
	}
	transport := config.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     50 * time.Second, // the servers' is 60: the client must be the first to hang up
			DisableCompression:  true,
			ForceAttemptHTTP2:   true,
		}
	}
	c.http = &http.Client{
		Transport: transport,
		// A node never redirects; whatever does stands in between, and must not turn a POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func parseServer(given string) (*url.URL, error) {
	address := strings.TrimSpace(given)
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	server, err := url.Parse(strings.TrimRight(address, "/"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("server %q: %w", given, err)
	case server.Scheme != "http" && server.Scheme != "https":
		return nil, fmt.Errorf("server %q: it must begin with http:// or https://", given)
	case server.Host == "" || server.RawQuery != "" || server.Fragment != "":
		return nil, fmt.Errorf("server %q: it must be an address such as http://127.0.0.1:8001", given)
	}
	return server, nil
}

// Close ends the connections that are kept for later calls. Calls under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }
