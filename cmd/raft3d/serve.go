package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"raft3d/farm"
	"raft3d/httpapi"
	"raft3d/kvstore"
	"raft3d/raftnode"
	"raft3d/wal"
)

// drainTimeout bounds how long a node that ends waits for the answers that it owes.
const drainTimeout = 10 * time.Second

// handOverTimeout bounds an attempt to have another node lead.
const handOverTimeout = 5 * time.Second

// server is one running node, from the top down: what is named first is ended first. It owns a goroutine for each of
// its watchers, all started in startServer and joined in close.
type server struct {
	log *slog.Logger

	api     *httpapi.Server
	clients *port // serves api

	stopWatching context.CancelFunc
	watchers     sync.WaitGroup
	notJoined    chan error // at most one: why this node could not become a member

	node  *raftnode.Node
	peers *port // serves node

	store *kvstore.Store
	state string // the store's file
	disk  *wal.Log
}

// gcPercent is how much a node's heap may grow before it is collected, in percent of what lives. Nearly all that a node
// allocates dies with its call, and what lives is small, since the state is in the page cache: at Go's 100 a fifth of a
// busy node's time went into collecting some megabytes again and again. GOGC in the environment wins.
//
// A node that lost its state holds the log since its last snapshot until it has applied that, and is collected the more often:
// at 50 its height beside 850,000 entries was 630 to 660 MB, at Go's 100 800 to 850, for a tenth more of CPU.
const (
	gcPercent        = 400
	gcPercentAtStart = 50
)

// committedData is how many committed entries a node that has its state reads with their data: more than it keeps for slow
// followers (raftnode.Config.KeepEntries), and more than its state may lack (kvstore writes 1024 commands at once).
const committedData = 10_000

// serve runs a node until ctx ends, which is no error, or until the node must stop.
func serve(ctx context.Context, o options, log *slog.Logger) error {
	clients, err := openPort("http", o.httpListen, o.httpAdv, httpapi.ServerTimeouts, httpapi.Short, log)
	if err != nil {
		return err
	}
	defer clients.close()
	peers, err := openPort("raft", o.raftListen, o.raftAdv, peerLimits, nil, log)
	if err != nil {
		return err
	}
	defer peers.close()

	s, err := startServer(ctx, o, clients, peers, log)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil // it was asked to end while it still waited for a cluster
		}
		return err
	}
	select {
	case <-ctx.Done():
		log.Info("ending: asked to")
	case <-s.node.Done():
		err = s.node.Err()
	case err = <-s.notJoined:
	case err = <-clients.failed:
	case err = <-peers.failed:
	}
	err = errors.Join(err, s.close(err == nil))
	if errors.Is(err, raftnode.ErrRemoved) {
		log.Info("ended: this node was removed from its cluster; to bring the machine back, start it with an empty"+
			" data directory and -join", "dir", o.dataDir)
		return nil
	}
	if err == nil {
		log.Info("ended in good order")
	}
	return err
}

// peerLimits bounds the time for a header; what follows one may be a stream that stays open for weeks.
func peerLimits(s *http.Server) { s.ReadHeaderTimeout = 5 * time.Second }

// startServer starts everything from the disk up. After an error nothing is left running or open but the ports.
func startServer(ctx context.Context, o options, clients, peers *port, log *slog.Logger) (_ *server, err error) {
	s := &server{log: log, clients: clients, peers: peers, notJoined: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeDisk(false))
		}
	}()
	figures := newMetrics()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercentAtStart)
	}
	logConfig := wal.Config{Logger: log, ObserveSync: figures.observeSync}
	if wal.Sealed(statePath(o.dataDir)) || kvstore.Survived(o.dataDir) {
		logConfig.CommittedData = committedData // else all of the log is to be applied again
	}
	dir, err := openDirectory(ctx, o, clients.address, logConfig, log)
	if err != nil {
		return nil, err
	}
	o.id, s.disk, s.state = dir.rec.Identity.Name, dir.log, statePath(o.dataDir)

	// A state that was not sealed by a clean end is not to be believed: it is built again from the log.
	intact, err := wal.Unseal(s.state)
	if err != nil {
		return nil, fmt.Errorf("look for the seal of %s: %w", s.state, err)
	}
	if s.store, err = kvstore.Open(o.dataDir, kvstore.Options{Keep: intact, Logger: log, History: o.history}); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.dataDir, err)
	}
	kept, _ := s.store.Applied()

	this := thisBuild()
	s.node, err = raftnode.Start(raftnode.Config{
		Name: o.id, RaftAddr: peers.address, HTTPAddr: clients.address, Version: this.version,
		Heartbeat: o.heartbeat, Election: o.election,
		SnapshotBytes: o.snapshotBytes, SnapshotEntries: o.snapshotEntries,
		Logger: log, ObserveApply: figures.observeApply,
	}, dir.log, dir.rec, s.store)
	if err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	peers.use(s.node.PeerHandler())

	watch, stop := context.WithCancel(context.Background()) // not ctx: they end in their turn, in close
	s.stopWatching = stop
	space := &diskWatch{
		dir: o.dataDir, statePath: s.state, minFree: o.minFree, log: log, freeBytes: freeBytes,
		handOver: func(ctx context.Context) bool { return leadElsewhere(ctx, s.node, log) },
	}
	space.look(watch) // before the first call, so that none slips in
	s.watchers.Go(func() { space.watch(watch) })
	figures.watchDisk(s.disk, s.state, space)
	figures.registry.MustRegister(nodeMetrics{s.node})

	db := kvstore.NewDB(s.store, proposals{s.node})
	s.api = httpapi.New(httpapi.Config{
		Farm: db, Cluster: cluster{s.node}, Logger: log,
		Registry: figures.registry, Build: httpapi.Build{Version: this.version, Commit: this.commit},
		DiskNearlyFull: space.nearlyFull, Failed: s.node.Err,
	})
	clients.use(s.api.Handler())
	log.Info("serving", "member", o.id, "http", clients.address, "raft", peers.address, "dir", o.dataDir,
		"version", this.version, "state_kept", kept > 0)
	s.watchers.Go(func() { caughtUp(watch, db) })
	if dir.joins != nil {
		s.watchers.Go(func() { s.join(watch, dir, o.id) })
	}
	return s, nil
}

// caughtUp waits until the log is applied that was there at the start, and does what had to wait for it. It reads the
// state for that, which is what a state must stand before it is gone on with after a kill (docs/decisions/0012): nobody else
// may ask this node for weeks.
func caughtUp(ctx context.Context, db *kvstore.DB) {
	if err := db.View(ctx, farm.ReadOptions{}, func(farm.View) error { return nil }); err != nil {
		return // the node ends, or cannot read its state, as whoever asks it is told
	}
	if os.Getenv("GOGC") == "" {
		debug.FreeOSMemory()
		debug.SetGCPercent(gcPercent)
	}
}

// join makes this node a member of the cluster that its directory was made for.
func (s *server) join(ctx context.Context, dir *directory, name string) {
	err := dir.joins.become(ctx, membership{
		ID: name, Raft: s.peers.address, HTTP: s.clients.address,
		MemberID: fmt.Sprintf("%016x", dir.rec.Identity.MemberID),
	})
	switch {
	case err == nil:
		s.log.Info("joined the cluster", "member", name)
	case ctx.Err() == nil:
		s.notJoined <- err
	}
}

// close ends everything from the top down, and returns when it has ended. inOrder is false when the node cannot go
// on as it should; its state is then not sealed, and the next start builds it again.
func (s *server) close(inOrder bool) error {
	s.api.Drain()
	if inOrder {
		// Still a member, and leading if it did: what it has taken on is decided as ever.
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		if err := s.clients.drain(ctx); err != nil {
			s.log.Warn("not every call was answered", "waited", drainTimeout, "err", err)
		}
		cancel()
	}
	s.clients.close()
	s.stopWatching()
	s.watchers.Wait()
	err := s.node.Close() // hands the leadership over first
	s.peers.close()
	return errors.Join(err, s.closeDisk(inOrder && err == nil))
}

// closeDisk closes the store and the log, as far as they are open, and seals the store where that is wanted and
// everything went well until then: the seal says that state.db is whole.
func (s *server) closeDisk(seal bool) error {
	var errs []error
	try := func(what string, f func() error) {
		if err := f(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if s.store != nil {
		if seal {
			try("sync the store", s.store.Sync)
		}
		try("close the store", s.store.Close)
		if seal && len(errs) == 0 {
			try("seal the store", func() error { return wal.Seal(s.state) })
		}
	}
	if s.disk != nil {
		try("close the log", s.disk.Close)
	}
	return errors.Join(errs...)
}

// leadElsewhere gives the leadership away, if another can take it. It is false where this node does not have it.
func leadElsewhere(ctx context.Context, node *raftnode.Node, log *slog.Logger) bool {
	if node.Status().Role != "leader" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if leader, err := node.TransferLeader(ctx, ""); err != nil {
		log.Warn("leadership could not be handed over", "err", err)
	} else {
		log.Info("handed the leadership over", "leader", leader)
	}
	return true
}
