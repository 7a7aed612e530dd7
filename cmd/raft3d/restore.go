package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"raft3d/kvstore"
	"raft3d/raftnode"
	"raft3d/wal"
)

func restoreVerb() verb {
	return verb{
		name: "restore", args: "FILE", usage: "begin a new cluster with what a backup holds", example: "raft3d restore farm.backup -id=node1 -data=./data/node1",
		local: true,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "id", Value: defaultID, Sources: flagEnv("id"), Local: true, OnlyOnce: true,
				Usage: "`NAME` of the node that the new cluster begins with"},
			&cli.StringFlag{Name: "data", Sources: flagEnv("data"), Local: true, OnlyOnce: true,
				Usage: "`DIR` to be made for it; empty or not there (./data/NAME)"},
		},
		do: func(_ context.Context, c *invocation) error {
			return c.restore(c.args[0], c.String("id"), c.String("data"))
		},
	}
}

// restore makes a data directory of a backup.
func (c *invocation) restore(path, id, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory: restore reads a file that raft3d backup wrote", path)
	}
	p := newProgress(c.stderr, "restore", info.Size())
	defer func() { p.end() }()
	made, err := restoreInto(io.TeeReader(f, p), id, dir)
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	p.end()
	return c.say("%s holds a new cluster, %016x, with all that the backup has: revision %d of cluster %s, as of %s.\n%s",
		made.dir, made.cluster, made.from.Revision, made.from.ClusterID, made.from.Time, made.nextSteps())
}

// restored is a data directory that a new cluster can begin with.
type restored struct {
	dir, id string
	cluster uint64
	from    kvstore.BackupInfo
}

func (r *restored) nextSteps() string {
	return fmt.Sprintf(`Its changes are counted from revision %d on, so that no client takes them for those of before.
Start it:       raft3d -id=%s -data=%s -bootstrap
The others:     each with an empty data directory, and -join=HOST:PORT of this one`, r.from.Revision+kvstore.RevisionGap+1, r.id, r.dir)
}

// restoreInto makes dir a data directory in which node id begins a new cluster with the state of a backup, which it
// reads to its end. Until all of that is on the disk it has another name, beside dir: after a crash, whenever it
// happens, there is all of dir or nothing.
func restoreInto(backup io.Reader, id, dir string) (_ *restored, err error) {
	if err := checkName(id); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = filepath.Join("data", id)
	}
	dir = filepath.Clean(dir)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if err := refuseInhabited(dir); err != nil {
		return nil, err
	}
	prepared, err := wal.Prepare(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(prepared))
		}
	}()
	r := &restored{dir: dir, id: id, cluster: raftnode.NewID()}
	if r.from, err = kvstore.ReadBackup(backup, prepared); err != nil {
		return nil, err
	}
	if err := foundIn(prepared, wal.Identity{ClusterID: r.cluster, MemberID: raftnode.NewID(), Name: id, Founder: true}); err != nil {
		return nil, err
	}
	if err := vacate(dir); err != nil {
		return nil, err
	}
	return r, wal.Install(prepared, dir)
}

// vacate removes dir, which is empty or not there: os.Rename takes no directory's place.
func vacate(dir string) error {
	err := syscall.Rmdir(dir)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%s: a disk is mounted there: name a directory on it instead, such as -data=%s", dir, filepath.Join(dir, "data"))
	}
	if inhabited := refuseInhabited(dir); inhabited != nil {
		return inhabited
	}
	return fmt.Errorf("%s: take the empty directory's place: %w", dir, err)
}

// foundIn founds a cluster in a directory that has a state and no log. The state is then in the snapshot that the log
// begins with, and the first start makes its file from that.
func foundIn(dir string, identity wal.Identity) error {
	store, err := kvstore.Open(dir, kvstore.Options{Keep: true})
	if err != nil {
		return err
	}
	disk, err := wal.Create(dir, identity, wal.Config{})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	err = raftnode.Found(disk, store)
	if err = errors.Join(err, disk.Close(), store.Close()); err != nil {
		return err
	}
	return os.Remove(statePath(dir))
}

// refuseInhabited refuses a place for a data directory where something is.
func refuseInhabited(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%w; -data must name a directory that is empty or not there", err)
	case len(entries) == 0:
		return nil
	case wal.Exists(dir):
		return fmt.Errorf("%s holds a node already, which is not touched; give another -data, or move it away first", dir)
	}
	return fmt.Errorf("%s is not empty (it has %s); give another -data, or move that away first", dir, strings.TrimSpace(entries[0].Name()))
}
