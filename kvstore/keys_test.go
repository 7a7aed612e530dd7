package kvstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// keyed does c under a key, as the request that the command spells.
func (s *shop) keyed(key string, c farm.Command) (farm.Result, error) {
	s.now += 1000
	return s.Do(context.Background(), c, farm.Stamp{
		At: s.now, NewID: farm.ID(fmt.Sprintf("new-%d", s.now)), Key: key, Fingerprint: sha256.Sum256(fmt.Append(nil, c)),
	})
}

func refusalOf(t testing.TB, err error) *farm.Error {
	t.Helper()
	var refusal *farm.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("%v is no refusal", err)
	}
	return refusal
}

func TestACommandWithAKeyHappensOnce(t *testing.T) {
	s := busy(t)
	for what, c := range map[string]farm.Command{
		"creation": farm.CreateJob{PrinterID: "p1", FilamentID: "f1", Filepath: "x", Weight: farm.Gram},
		"status":   to("j2", farm.Canceled),
		"deletion": farm.Delete{Kind: farm.KindJob, ID: "j3"},
	} {
		first, err := s.keyed(what, c)
		if err != nil || first.Replayed {
			t.Fatalf("%s: %+v, %v", what, first, err)
		}
		was := dump(t, s.store)
		again, err := s.keyed(what, c)
		if first.Replayed = true; err != nil || !reflect.DeepEqual(again, first) {
			t.Errorf("%s: first %+v, again %+v, %v", what, first, again, err)
		}
		if is := dump(t, s.store); is != was {
			t.Errorf("%s: the second left\n%s\nof\n%s", what, is, was)
		}
	}
}

func TestTwoCopiesInOneBatchAreOne(t *testing.T) {
	s := busy(t).store
	cmd := encode(t, farm.CreatePrinter{Company: "c", Model: "m"}, farm.Stamp{At: farmtest.Start, NewID: "a", Key: "k"})
	copied := encode(t, farm.CreatePrinter{Company: "c", Model: "m"}, farm.Stamp{At: farmtest.Start, NewID: "b", Key: "k"})
	index, _ := s.Applied()
	results := apply(t, s, index+2, cmd, copied)
	first, second := results[0].(farm.Result), results[1].(farm.Result)
	if first.Replayed || !second.Replayed || second.ID != "a" || !bytes.Equal(first.Object, second.Object) {
		t.Fatalf("%+v", results)
	}
}

func TestARefusalOfTheFarmIsKeptUnderItsKey(t *testing.T) {
	for what, c := range map[string]struct {
		command farm.Command
		kind    farm.ErrorKind
		cure    farm.Command // after it the command would be allowed
	}{
		"a conflict":               {job("j9", "p1", "f1", 2000*farm.Gram), farm.Conflict, farm.PatchFilament{Patch: farm.Patch{ID: "f1"}, Total: ptr(5000 * farm.Gram), Remaining: ptr(5000 * farm.Gram)}},
		"a transition":             {to("j2", farm.Done), farm.Conflict, nil},
		"a reference":              {job("j9", "p9", "f1", farm.Gram), farm.Invalid, printer("p9")},
		"something that is not":    {to("j9", farm.Running), farm.NotFound, job("j9", "p2", "f1", farm.Gram)},
		"a weight out of range":    {job("j9", "p1", "f1", -1), farm.Invalid, nil},
		"several fields at a time": {farm.CreateJob{Weight: -1}, farm.Invalid, nil},
	} {
		s := busy(t)
		_, err := s.keyed("k", c.command)
		first := refusalOf(t, err)
		if first.Kind != c.kind || first.Replayed {
			t.Errorf("%s: %+v", what, first)
		}
		if c.cure != nil {
			s.must(c.cure)
		}
		was := dump(t, s.store)
		_, err = s.keyed("k", c.command)
		want := *first
		if want.Replayed = true; !reflect.DeepEqual(refusalOf(t, err), &want) {
			t.Errorf("%s: first %+v, again %+v", what, first, err)
		}
		if is := dump(t, s.store); is != was {
			t.Errorf("%s: the second left\n%s\nof\n%s", what, is, was)
		}
	}
}

func TestAFailedConditionIsKeptUnderItsKey(t *testing.T) {
	s := busy(t)
	stamp := farm.Stamp{At: s.now, Key: "k", IfMatch: []uint64{1}}
	_, err := s.Do(t.Context(), to("j2", farm.Canceled), stamp)
	if first := refusalOf(t, err); first.Kind != farm.PreconditionFailed || first.Replayed {
		t.Fatalf("%+v", first)
	}
	_, err = s.Do(t.Context(), to("j2", farm.Canceled), stamp)
	if again := refusalOf(t, err); again.Kind != farm.PreconditionFailed || !again.Replayed {
		t.Fatalf("%+v", again)
	}
}

func TestOfTwoChangesToOneRevisionTheSecondIsRefused(t *testing.T) {
	s := busy(t)
	at := decodeJob(t, s.get(farm.KindJob, "j2")).Revision
	index, _ := s.store.Applied()
	patch := func(name string) []byte {
		return encode(t, farm.PatchJob{Patch: farm.Patch{ID: "j2", Name: &name}}, farm.Stamp{At: s.now, IfMatch: []uint64{at}})
	}
	results := apply(t, s.store, index+2, patch("one"), patch("two"))
	if _, ok := results[0].(farm.Result); !ok {
		t.Fatalf("%+v", results)
	}
	if refusal, ok := results[1].(*farm.Error); !ok || refusal.Kind != farm.PreconditionFailed {
		t.Fatalf("%+v", results)
	}
}

func TestWhatIsWrongInItsFormLeavesItsKeyFree(t *testing.T) {
	s := busy(t)
	if _, err := s.keyed("k", nil); refusalOf(t, err).Kind != farm.Malformed {
		t.Fatal(err)
	}
	index, _ := s.store.Applied() // also where it got into the log, by way of another program
	late := encode(t, printer("p9"), farm.Stamp{At: farm.MaxTime + 1, Key: "k"})
	if refusal, ok := apply(t, s.store, index+1, late)[0].(*farm.Error); !ok || refusal.Kind != farm.Malformed {
		t.Fatalf("%+v", refusal)
	}
	if r, err := s.keyed("k", printer("p9")); err != nil || r.Replayed {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, key := range []string{"\n", "ü", string(make([]byte, farm.MaxKeyLength+1))} {
		if _, err := s.keyed(key, printer("p10")); refusalOf(t, err).Kind != farm.Malformed {
			t.Fatal(err)
		}
	}
}

func TestAKeyIsNotTakenForAnotherRequest(t *testing.T) {
	s := busy(t)
	if _, err := s.keyed("k", printer("p8")); err != nil {
		t.Fatal(err)
	}
	was := dump(t, s.store)
	for range 2 {
		_, err := s.keyed("k", printer("p9"))
		if refusal := refusalOf(t, err); refusal.Kind != farm.Invalid || refusal.Field != "Idempotency-Key" || refusal.Replayed {
			t.Fatalf("%+v", refusal)
		}
	}
	if is := dump(t, s.store); is != was {
		t.Fatalf("it left\n%s\nof\n%s", is, was)
	}
	if r, err := s.keyed("k", printer("p8")); err != nil || !r.Replayed {
		t.Fatalf("the first request is not known any more: %+v, %v", r, err)
	}
}

func answered(s *shop, key string) (fingerprint [32]byte, a farm.Answer, ok bool) {
	seen(s, func(v farm.View) (int, error) { fingerprint, a, ok = v.Answered(key); return 0, nil })
	return fingerprint, a, ok
}

func TestAnAnswerIsGivenBackAsItWasKept(t *testing.T) {
	s := busy(t)
	if _, _, ok := answered(s, "k"); ok {
		t.Fatal("known before it came")
	}
	given := farm.RecordAnswer{Answer: farm.Answer{Status: 201, Header: map[string]string{"Location": "/x", "A": "b"}, Body: []byte(`{"id":"node4"}`)}}
	revision := seen(s, func(v farm.View) (uint64, error) { return v.Revision(), nil })
	first, err := s.keyed("k", given)
	if err != nil || first.Replayed || first.Revision != revision {
		t.Fatalf("%+v, %v", first, err)
	}
	fingerprint, a, ok := answered(s, "k")
	if !ok || fingerprint != sha256.Sum256(fmt.Append(nil, given)) || !reflect.DeepEqual(a, given.Answer) {
		t.Fatalf("%x, %+v, %v", fingerprint, a, ok)
	}
	// Two did the same at once: the first to record has answered.
	other := given
	other.Body = []byte("other")
	r, err := s.Do(t.Context(), other, farm.Stamp{At: s.now, Key: "k", Fingerprint: fingerprint})
	if err != nil || !r.Replayed {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, a, _ := answered(s, "k"); !reflect.DeepEqual(a, given.Answer) {
		t.Fatalf("%+v", a)
	}
	// A command of the farm has no answer of that kind, but its key is known.
	if _, err := s.keyed("c", printer("p9")); err != nil {
		t.Fatal(err)
	}
	if _, a, ok := answered(s, "c"); !ok || a.Status != 0 {
		t.Fatalf("%+v, %v", a, ok)
	}
	if _, err := s.Do(t.Context(), given, farm.Stamp{At: s.now, Key: "c", Fingerprint: sha256.Sum256(fmt.Append(nil, printer("p9")))}); refusalOf(t, err) == nil {
		t.Fatal("an answer took the key of a command")
	}
	other2 := newStore(t)
	if err := other2.Restore(bytes.NewReader(snapshotOf(t, s.store))); err != nil {
		t.Fatal(err)
	}
	if _, a, ok := answered(shopOn(t, other2), "k"); !ok || !reflect.DeepEqual(a, given.Answer) {
		t.Fatalf("after a snapshot: %+v, %v", a, ok)
	}
	if _, _, ok := answered(s, "\x00"); ok {
		t.Fatal("something that is no key is known")
	}
}

func TestAKeyIsForgottenAfterADayOfTheLog(t *testing.T) {
	s := newShop(t)
	at := func(when farm.Time, key string, id farm.ID) farm.Result {
		r, err := s.Do(t.Context(), farm.CreatePrinter{Company: "c", Model: "m"}, farm.Stamp{At: when, NewID: id, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	begin := farmtest.Start
	at(begin, "k", "first")
	at(begin+1, "other", "second")
	if r := at(begin+keyLife-1, "k", "x"); !r.Replayed || r.ID != "first" {
		t.Fatalf("a moment before the day is over: %+v", r)
	}
	if _, _, ok := answered(s, "k"); !ok {
		t.Fatal("forgotten too early")
	}
	if r := at(begin+keyLife, "k", "third"); r.Replayed || r.ID != "third" {
		t.Fatalf("after a day: %+v", r)
	}
	if r := at(begin, "k", "x"); !r.Replayed || r.ID != "third" { // by a clock that goes behind
		t.Fatalf("the key is not that of its second use: %+v", r)
	}
	at(begin+2*keyLife-1, "more", "fourth") // drops what is left of the first day
	if n := stored(t, s.store); n != 2 {
		t.Fatalf("%d answers are stored", n)
	}
	if r := at(begin+2*keyLife-1, "k", "x"); !r.Replayed || r.ID != "third" {
		t.Fatalf("dropping the first use dropped the second: %+v", r)
	}
	s.must(printer("late")) // moves no clock of a key before it
	if _, _, ok := answered(s, "more"); !ok {
		t.Fatal("forgotten")
	}
	s.now = begin + 5*keyLife
	s.must(printer("later"))
	if _, _, ok := answered(s, "more"); ok {
		t.Fatal("known for ever")
	}
}

// stored counts the answers in the file, and checks that keys lead to them.
func stored(t testing.TB, s *Store) (n int) {
	t.Helper()
	err := s.read(func(tx *bbolt.Tx) error {
		h, err := readHead(tx)
		if err != nil {
			return err
		}
		answers := tx.Bucket(answersBucket)
		for sequence := h.KeysDropped + 1; sequence <= h.KeysDropped+h.KeysStored; sequence++ {
			if answers.Get(revisionKey(sequence)) == nil {
				return fmt.Errorf("answer %d is not there", sequence)
			}
		}
		if n = answers.Stats().KeyN; uint64(n) != h.KeysStored {
			return fmt.Errorf("%d answers are there, %d are counted", n, h.KeysStored)
		}
		return tx.Bucket(keysBucket).ForEach(func(key, sequence []byte) error {
			k, err := readKept(answers.Get(sequence))
			if err != nil || k == nil || k.Key != string(key) {
				return fmt.Errorf("key %q leads to %v, %v", key, k, err)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheOldestKeysGoFirst(t *testing.T) {
	s := shopOn(t, openStore(t, t.TempDir(), Options{Keys: 3}))
	for i := range 10 {
		if _, err := s.keyed(fmt.Sprint("k", i), printer(farm.ID(fmt.Sprint("p", i)))); err != nil {
			t.Fatal(err)
		}
		if n := stored(t, s.store); n != min(i+1, 3) {
			t.Fatalf("after %d keys %d are stored", i+1, n)
		}
	}
	for i := range 10 {
		if _, _, ok := answered(s, fmt.Sprint("k", i)); ok != (i >= 7) {
			t.Errorf("key %d: %v", i, ok)
		}
	}
}

func TestWhatHasExpiredGoesFasterThanNewKeysCome(t *testing.T) {
	s := newShop(t)
	use := func(key string) {
		if _, err := s.keyed(key, printer(farm.ID(key))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		use(fmt.Sprint("old", i))
	}
	s.now += keyLife
	for i, want := range []int{5, 4, 3, 4} {
		use(fmt.Sprint("new", i))
		if n := stored(t, s.store); n != want {
			t.Fatalf("after %d new keys %d are stored, want %d", i+1, n, want)
		}
	}
}

func TestTheHashTellsStoresApartThatKnowOtherKeys(t *testing.T) {
	hash := func(key string) [32]byte {
		s := newShop(t)
		if _, err := s.keyed(key, printer("p")); err != nil {
			t.Fatal(err)
		}
		_, h := s.store.Hash()
		return h
	}
	a, again, b := hash("a"), hash("a"), hash("b")
	if a == b || a != again {
		t.Fatalf("for one key %x and %x, for another %x", a, again, b)
	}
}

// Commands with keys are sent again and again, in any order of first arrivals; each has one effect, and all its
// answers are the same.
func TestEveryKeyHasOneEffectHoweverOftenItIsSent(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		steps := farmtest.Steps(40).Draw(t, "steps")
		for i := range steps {
			if rapid.IntRange(0, 3).Draw(t, "keyed") > 0 {
				steps[i].Stamp.Key = fmt.Sprint("key-", i)
				steps[i].Stamp.Fingerprint = sha256.Sum256(fmt.Append(nil, i))
			}
		}
		var sent [][]byte
		var order []int // the step that each is
		for i, step := range steps {
			copies := 1
			if step.Stamp.Key != "" {
				copies = rapid.IntRange(1, 3).Draw(t, "copies")
			}
			for c := range copies {
				step.Stamp.At += farm.Time(10 * c)
				step.Stamp.NewID = farm.ID(fmt.Sprintf("new-%d-%d", i, c))
				cmd, err := Encode(step.Command, step.Stamp)
				if err != nil {
					t.Fatal(err)
				}
				at := len(sent)
				if c > 0 { // late, among others
					at = rapid.IntRange(0, len(sent)).Draw(t, "place")
				}
				sent = append(sent[:at], append([][]byte{cmd}, sent[at:]...)...)
				order = append(order[:at], append([]int{i}, order[at:]...)...)
			}
		}
		s, err := Open(freshDir(t, base), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		model, first := farmtest.New(), map[int]any{}
		var index uint64
		for len(sent) > 0 {
			n := rapid.IntRange(1, len(sent)).Draw(t, "batch")
			index += uint64(n)
			results, err := s.Apply(index, sent[:n], nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range results {
				step, cmd := order[i], sent[i]
				if before, known := first[step]; known {
					if !reflect.DeepEqual(got, replayed(before)) {
						t.Fatalf("step %d: first %+v, again %+v", step, before, got)
					}
					continue
				}
				c, stamp, _ := Decode(cmd)
				_, refusal := model.Do(c, stamp)
				if _, done := got.(farm.Result); done != (refusal == nil) {
					t.Fatalf("step %d, %+v: %+v, the model says %v", step, c, got, refusal)
				}
				if e, refused := got.(*farm.Error); stamp.Key != "" && (!refused || keepable(e)) {
					first[step] = got
					model.Time = max(model.Time, stamp.At) // a refusal that is kept has its time too
				}
			}
			sent, order = sent[n:], order[n:]
		}
		db := NewDB(s, &ownLog{store: s})
		if err := db.View(context.Background(), farm.ReadOptions{}, func(v farm.View) error { return differs(v, model) }); err != nil {
			t.Fatal(err)
		}
		if err := jobsDiffer(db, model); err != nil {
			t.Fatal(err)
		}
	})
}

// replayed is how a first answer comes again.
func replayed(first any) any {
	switch r := first.(type) {
	case farm.Result:
		r.Replayed = true
		return r
	case *farm.Error:
		e := *r
		e.Replayed = true
		return &e
	}
	panic(fmt.Sprintf("a %T", first))
}
