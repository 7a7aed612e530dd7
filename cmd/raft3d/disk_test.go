package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

func TestANearlyFullDiskIsNoticedOnceAndForgottenWithSomeRoomToSpare(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(state, make([]byte, 300), 0o600); err != nil {
		t.Fatal(err)
	}
	var free int64
	var freeErr error
	handedOver := 0
	w := &diskWatch{
		statePath: state, minFree: 700, log: slog.New(slog.DiscardHandler),
		handOver:  func(context.Context) bool { handedOver++; return true },
		freeBytes: func(string) (int64, error) { return free, freeErr },
	}
	for _, step := range []struct {
		free       int64
		err        error
		full       bool
		handedOver int
	}{
		{5000, nil, false, 0},
		{1000, nil, false, 0}, // 700 and room for a snapshot of 300: just enough
		{999, nil, true, 1},
		{500, nil, true, 1},
		{1100, nil, true, 1}, // enough, but not by a quarter
		{0, errors.New("gone"), true, 1},
		{1251, nil, false, 1},
		{999, nil, true, 2},
		{5000, nil, false, 2},
	} {
		free, freeErr = step.free, step.err
		w.look(t.Context())
		if w.nearlyFull() != step.full || handedOver != step.handedOver {
			t.Errorf("with %d free: full is %v, handed over %d times; want %+v", free, w.nearlyFull(), handedOver, step)
		}
	}
}

func TestANodeThatIsElectedWhileItsDiskIsFullGivesTheLeadAway(t *testing.T) {
	handedOver, leads := 0, false
	w := &diskWatch{
		dir: t.TempDir(), minFree: 700, log: slog.New(slog.DiscardHandler),
		handOver:  func(context.Context) bool { handedOver++; return leads },
		freeBytes: func(string) (int64, error) { return 1, nil },
	}
	w.look(t.Context())
	leads = true
	w.look(t.Context())
	w.look(t.Context()) // it leads again: all disks may be full, and then it stays
	if handedOver != 2 {
		t.Errorf("asked %d times, want once in vain and once with success", handedOver)
	}
}

func TestTheFreeSpaceOfARealDirectoryIsKnown(t *testing.T) {
	if free, err := freeBytes(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("got %d, %v", free, err)
	}
}
