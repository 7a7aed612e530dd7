//go:build unix

package damage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"raft3d/farm"
	"raft3d/kvstore"
	"raft3d/raftnode"
	"raft3d/wal"
)

// segments has a log read as serve reads it, with the data of its end only.
var segments = wal.Config{SegmentBytes: 16 << 10, CommittedData: 10}

var identity = wal.Identity{ClusterID: 1, MemberID: 1, Name: "node1", Founder: true}

// member is a node that is alone, without its ports.
type member struct {
	disk  *wal.Log
	store *kvstore.Store
	node  *raftnode.Node
	db    *kvstore.DB
}

// log is the node as the store's DB wants it.
type log struct{ *raftnode.Node }

func (l log) Propose(ctx context.Context, cmd []byte) (any, error) { return l.Node.Propose(ctx, cmd) }

// start opens a directory as the program does. The error is what an operator would be told.
func start(dir string) (_ *member, err error) {
	m := &member{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.end(false))
		}
	}()
	var rec wal.Recovered
	if wal.Exists(dir) {
		m.disk, rec, err = wal.Open(dir, segments)
	} else if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		return m, fmt.Errorf("%s has %s but no log: keep it aside", dir, left[0])
	} else {
		if m.disk, err = wal.Create(dir, identity, segments); err == nil {
			rec = wal.Recovered{Identity: identity, Incarnation: m.disk.Incarnation()}
		}
	}
	if err != nil {
		return m, err
	}
	state := filepath.Join(dir, "state.db")
	intact, err := wal.Unseal(state)
	if err != nil {
		return m, err
	}
	if m.store, err = kvstore.Open(dir, kvstore.Options{Keep: intact}); err != nil {
		return m, err
	}
	m.node, err = raftnode.Start(raftnode.Config{
		Name: "node1", RaftAddr: "127.0.0.1:1", HTTPAddr: "127.0.0.1:2", Version: "test",
		Heartbeat: 5 * time.Millisecond, Election: 50 * time.Millisecond, SnapshotEntries: 60, Logger: slog.New(slog.DiscardHandler),
	}, m.disk, rec, m.store)
	if err != nil {
		return m, err
	}
	m.db = kvstore.NewDB(m.store, log{m.node})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.node.ReadBarrier(ctx); err != nil {
		return m, errors.Join(err, m.node.Err())
	}
	return m, nil
}

// end stops the node; in order, its state is kept for the next start.
func (m *member) end(inOrder bool) error {
	var errs []error
	if m.node != nil {
		errs = append(errs, m.node.Close())
	}
	if m.store != nil {
		if inOrder {
			errs = append(errs, m.store.Sync())
		}
		errs = append(errs, m.store.Close())
	}
	if m.disk != nil {
		errs = append(errs, m.disk.Close())
	}
	return errors.Join(errs...)
}

// farmOf is what a node holds: its revision and the hash over all changes.
type farmOf struct {
	revision uint64
	hash     [32]byte
}

func (m *member) farm(ctx context.Context) (f farmOf, err error) {
	err = m.db.View(ctx, farm.ReadOptions{}, func(v farm.View) error { f.revision = v.Revision(); return nil })
	_, f.hash = m.store.Hash()
	return f, err
}

// create adds the nth printer, and returns the farm with it.
func (m *member) create(ctx context.Context, n int) (farmOf, error) {
	c := farm.CreatePrinter{
		Text:    farm.Text{ID: farm.ID(fmt.Sprint("p", n)), Notes: strings.Repeat("x", n*137%2000)},
		Company: "Prusa", Model: "MK4",
	}
	if _, err := m.db.Do(ctx, c, farm.Stamp{At: farm.Time(n) + 1_700_000_000_000, Actor: "t"}); err != nil {
		return farmOf{}, err
	}
	return m.farm(ctx)
}

// write adds the printers of these numbers, and returns the farm after each.
func (m *member) write(t testing.TB, from, to int) (after []farmOf) {
	t.Helper()
	for n := from; n < to; n++ {
		f, err := m.create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		after = append(after, f)
	}
	return after
}
