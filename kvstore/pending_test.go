package kvstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// inFile is the index that the file has, whatever is pending.
func inFile(t testing.TB, s *Store) (index uint64) {
	t.Helper()
	err := s.current.db.View(func(tx *bbolt.Tx) error {
		h, err := readHead(tx)
		index = h.Applied
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestWhatIsAppliedReachesTheFileWhenItIsReadOrHasGrown(t *testing.T) {
	s := newStore(t)
	index := uint64(0)
	creations := func(n int, notes string) {
		var cmds [][]byte
		for range n {
			index++
			p := printer(farm.ID(fmt.Sprint("p", index)))
			p.Notes = notes
			cmds = append(cmds, encode(t, p, farm.Stamp{At: farmtest.Start}))
		}
		apply(t, s, index, cmds...)
	}
	creations(3, "")
	creations(4, "")
	if got := inFile(t, s); got != 0 {
		t.Errorf("the file was written up to index %d, and nobody has looked", got)
	}
	if got, _ := s.Applied(); got != 7 {
		t.Errorf("%d is applied, want 7", got)
	}
	if got := len(shopOn(t, s).list(farm.Query{Kind: farm.KindPrinter})); got != 7 {
		t.Errorf("a reader sees %d printers, want 7", got)
	}
	if got := inFile(t, s); got != 7 {
		t.Errorf("after a reader the file has index %d, want 7", got)
	}
	creations(maxPending, "")
	if got := inFile(t, s); got != index {
		t.Errorf("after %d commands the file has index %d, want %d", maxPending, got, index)
	}
	before := index
	for range maxPending - 1 {
		creations(1, strings.Repeat("x", 2000))
	}
	if got := inFile(t, s); got == before {
		t.Errorf("after %d commands of 2 kB the file still has index %d", index-before, got)
	}
}

func TestAStoreWhoseFileIsDamagedStopsAndStillCloses(t *testing.T) {
	s := busy(t)
	alter(t, s.store, farm.KindFilament, `{"id"`, `["id"`)
	index, _ := s.store.Applied()
	stamp := farm.Stamp{At: farmtest.Start}
	if _, err := s.store.Apply(index+1, [][]byte{encode(t, printer("p9"), stamp), encode(t, to("j1", farm.Done), stamp)}, nil); err == nil {
		t.Fatal("a job was done from a spool that can't be read")
	}
	if _, err := s.store.Apply(index+2, nil, nil); err == nil {
		t.Fatal("the store goes on after it broke")
	}
	if now, _ := s.store.Applied(); now != index {
		t.Errorf("index %d is applied, was %d", now, index)
	}
	if err := s.store.Sync(); err == nil {
		t.Error("a broken store says that it is on the disk")
	}
	if err := s.store.Close(); err == nil {
		t.Error("a broken store closes without a word")
	}
}

func TestAnObjectIsReadAsItIsWhileItIsWritten(t *testing.T) {
	s := newShop(t)
	s.must(printer("p1"))
	acknowledged := &atomic.Uint64{}
	acknowledged.Store(1)
	var readers sync.WaitGroup
	defer readers.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for range 3 {
		readers.Go(func() {
			for ctx.Err() == nil {
				before := acknowledged.Load()
				object, revision, err := s.Get(context.Background(), farm.KindPrinter, "p1", farm.ReadOptions{Stale: true})
				if err != nil {
					t.Error(err)
					return
				}
				// Nothing else changes, so that the object's revision is the farm's.
				if !strings.HasSuffix(string(object), fmt.Sprintf(`,"revision":%d}`, revision)) || revision < before {
					t.Errorf("revision %d was acknowledged, and then at revision %d there is %s", before, revision, object)
					return
				}
			}
		})
	}
	for i := range 2 * maxPending {
		acknowledged.Store(s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p1", Name: ptr(fmt.Sprint(i))}}).Revision)
		if i%10 == 0 {
			if err := s.store.catchUp(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAnObjectThatIsNotPendingIsReadAsARestoreLeftIt(t *testing.T) {
	s, other := newShop(t), newShop(t)
	s.must(farm.CreatePrinter{Text: farm.Text{ID: "p1", Name: "before"}, Company: "Prusa", Model: "MK4"})
	other.must(farm.CreatePrinter{Text: farm.Text{ID: "p1", Name: "restored"}, Company: "Prusa", Model: "MK4"})
	other.must(printer("p2"))
	if err := s.store.Restore(bytes.NewReader(snapshotOf(t, other.store))); err != nil {
		t.Fatal(err)
	}
	s.must(printer("p3")) // is pending, and so is nothing else
	object, _, err := s.Get(context.Background(), farm.KindPrinter, "p1", farm.ReadOptions{})
	if err != nil || !strings.Contains(string(object), `"name":"restored"`) {
		t.Errorf("after the restore there is %s, %v", object, err)
	}
}

func TestWhatIsKeptDecodedIsBounded(t *testing.T) {
	s := newStore(t)
	kept := func() (slots, bytes int) {
		for _, of := range s.memo.slots {
			for _, id := range slices.Sorted(maps.Keys(of)) {
				slots, bytes = slots+1, bytes+len(of[id].raw)
			}
		}
		return slots, bytes
	}
	notes := strings.Repeat("x", farm.MaxNotesLength)
	for index := range uint64(40) {
		var cmds [][]byte
		for i := range 200 {
			p := printer(farm.ID(fmt.Sprintf("p%d-%d", index, i)))
			p.Notes = notes
			cmds = append(cmds, encode(t, p, farm.Stamp{}), encode(t, to(farm.ID(fmt.Sprintf("j%d-%d", index, i)), farm.Running), farm.Stamp{}))
		}
		again := farm.PatchPrinter{Patch: farm.Patch{ID: "p0-0", Name: ptr(fmt.Sprint(index))}}
		apply(t, s, index+1, append(cmds, encode(t, again, farm.Stamp{}))...)
		if err := s.catchUp(); err != nil {
			t.Fatal(err)
		}
		slots, bytes := kept()
		if bytes != s.memo.bytes || bytes > memoBytes {
			t.Fatalf("after %d printers %d bytes are kept, %d counted; want at most %d", (index+1)*200, bytes, s.memo.bytes, memoBytes)
		}
		if least := 200; slots < least || slots > bytes/len(notes) {
			t.Fatalf("after %d printers, and as many jobs that are not there, %d objects are kept in %d bytes", (index+1)*200, slots, bytes)
		}
	}
}
