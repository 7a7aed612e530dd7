package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"raft3d/raftnode"
	"raft3d/wal"
)

// directory is a node's data directory, opened: whose it is and what its log remembers.
type directory struct {
	log *wal.Log
	rec wal.Recovered

	// joins is set while the node has asked nobody, or nobody with success, to be made a member.
	joins *joiner
}

// statePath is the file of the store in a data directory.
func statePath(dir string) string { return filepath.Join(dir, "state.db") }

// openDirectory opens o's data directory, or makes it when it is empty, as -bootstrap or -join say. With -join it
// may wait long for a cluster that answers. What is on disk wins over both.
func openDirectory(ctx context.Context, o options, httpAdv string, config wal.Config, log *slog.Logger) (*directory, error) {
	if wal.Exists(o.dataDir) {
		return reopenDirectory(ctx, o, httpAdv, config, log)
	}
	if err := refuseLeftovers(o.dataDir); err != nil {
		return nil, err
	}
	identity := wal.Identity{MemberID: raftnode.NewID(), Name: o.id}
	d := &directory{}
	switch {
	case o.bootstrap:
		identity.ClusterID, identity.Founder = raftnode.NewID(), true
	case len(o.join) > 0:
		d.joins = newJoiner(o, httpAdv, log)
		found, err := d.joins.cluster(ctx)
		if err != nil {
			return nil, err
		}
		if err := found.refuseVoter(o); err != nil {
			return nil, err
		}
		identity.ClusterID = found.id
	default:
		return nil, usagef("%s is empty: start a new cluster with -bootstrap, or enter one that is there with"+
			" -join=HOST:PORT, the -http address of one of its nodes", o.dataDir)
	}
	l, err := wal.Create(o.dataDir, identity, config)
	if err != nil {
		return nil, fmt.Errorf("make the data directory %s: %w", o.dataDir, err)
	}
	d.log, d.rec = l, wal.Recovered{Identity: identity, Incarnation: l.Incarnation()}
	log.Info("made a new data directory", "dir", o.dataDir, "member", o.id, "founder", identity.Founder)
	return d, nil
}

// reopenDirectory opens a data directory that has a log. A node that died before the cluster took it in goes on
// joining, if -join still says where.
func reopenDirectory(ctx context.Context, o options, httpAdv string, config wal.Config, log *slog.Logger) (_ *directory, err error) {
	l, rec, err := wal.Open(o.dataDir, config)
	if err != nil {
		return nil, fmt.Errorf("open the data directory %s: %w", o.dataDir, err)
	}
	d := &directory{log: l, rec: rec}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if o.idGiven && rec.Identity.Name != o.id {
		return nil, usagef("%s belongs to %s, not to -id=%s: start it with -id=%[2]s, or give another -data", o.dataDir,
			rec.Identity.Name, o.id)
	}
	if rec.Identity.Founder || rec.Snapshot != nil || len(rec.Entries) > 0 {
		return d, nil
	}
	o.id = rec.Identity.Name
	if len(o.join) == 0 {
		log.Warn("this node was made to join a cluster and has heard nothing of it yet; -join says where it is",
			"member", o.id, "dir", o.dataDir)
		return d, nil
	}
	d.joins = newJoiner(o, httpAdv, log)
	found, err := d.joins.cluster(ctx)
	if err != nil {
		return nil, err
	}
	if found.id != rec.Identity.ClusterID {
		return nil, usagef("%s was made to join cluster %016x, but -join leads to cluster %016x: give the address of a node"+
			" of the first, or another -data", o.dataDir, rec.Identity.ClusterID, found.id)
	}
	return d, nil
}

// refuseLeftovers finds what a directory without a log must not have: its log was lost, and the rest would be
// written over.
func refuseLeftovers(dir string) error {
	for _, pattern := range []string{statePath(dir), filepath.Join(dir, "snap", "*.snap")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("look into %s: %w", dir, err)
		}
		if len(found) > 0 {
			return fmt.Errorf("%s has %s but no log: this is what is left of a node that lost part of its disk; keep it"+
				" aside, remove the member from its cluster if it has others, and start with an empty directory",
				dir, filepath.Base(found[0]))
		}
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("-data=%s is a file, not a directory", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the data directory: %w", err)
	}
	return nil
}
