package kvstore

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

func apply(t testing.TB, s *Store, index uint64, cmds ...[]byte) []any {
	t.Helper()
	results, err := s.Apply(index, cmds, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(cmds) {
		t.Fatalf("%d results of %d commands", len(results), len(cmds))
	}
	return results
}

func TestANewStoreHasAppliedNothing(t *testing.T) {
	s := newStore(t)
	if index, meta := s.Applied(); index != 0 || meta != nil {
		t.Fatalf("index %d, meta %q", index, meta)
	}
	if index, hash := s.Hash(); index != 0 || hash != [32]byte{} {
		t.Fatalf("index %d, hash %x", index, hash)
	}
}

func TestABatchMayHaveNoCommand(t *testing.T) {
	s := newStore(t)
	results, err := s.Apply(5, nil, []byte("members"))
	if err != nil || len(results) != 0 {
		t.Fatalf("%v, %v", results, err)
	}
	if index, meta := s.Applied(); index != 5 || string(meta) != "members" {
		t.Fatalf("index %d, meta %q", index, meta)
	}
}

func TestANilMetaKeepsTheStoredOne(t *testing.T) {
	s := newStore(t)
	given := []byte("one")
	if _, err := s.Apply(1, nil, given); err != nil {
		t.Fatal(err)
	}
	copy(given, "xxx")
	apply(t, s, 2)
	_, meta := s.Applied()
	copy(meta, "yyy")
	if index, meta := s.Applied(); index != 2 || string(meta) != "one" {
		t.Fatalf("index %d, meta %q", index, meta)
	}
	dir := s.dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if index, meta := openStore(t, dir, Options{Keep: true}).Applied(); index != 2 || string(meta) != "one" {
		t.Fatalf("after opening again: index %d, meta %q", index, meta)
	}
}

func TestAnIndexIsAppliedOnce(t *testing.T) {
	s := newStore(t)
	apply(t, s, 7)
	for _, index := range []uint64{7, 6, 0} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("index %d was applied after 7", index)
				}
			}()
			_, _ = s.Apply(index, nil, nil)
		}()
	}
	apply(t, s, 9) // entries between may have had no command
}

func TestARefusedCommandChangesNothingButTheIndex(t *testing.T) {
	s := busy(t)
	before := dump(t, s.store)
	index, _ := s.store.Applied()
	s.refused(job("j9", "p1", "f1", 1000*farm.Gram), farm.Conflict)
	if after := dump(t, s.store); after != before {
		t.Fatalf("was\n%s\nis\n%s", before, after)
	}
	if now, _ := s.store.Applied(); now != index+1 {
		t.Fatalf("index %d after %d", now, index)
	}
}

func TestCommandsOfOneBatchSeeEachOther(t *testing.T) {
	s := newStore(t)
	stamp := farm.Stamp{At: farmtest.Start}
	var cmds [][]byte
	for _, c := range []farm.Command{
		printer("p"), spool("f", 100*farm.Gram), job("a", "p", "f", 60*farm.Gram), job("b", "p", "f", 60*farm.Gram),
		farm.Delete{Kind: farm.KindPrinter, ID: "p"}, to("a", farm.Running), to("a", farm.Done),
		farm.Delete{Kind: farm.KindJob, ID: "a"}, job("a", "p", "f", 40*farm.Gram), to("a", farm.Canceled),
		farm.Delete{Kind: farm.KindJob, ID: "a"}, farm.Delete{Kind: farm.KindPrinter, ID: "p"}, printer("p"),
	} {
		cmds = append(cmds, encode(t, c, stamp))
	}
	var refused []int
	for i, r := range apply(t, s, 20, cmds...) {
		if _, ok := r.(*farm.Error); ok {
			refused = append(refused, i)
		}
	}
	if !reflect.DeepEqual(refused, []int{3, 4}) {
		t.Fatalf("refused are %v", refused)
	}
	shop := shopOn(t, s)
	if jobs := shop.list(farm.Query{Kind: farm.KindJob}); len(jobs) != 0 {
		t.Fatalf("jobs %v", jobs)
	}
	if printers := shop.list(farm.Query{Kind: farm.KindPrinter}); len(printers) != 1 {
		t.Fatalf("printers %v", printers)
	}
}

func TestTimeNeverRunsBackwardsInTheLog(t *testing.T) {
	s := newStore(t)
	at := func(id farm.ID, ms farm.Time) farm.Printer {
		index, _ := s.Applied()
		r := apply(t, s, index+1, encode(t, printer(id), farm.Stamp{At: ms}))
		object, err := decodeObject(farm.KindPrinter, r[0].(farm.Result).Object)
		if err != nil {
			t.Fatal(err)
		}
		return *object.(*farm.Printer)
	}
	late := farmtest.Start + 60_000
	if p := at("a", late); p.CreatedAt != late {
		t.Fatalf("made at %v", p.CreatedAt)
	}
	if p := at("b", farmtest.Start); p.CreatedAt != late || p.UpdatedAt != late {
		t.Fatalf("the clock went back to %v", p.CreatedAt)
	}
	index, _ := s.Applied() // a time that nobody can spell is refused, and holds back none after it
	if _, refused := apply(t, s, index+1, encode(t, printer("c"), farm.Stamp{At: farm.MaxTime + 1}))[0].(*farm.Error); !refused {
		t.Fatal("the year 10000 was taken")
	}
	if p := at("d", late+1); p.CreatedAt != late+1 {
		t.Fatalf("made at %v", p.CreatedAt)
	}
}

func TestWhatIsNoCommandIsARefusalTheSameEverywhere(t *testing.T) {
	newer := encode(t, printer("p9"), farm.Stamp{})
	if newer[0] != 0x08 {
		t.Fatalf("%x does not begin with its version", newer)
	}
	newer[1] = commandVersion + 1
	for name, cmd := range map[string][]byte{
		"nothing":              {},
		"text":                 []byte("hello"),
		"a newer version":      newer,
		"no command":           {0x08, 0x01},
		"an unknown command":   {0x08, 0x01, 0xfa, 0x06, 0x00}, // field 111
		"a command cut short":  encode(t, printer("p"), farm.Stamp{})[:9],
		"a name not UTF-8":     bytes.Replace(encode(t, printer("pp"), farm.Stamp{}), []byte("MK4"), []byte{'M', 0xff, '4'}, 1),
		"an empty command":     {0x08, 0x01, 0x52, 0x00},
		"a delete of no kind":  {0x08, 0x01, 0x8a, 0x01, 0x00},
		"a patch of nothing":   {0x08, 0x01, 0x72, 0x00},
		"a status of no job":   {0x08, 0x01, 0x82, 0x01, 0x00},
		"a spool without form": {0x08, 0x01, 0x5a, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			s := busy(t)
			before := dump(t, s.store)
			index, _ := s.store.Applied()
			first := apply(t, s.store, index+1, cmd)[0]
			again := apply(t, s.store, index+2, cmd)[0]
			if _, ok := first.(*farm.Error); !ok || !reflect.DeepEqual(first, again) {
				t.Fatalf("%#v, then %#v", first, again)
			}
			if after := dump(t, s.store); after != before {
				t.Fatalf("was\n%s\nis\n%s", before, after)
			}
		})
	}
}

// alter changes a stored object behind the store's back, as a bad disk or a bug would.
func alter(t testing.TB, s *Store, kind farm.Kind, from, to string) {
	t.Helper()
	if err := s.catchUp(); err != nil {
		t.Fatal(err)
	}
	found := false
	err := s.current.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(objectBucket(kind))
		return bucket.ForEach(func(key, raw []byte) error {
			if !bytes.Contains(raw, []byte(from)) {
				return nil
			}
			found = true
			return bucket.Put(bytes.Clone(key), bytes.Replace(raw, []byte(from), []byte(to), 1))
		})
	})
	if err != nil || !found {
		t.Fatalf("alter %q: found %v, %v", from, found, err)
	}
}

func TestAnObjectAlteredBehindTheStoreShowsInTheHashOfItsNextChange(t *testing.T) {
	sound, altered := busy(t), busy(t)
	alter(t, altered.store, farm.KindFilament, `"color":"red"`, `"color":"rad"`)
	set := farm.PatchFilament{Patch: farm.Patch{ID: "f1"}, Color: ptr("blue")}
	a, b := sound.must(set), altered.must(set)
	if string(a.Object) != string(b.Object) {
		t.Fatalf("%s\n%s", a.Object, b.Object)
	}
	_, one := sound.store.Hash()
	if _, other := altered.store.Hash(); one == other {
		t.Fatal("the hashes are the same")
	}
}

func TestTheHashRemembersWhatNoObjectShowsAnyMore(t *testing.T) {
	hash := func(first string) [32]byte {
		s := newShop(t)
		s.must(printer("p1"))
		s.must(farm.PatchPrinter{Patch: farm.Patch{ID: "p1", Name: &first}})
		s.must(farm.Delete{Kind: farm.KindPrinter, ID: "p1"})
		s.must(printer("p1"))
		_, h := s.store.Hash()
		return h
	}
	if hash("a") == hash("b") {
		t.Fatal("two histories have the same hash")
	}
}

// FuzzApply gives a farm arbitrary bytes. Whatever is refused must have changed nothing, and two stores must agree.
func FuzzApply(f *testing.F) {
	stamp := farm.Stamp{At: farmtest.Start, Actor: "a", NewID: "n"}
	for _, c := range []farm.Command{
		printer("p"), spool("f", farm.Gram), job("j", "p1", "f1", farm.Gram), to("j1", farm.Done), farm.Delete{Kind: farm.KindJob, ID: "j3"},
		farm.PatchJob{Patch: farm.Patch{ID: "j2", Labels: &farm.LabelPatch{Clear: true, Set: map[string]*string{"k": nil}}}},
		farm.PatchFilament{Patch: farm.Patch{ID: "f1"}}, farm.PatchPrinter{Patch: farm.Patch{ID: "p1"}},
	} {
		f.Add(encode(f, c, stamp))
	}
	f.Add([]byte("garbage"))
	one, other := busy(f), busy(f)
	before := dump(f, one.store)
	f.Fuzz(func(t *testing.T, cmd []byte) {
		index, _ := one.store.Applied()
		a, b := apply(t, one.store, index+1, cmd), apply(t, other.store, index+1, cmd)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("two answers to %x: %+v and %+v", cmd, a, b)
		}
		after := dump(t, one.store)
		if _, refused := a[0].(*farm.Error); refused && after != before {
			t.Fatalf("%x was refused, and made\n%s\nof\n%s", cmd, after, before)
		}
		before = after
		if again := dump(t, other.store); again != after {
			t.Fatalf("%x made two states:\n%s\n%s", cmd, after, again)
		}
	})
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := newStore(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, applied := s.Apply(1, nil, nil)
	for what, err := range map[string]error{
		"apply": applied, "sync": s.Sync(), "restore": s.Restore(bytes.NewReader(nil)), "snapshot": s.Snapshot(nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	db := NewDB(s, &ownLog{store: s})
	_, backup := db.Backup(t.Context(), "c", io.Discard)
	for what, err := range map[string]error{
		"view":                      db.View(t.Context(), farm.ReadOptions{}, nil),
		"view of a future revision": db.View(t.Context(), farm.ReadOptions{MinRevision: 9}, nil),
		"wait":                      db.Wait(t.Context(), 0),
		"backup":                    backup,
	} {
		var refusal *farm.Error
		if !errors.As(err, &refusal) || refusal.Kind != farm.Unavailable || refusal.Outcome != farm.NotApplied {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestAFileIsBelievedOnlyWhereThatIsSaid(t *testing.T) {
	s := busy(t)
	was, dir := dump(t, s.store), s.store.dir
	if err := errors.Join(s.store.Sync(), s.store.Close()); err != nil {
		t.Fatal(err)
	}
	kept := openStore(t, dir, Options{Keep: true})
	if is := dump(t, kept); is != was {
		t.Fatalf("was\n%s\nis\n%s", was, is)
	}
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	if index, meta := openStore(t, dir, Options{}).Applied(); index != 0 || meta != nil {
		t.Fatalf("a discarded state is at index %d with meta %q", index, meta)
	}
}

func TestKeepingAStateThatIsNotThereBeginsAnew(t *testing.T) {
	if index, _ := openStore(t, t.TempDir(), Options{Keep: true}).Applied(); index != 0 {
		t.Fatalf("index %d", index)
	}
}

func TestAFileIsOpenedByOneStoreAtATime(t *testing.T) {
	s := newStore(t)
	if other, err := Open(s.dir, Options{Keep: true}); err == nil {
		other.Close()
		t.Fatal("opened twice")
	}
}
