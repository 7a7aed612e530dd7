package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"raft3d/kvstore"
	"raft3d/raftnode"
	"raft3d/wal"
)

const recoverRisk = `recover -force-new-cluster makes a new cluster of what one node has, without asking the others.

  - Whatever this node had not heard of when it stopped is lost, acknowledged or not. What it had heard of is kept; a
    change that was told to have failed may be among it, where the old cluster had dropped it and this node not yet.
  - If a majority of the old cluster still runs, or comes back, there will be two farms that take jobs for the same
    printers. Stop the other nodes first, and never start them again with their old data directories.
  - If a majority of the old nodes can be started again, do that instead: nothing is lost then. If there is a newer
    backup, raft3d restore may lose less.

The data directory of the old node is not changed. Of several survivors take the one whose log ends in the highest
term, and of those the one with the highest index: this verb says both, and with -dry-run does nothing else.
To go on, say -i-know-the-others-are-dead.`

func recoverVerb() verb {
	text := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Local: true, OnlyOnce: true, Usage: usage}
	}
	yes := func(name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, HideDefault: true, Local: true, Usage: usage}
	}
	return verb{
		name: "recover", usage: "begin a new cluster with what the last node of an old one has",
		example: "raft3d recover -force-new-cluster -data=./data/node2 -to=./data/node2-new -i-know-the-others-are-dead",
		local:   true,
		flags: []cli.Flag{
			yes("force-new-cluster", "what is to be done; there is no other way to recover"),
			text("data", "`DIR` of the node that is left, which must not run"),
			text("to", "`DIR` to be made for the new cluster; empty or not there"),
			text("id", "`NAME` of the node that the new cluster begins with (that of the old one)"),
			yes("dry-run", "only say how far the log of the node goes"),
			yes("i-know-the-others-are-dead", "the other nodes are stopped and never come back"),
		},
		do: func(_ context.Context, c *invocation) error { return c.recover() },
	}
}

func (c *invocation) recover() error {
	from, to := c.String("data"), c.String("to")
	switch {
	case !c.Bool("force-new-cluster"):
		return usagef("recover needs -force-new-cluster; raft3d recover -h tells what that is")
	case from == "":
		return usagef("recover needs -data=DIR, the data directory of the node that is left")
	case !c.Bool("dry-run") && to == "":
		return usagef("recover needs -to=DIR, a new directory for the new cluster: the old one is not changed")
	case !c.Bool("dry-run") && !c.Bool("i-know-the-others-are-dead"):
		return usagef("%s", recoverRisk)
	}
	disk, rec, err := wal.OpenOffline(from)
	if errors.Is(err, wal.ErrInUse) {
		return fmt.Errorf("%w: the node runs; stop it first", err)
	}
	if errors.Is(err, fs.ErrNotExist) && !wal.Exists(from) {
		return fmt.Errorf("%s holds no node: -data must be the data directory of the one that is left", from)
	}
	if err != nil {
		return err
	}
	defer disk.Close()
	if rec.Snapshot == nil && len(rec.Entries) == 0 {
		return fmt.Errorf("%s has nothing to begin with: this node never heard of its cluster", from)
	}
	term, index := rec.Snapshot.GetTerm(), rec.Snapshot.GetIndex()
	if n := len(rec.Entries); n > 0 {
		term, index = rec.Entries[n-1].GetTerm(), rec.Entries[n-1].GetIndex()
	}
	if err := c.say("%s is node %s of cluster %016x.\nIts log ends in term %d at index %d, of which it knows %d as committed.",
		from, rec.Identity.Name, rec.Identity.ClusterID, term, index, rec.HardState.GetCommit()); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return nil
	}
	id := c.String("id")
	if id == "" {
		id = rec.Identity.Name
	}
	made, err := recoverInto(disk, rec, id, to)
	if err != nil {
		return fmt.Errorf("recover %s: %w", from, err)
	}
	return c.say(`%s holds a new cluster, %016x, with all of that log, to its end: revision %d, as of %s.
What it did not know as committed is in it too: it may have been acknowledged.
%s
Keep %s until you are sure, and never start it again.`,
		made.dir, made.cluster, made.from.Revision, made.from.Time, made.nextSteps(), from)
}

// recoverInto makes a backup of what the log of a stopped node has, and restores it.
func recoverInto(disk *wal.Offline, rec wal.Recovered, id, dir string) (_ *restored, err error) {
	if err := refuseInhabited(filepath.Clean(dir)); err != nil {
		return nil, err
	}
	scratch, err := wal.Prepare(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	store, err := kvstore.Open(scratch, kvstore.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var snapshot io.ReadCloser
	if rec.Snapshot != nil {
		if snapshot, err = disk.OpenSnapshot(rec.Snapshot); err != nil {
			return nil, err
		}
		defer snapshot.Close()
	}
	if err := raftnode.Replay(rec, snapshot, store); err != nil {
		return nil, err
	}
	backup, write := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := kvstore.NewDB(store, offline{}).Backup(context.Background(), fmt.Sprintf("%016x", rec.Identity.ClusterID), write)
		written <- errors.Join(err, write.CloseWithError(err))
	}()
	made, err := restoreInto(backup, id, dir)
	backup.CloseWithError(io.ErrClosedPipe) // where it was not read to its end
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return made, err
}

// offline is the log of a store that has no cluster.
type offline struct{}

func (offline) Propose(context.Context, []byte) (any, error) {
	return nil, errors.New("there is no cluster to propose to")
}

func (offline) ReadBarrier(context.Context) error { return nil }
