package kvstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

func feedOf(v farm.View, q farm.EventQuery) ([]string, error) {
	events := []string{}
	err := v.Events(q, func(_ uint64, event []byte) error {
		events = append(events, string(event))
		return nil
	})
	return events, err
}

// revisions are those of the events that q selects.
func (s *shop) revisions(q farm.EventQuery) []uint64 {
	s.Helper()
	return seen(s, func(v farm.View) (found []uint64, err error) {
		err = v.Events(q, func(revision uint64, event []byte) error {
			if !bytes.HasPrefix(event, fmt.Appendf(nil, `{"revision":%d,"time":"`, revision)) {
				return fmt.Errorf("at revision %d is %s", revision, event)
			}
			found = append(found, revision)
			return nil
		})
		return found, err
	})
}

func TestTheFeedShowsWhatItsReaderAsksFor(t *testing.T) {
	s := newShop(t)
	s.must(printer("p1"))                                                                              // 1
	s.must(spool("p1.x", 1000*farm.Gram))                                                              // 2: an id that begins like the other's
	s.must(spool("f1", 1000*farm.Gram))                                                                // 3
	s.must(job("p1", "p1", "f1", farm.Gram))                                                           // 4, and 5 the spool: a job with a printer's id
	s.must(to("p1", farm.Running))                                                                     // 6, and 7 the printer
	s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p1", Notes: ptr(`,"kind":"filament","id":"f1"`)}}) // 8
	for _, c := range []struct {
		query farm.EventQuery
		want  []uint64
	}{
		{farm.EventQuery{}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{farm.EventQuery{Since: 6}, []uint64{7, 8}},
		{farm.EventQuery{Since: 8}, nil},
		{farm.EventQuery{Since: 9}, nil},
		{farm.EventQuery{Since: math.MaxUint64}, nil},
		{farm.EventQuery{Limit: 3}, []uint64{1, 2, 3}},
		{farm.EventQuery{Since: 2, Limit: 2}, []uint64{3, 4}},
		{farm.EventQuery{Kind: farm.KindPrinter}, []uint64{1, 7, 8}},
		{farm.EventQuery{Kind: farm.KindPrinter, Since: 1, Limit: 1}, []uint64{7}},
		{farm.EventQuery{Kind: farm.KindFilament}, []uint64{2, 3, 5}},
		{farm.EventQuery{ID: "p1"}, []uint64{1, 4, 6, 7, 8}},
		{farm.EventQuery{ID: "p1", Kind: farm.KindJob}, []uint64{4, 6}},
		{farm.EventQuery{ID: "f1"}, []uint64{3, 5}},
		{farm.EventQuery{ID: "p"}, nil},
		{farm.EventQuery{Kind: "print"}, nil},
	} {
		if got := s.revisions(c.query); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.query, got, c.want)
		}
	}
}

func TestADeletionIsToldWithTheObjectAsItWas(t *testing.T) {
	s := busy(t)
	was := s.get(farm.KindJob, "j3")
	r := s.must(farm.Delete{Kind: farm.KindJob, ID: "j3"})
	events := seen(s, func(v farm.View) ([]string, error) { return feedOf(v, farm.EventQuery{Since: r.Revision - 1}) })
	if len(events) != 1 || !strings.HasSuffix(events[0], `"action":"deleted","actor":"tester","object":`+was+"}") {
		t.Fatalf("%s\nwas %s", events, was)
	}
}

func TestAFeedEndsWhereItsReaderSays(t *testing.T) {
	s := busy(t)
	enough := errors.New("enough")
	err := s.View(t.Context(), farm.ReadOptions{}, func(v farm.View) error {
		return v.Events(farm.EventQuery{}, func(revision uint64, _ []byte) error {
			if revision > 1 {
				t.Errorf("revision %d after the end", revision)
			}
			return enough
		})
	})
	if err != enough {
		t.Fatal(err)
	}
}

// oldest is the oldest revision that is kept; whoever has seen the one before reads on, whoever has not is told.
func (s *shop) oldest() uint64 {
	s.Helper()
	return seen(s, func(v farm.View) (uint64, error) {
		oldest := v.Oldest()
		if _, err := feedOf(v, farm.EventQuery{Since: oldest - 1}); err != nil {
			return 0, err
		}
		if oldest == 1 {
			return oldest, nil
		}
		events, err := feedOf(v, farm.EventQuery{Since: oldest - 2})
		if gone := refusalOf(s, err); gone.Kind != farm.Gone || gone.Oldest != oldest || len(events) > 0 {
			s.Errorf("before %d: %+v, %v", oldest, gone, events)
		}
		return oldest, nil
	})
}

func TestTheNewestHistoryIsKept(t *testing.T) {
	dir := t.TempDir()
	s := shopOn(t, openStore(t, dir, Options{History: 10}))
	if oldest := s.oldest(); oldest != 1 {
		t.Fatalf("of nothing, %d is the oldest", oldest)
	}
	for i := uint64(1); i <= 30; i++ {
		s.must(printer(farm.ID(fmt.Sprint("p", i))))
		if oldest, want := s.oldest(), max(i, 10)-9; oldest != want {
			t.Fatalf("after %d changes %d is the oldest, want %d", i, oldest, want)
		}
	}
	index, _ := s.store.Applied()
	var batch [][]byte
	for i := range 25 {
		batch = append(batch, encode(t, printer(farm.ID(fmt.Sprint("q", i))), farm.Stamp{At: s.now}))
	}
	apply(t, s.store, index+25, batch...)
	if oldest := s.oldest(); oldest != 46 {
		t.Fatalf("after a batch longer than the history %d is the oldest", oldest)
	}
	if got := s.revisions(farm.EventQuery{Since: 45}); len(got) != 10 {
		t.Fatalf("%v are kept", got)
	}

	// Told to keep less, it gets there by and by.
	if err := errors.Join(s.store.Sync(), s.store.Close()); err != nil {
		t.Fatal(err)
	}
	s = shopOn(t, openStore(t, dir, Options{Keep: true, History: 3}))
	for i := range 7 {
		s.must(printer(farm.ID(fmt.Sprint("r", i))))
		if oldest, want := s.oldest(), uint64(46+2*(i+1)); oldest != want {
			t.Fatalf("after %d more %d is the oldest, want %d", i+1, oldest, want)
		}
	}
	s.must(printer("s"))
	if oldest := s.oldest(); oldest != 61 {
		t.Fatalf("%d is the oldest", oldest)
	}
}

// history is every event that is kept.
func (s *shop) history() []string {
	s.Helper()
	return seen(s, func(v farm.View) ([]string, error) { return feedOf(v, farm.EventQuery{Since: v.Oldest() - 1}) })
}

// Format 2 stored each event as the feed tells it. A state from then is gone on with, and becomes one of this format.
func TestAStateOfFormat2IsGoneOnWith(t *testing.T) {
	dir := t.TempDir()
	old := busyOn(t, openStore(t, dir, Options{}))
	told := old.history()
	err := old.store.current.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(eventsBucket)
		for i, event := range told {
			if err := bucket.Put(revisionKey(uint64(i)+1), []byte(event)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	putFormat(t, old.store, "2")
	received := newStore(t)
	if err := errors.Join(received.Restore(bytes.NewReader(snapshotOf(t, old.store))), old.store.Close()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*shop{"kept": shopOn(t, openStore(t, dir, Options{Keep: true})), "received": shopOn(t, received)} {
		if got := s.history(); !slices.Equal(got, told) {
			t.Fatalf("%s: the history is\n%s\nit was\n%s", name, strings.Join(got, "\n"), strings.Join(told, "\n"))
		}
		before := s.revisions(farm.EventQuery{Kind: farm.KindJob, ID: "j1"})
		s.must(to("j1", farm.Done))
		s.must(farm.Delete{Kind: farm.KindJob, ID: "j1"})
		if got := s.history(); !slices.Equal(got[:len(told)], told) {
			t.Errorf("%s: the history is now\n%s\nit was\n%s", name, strings.Join(got, "\n"), strings.Join(told, "\n"))
		}
		if got := s.revisions(farm.EventQuery{Kind: farm.KindJob, ID: "j1"}); len(got) != len(before)+2 {
			t.Errorf("%s: j1 was changed at %v and then twice: %v", name, before, got)
		}
		err := s.store.current.db.View(func(tx *bbolt.Tx) error {
			if now := string(tx.Bucket(metaBucket).Get(formatKey)); now != fmt.Sprint(format) {
				t.Errorf("%s: written to, it is of format %s", name, now)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnObjectIsStoredOnceUntilItChanges(t *testing.T) {
	s := newShop(t)
	length := func(revision uint64) (n int) {
		return seen(s, func(v farm.View) (int, error) {
			return len(v.(view).tx.Bucket(eventsBucket).Get(revisionKey(revision))), nil
		})
	}
	s.must(printer("p"))
	short := length(1)
	s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p", Notes: ptr("x")}})
	object := s.get(farm.KindPrinter, "p")
	if now := length(1); now <= short || length(2) != short {
		t.Errorf("the first event takes %d bytes and took %d, the second %d", now, short, length(2))
	}
	s.must(farm.Delete{Kind: farm.KindPrinter, ID: "p"})
	if two, three := length(2), length(3); two != short+len(object) || three != two {
		t.Errorf("the events of the last version take %d and %d bytes, want %d", two, three, short+len(object))
	}
}

func TestAllWhoWaitForAChangeAreWokenByIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := busy(t)
		at := seen(s, func(v farm.View) (uint64, error) { return v.Revision(), nil })
		if err := s.Wait(t.Context(), at-1); err != nil {
			t.Fatal(err)
		}
		woken := make(chan error, 1000)
		for range cap(woken) {
			go func() { woken <- s.Wait(context.Background(), at) }()
		}
		synctest.Wait()
		s.refused(to("j2", farm.Done), farm.Conflict) // changes nothing
		synctest.Wait()
		if len(woken) > 0 {
			t.Fatalf("woken before the change: %v", <-woken)
		}
		s.must(printer("new"))
		for range cap(woken) {
			if err := <-woken; err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestWhoWaitsTooLongIsToldWhy(t *testing.T) {
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	for _, after := range []uint64{100, math.MaxUint64} {
		if err := busy(t).Wait(ctx, after); err != enough {
			t.Errorf("%v", err)
		}
	}
}
