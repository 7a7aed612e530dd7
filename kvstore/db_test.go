package kvstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

var errNoLeader = errors.New("no leader")

func TestAReadWaitsForTheBarrierUnlessItMayBeStale(t *testing.T) {
	s := busy(t)
	s.log.barrier = func(context.Context) error { return errNoLeader }
	read := func(farm.View) error { return nil }
	if err := s.View(t.Context(), farm.ReadOptions{}, read); !errors.Is(err, errNoLeader) {
		t.Fatalf("a fresh read without a leader: %v", err)
	}
	if err := s.View(t.Context(), farm.ReadOptions{Stale: true}, read); err != nil {
		t.Fatalf("a stale read without a leader: %v", err)
	}
	if err := s.View(t.Context(), farm.ReadOptions{Stale: true}, func(farm.View) error { return errNoLeader }); err != errNoLeader {
		t.Fatalf("the reader's own error came back as %v", err)
	}
}

func TestAReadWaitsUntilTheNodeHasReachedItsRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := busy(t)
		revision := seen(s, func(v farm.View) (uint64, error) { return v.Revision(), nil })
		got := make(chan uint64, 1)
		go func() {
			err := s.View(context.Background(), farm.ReadOptions{Stale: true, MinRevision: revision + 2}, func(v farm.View) error {
				got <- v.Revision()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		s.must(printer("one"))
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("read at %d, a revision too early", <-got)
		}
		s.must(printer("two"))
		if at := <-got; at != revision+2 {
			t.Fatalf("read at %d, want %d", at, revision+2)
		}
	})
}

func TestASnapshotThatIsTakenOverBringsAReaderItsRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead, s := busy(t), newShop(t)
		ended := make(chan error, 1)
		go func() {
			ended <- s.View(context.Background(), farm.ReadOptions{Stale: true, MinRevision: 5}, func(farm.View) error { return nil })
		}()
		synctest.Wait()
		if err := s.store.Restore(bytes.NewReader(snapshotOf(t, ahead.store))); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func TestARevisionThatIsNotReachedInTimeIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := busy(t)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := s.View(ctx, farm.ReadOptions{Stale: true, MinRevision: 1000}, func(farm.View) error {
			t.Error("read")
			return nil
		})
		var refusal *farm.Error
		if !errors.As(err, &refusal) || refusal.Kind != farm.Timeout {
			t.Fatalf("%v", err)
		}
	})
}

func TestAReaderThatWaitsLearnsThatTheStoreIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := busy(t)
		ended := make(chan error, 1)
		go func() {
			ended <- s.View(context.Background(), farm.ReadOptions{Stale: true, MinRevision: 1000}, nil)
		}()
		synctest.Wait()
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		var refusal *farm.Error
		if err := <-ended; !errors.As(err, &refusal) || refusal.Kind != farm.Unavailable {
			t.Fatalf("%v", err)
		}
	})
}

// strangeLog answers with what it was told to.
type strangeLog struct {
	answer   any
	err      error
	proposed int
}

func (l *strangeLog) Propose(context.Context, []byte) (any, error) {
	l.proposed++
	return l.answer, l.err
}

func (l *strangeLog) ReadBarrier(context.Context) error { return nil }

func TestDoReturnsWhatTheLogSays(t *testing.T) {
	unavailable := &farm.Error{Kind: farm.Unavailable, Outcome: farm.Unknown}
	conflict := &farm.Error{Kind: farm.Conflict}
	for name, c := range map[string]struct {
		log  strangeLog
		want string
	}{
		"an error of the log": {strangeLog{err: unavailable}, fmt.Sprint(error(unavailable))},
		"a refusal":           {strangeLog{answer: conflict}, fmt.Sprint(error(conflict))},
		"something else":      {strangeLog{answer: 42}, "do farm.CreatePrinter: the log answered with a int"},
		"a result":            {strangeLog{answer: farm.Result{ID: "p"}}, "<nil>"},
	} {
		result, err := NewDB(nil, &c.log).Do(t.Context(), printer("p"), farm.Stamp{})
		if fmt.Sprint(err) != c.want || (err == nil) != (result.ID == "p") {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}

func TestACommandOfTheWrongFormDoesNotReachTheLog(t *testing.T) {
	log := &strangeLog{}
	for _, c := range []farm.Command{
		farm.CreatePrinter{}, job("j", "p", "f", -5), farm.CreatePrinter{Company: "\xff", Model: "m"}, to("\xff", farm.Done), nil,
	} {
		_, err := NewDB(nil, log).Do(t.Context(), c, farm.Stamp{At: farmtest.Start})
		var refusal *farm.Error
		if !errors.As(err, &refusal) || log.proposed != 0 {
			t.Errorf("%+v: %v, %d proposed", c, err, log.proposed)
		}
	}
}

func TestAResultOutlivesItsTransaction(t *testing.T) {
	s := busy(t)
	result := s.must(farm.PatchJob{Patch: farm.Patch{ID: "j2", Name: ptr("first")}})
	was := string(result.Object)
	for range 50 {
		s.must(farm.PatchJob{Patch: farm.Patch{ID: "j2", Name: ptr(strings.Repeat("x", 100))}})
	}
	if string(result.Object) != was || !strings.Contains(was, `"name":"first"`) {
		t.Fatalf("the object was %s and is %s", was, result.Object)
	}
	if deleted := s.must(farm.Delete{Kind: farm.KindJob, ID: "j3"}); deleted.Object != nil || deleted.ID != "j3" {
		t.Fatalf("%+v", deleted)
	}
}

func ptr[T any](v T) *T { return &v }
