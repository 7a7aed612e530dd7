package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
)

// etcd is etcd 3.7.3 over gRPC, driven by its own Go client. All of a load's clients share o.etcdClients of those: each has
// one connection to each node, and balances over them by itself.
type etcd struct {
	o   *options
	seq atomic.Int64
}

func (*etcd) name() string { return "etcd" }

func (e *etcd) start(ctx context.Context) (*nodes, error) {
	n, err := startNodes(e.o.at, func(n *nodes, node int) *exec.Cmd {
		var cluster []string
		for i, peer := range n.peers {
			cluster = append(cluster, fmt.Sprintf("n%d=http://%s", i, peer))
		}
		client, peer := "http://"+n.clients[node], "http://"+n.peers[node]
		return exec.Command(e.o.etcd, "--name", fmt.Sprint("n", node), "--data-dir", filepath.Join(n.dir, fmt.Sprint("n", node)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--quota-backend-bytes", "8589934592", "--log-level", "error")
	})
	if err != nil {
		return n, err
	}
	return n, until(ctx, "a first write", func(ctx context.Context) bool {
		write, end, err := e.writer(ctx, n, 0)
		if err != nil {
			return false
		}
		defer end()
		return write(ctx) == nil
	})
}

func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(silent{}, silent{}, os.Stderr)) }

type silent struct{}

func (silent) Write(b []byte) (int, error) { return len(b), nil }

func (e *etcd) dial(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// record is a JSON record of 300 bytes.
func record(id string) string {
	b := fmt.Sprintf(`{"id":%q,"company":"Prusa","model":"MK4S","name":"a printer of a measurement","labels":{"room":"b12","row":"7"},"notes":"`, id)
	return b + strings.Repeat("x", 300-2-len(b)) + `"}`
}

func (e *etcd) put(ctx context.Context, c *clientv3.Client) error {
	id := fmt.Sprintf("w%09d", e.seq.Add(1))
	_, err := c.Put(ctx, id, record(id))
	return err
}

func (e *etcd) fill(ctx context.Context, n *nodes, records int) error {
	c, err := e.dial(n.clients...)
	if err != nil {
		return err
	}
	defer c.Close()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range 128 {
		all.Go(func() {
			for i := int(next.Add(1)); i <= records; i = int(next.Add(1)) {
				id := fmt.Sprintf("r%09d", i)
				if _, err := c.Put(ctx, id, record(id)); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if f := failed.Load(); f > 0 {
		return fmt.Errorf("%d records could not be written", f)
	}
	return nil
}

func (e *etcd) load(ctx context.Context, at []string, l load, warmUp, span time.Duration) (measured, error) {
	var clients []*clientv3.Client
	for range min(l.clients, e.o.etcdClients) {
		c, err := e.dial(at...)
		if err != nil {
			return measured{}, err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	call := map[string]func(c *clientv3.Client) error{
		"writes": func(c *clientv3.Client) error { return e.put(ctx, c) },
		"reads":  func(c *clientv3.Client) error { return e.get(ctx, c) },
		"stale":  func(c *clientv3.Client) error { return e.get(ctx, c, clientv3.WithSerializable()) },
		"mixed": func(c *clientv3.Client) error {
			if rand.IntN(10) == 0 {
				return e.put(ctx, c)
			}
			return e.get(ctx, c)
		},
		"lists": func(c *clientv3.Client) error {
			r, err := c.Get(ctx, "r", clientv3.WithPrefix())
			if err == nil && len(r.Kvs) != listed {
				err = fmt.Errorf("a list of %d", len(r.Kvs))
			}
			return err
		},
	}[l.kind]
	took := make([][]time.Duration, l.clients)
	var failed atomic.Int64
	var all sync.WaitGroup
	began := time.Now().Add(warmUp)
	for i := range l.clients {
		all.Go(func() {
			c := clients[i%len(clients)]
			for time.Since(began) < span && ctx.Err() == nil {
				start := time.Now()
				err := call(c)
				if start.Before(began) {
					continue
				}
				if err != nil {
					failed.Add(1)
					continue
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	all.Wait()
	span = time.Since(began)
	flat := slices.Concat(took...)
	if len(flat) == 0 {
		return measured{}, fmt.Errorf("no call of %d succeeded", failed.Load())
	}
	slices.Sort(flat)
	ms := func(q float64) float64 { return float64(flat[int(q*float64(len(flat)-1))].Microseconds()) / 1000 }
	return measured{perSecond: float64(len(flat)) / span.Seconds(), p50: ms(0.5), p99: ms(0.99), calls: float64(len(flat)), failed: failed.Load()}, nil
}

func (e *etcd) get(ctx context.Context, c *clientv3.Client, o ...clientv3.OpOption) error {
	r, err := c.Get(ctx, fmt.Sprintf("r%09d", 1+rand.IntN(1000)), o...)
	if err == nil && len(r.Kvs) != 1 {
		err = fmt.Errorf("%d values", len(r.Kvs))
	}
	return err
}

func (e *etcd) writer(_ context.Context, n *nodes, node int) (func(context.Context) error, func(), error) {
	c, err := e.dial(n.clients[node])
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return e.put(ctx, c)
	}, func() { c.Close() }, nil
}

func (e *etcd) status(ctx context.Context, n *nodes, node int) (*clientv3.StatusResponse, error) {
	c, err := e.dial(n.clients[node])
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.Status(ctx, n.clients[node])
}

func (e *etcd) leader(ctx context.Context, n *nodes) int {
	for i, cmd := range n.procs {
		if cmd == nil {
			continue
		}
		if s, err := e.status(ctx, n, i); err == nil && s.Leader == s.Header.MemberId {
			return i
		}
	}
	return -1
}

func (e *etcd) ready(ctx context.Context, n *nodes, node int) bool {
	// gRPC waits a second after a refused connection before it tries again; a node that does not listen is not asked.
	conn, err := net.DialTimeout("tcp", n.clients[node], time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	c, err := e.dial(n.clients[node])
	if err != nil {
		return false
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = c.Get(ctx, "anything") // linearizable: it has all that was committed before
	return err == nil
}
