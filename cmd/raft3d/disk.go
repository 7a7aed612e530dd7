package main

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// diskCheckInterval is how often the free space is looked at. At the 100 MB/s that a card or a small SSD takes at
// best, 5 s are worth 500 MB; what a farm really writes in that time is a few MB.
const diskCheckInterval = 5 * time.Second

// diskWatch knows whether the disk under the data directory is nearly full. One goroutine runs watch; any may ask.
type diskWatch struct {
	dir       string
	statePath string // its size is what the next snapshot will need
	minFree   int64  // bytes that must be free beside it
	log       *slog.Logger
	handOver  func(context.Context) bool // gives the leadership away; false: this node does not lead
	freeBytes func(dir string) (int64, error)

	full atomic.Bool
	free atomic.Int64 // bytes, when last seen

	unseen     bool // owned by whoever calls look: the free space was not known last time
	handedOver bool // the same: the leadership was given away since the disk is nearly full
}

// nearlyFull never blocks.
func (w *diskWatch) nearlyFull() bool { return w.full.Load() }

// watch looks at the disk, not at once but from then on, until ctx ends.
func (w *diskWatch) watch(ctx context.Context) {
	ticker := time.NewTicker(diskCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

// look compares the free space with what is needed once. Space that was short has to grow by a quarter more than
// what is needed before the node creates things again, so that it does not go back and forth.
func (w *diskWatch) look(ctx context.Context) {
	free, err := w.freeBytes(w.dir)
	if err != nil {
		if !w.unseen {
			w.log.Warn("free space not known", "dir", w.dir, "err", err)
		}
		w.unseen = true
		return
	}
	w.unseen = false
	w.free.Store(free)
	need := w.minFree
	if info, err := os.Stat(w.statePath); err == nil {
		need += info.Size()
	}
	switch full := w.full.Load(); {
	case !full && free < need:
		w.full.Store(true)
		w.log.Warn("disk nearly full: nothing new is created", "dir", w.dir, "free_bytes", free, "needed_bytes", need)
	case full && free > need+need/4:
		w.full.Store(false)
		w.handedOver = false
		w.log.Info("disk has room again", "dir", w.dir, "free_bytes", free, "needed_bytes", need)
	}
	// Once, and not each time the lead comes back: where all disks are full it would go round for ever.
	if w.full.Load() && !w.handedOver {
		w.handedOver = w.handOver(ctx)
	}
}
