package kvstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

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
