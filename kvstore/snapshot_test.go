package kvstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"raft3d/farm"
)

func TestASnapshotBringsEverythingToAnotherStore(t *testing.T) {
	s := busy(t)
	index, _ := s.store.Applied()
	if _, err := s.store.Apply(index+1, nil, []byte("members")); err != nil {
		t.Fatal(err)
	}
	other := busy(t).store
	if err := other.Restore(iotest.OneByteReader(bytes.NewReader(snapshotOf(t, s.store)))); err != nil {
		t.Fatal(err)
	}
	if a, b := dump(t, s.store), dump(t, other); a != b {
		t.Fatalf("sent\n%s\ncame\n%s", a, b)
	}
	if at, meta := other.Applied(); at != index+1 || string(meta) != "members" {
		t.Fatalf("index %d, meta %q", at, meta)
	}
	// It goes on, also over what it knew of the objects that it had before.
	shopOn(t, other).must(to("j1", farm.Done))
	if job := decodeJob(t, shopOn(t, other).get(farm.KindJob, "j1")); job.Status != farm.Done {
		t.Fatalf("%+v", job)
	}
}

func TestARestoredStateIsKeptOverARestart(t *testing.T) {
	snapshot := snapshotOf(t, busy(t).store)
	s := newStore(t)
	if err := s.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	was, dir := dump(t, s), s.dir
	if err := errors.Join(s.Sync(), s.Close()); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, dir, Options{Keep: true})
	if is := dump(t, again); is != was {
		t.Fatalf("was\n%s\nis\n%s", was, is)
	}
	if err := again.Close(); err != nil { // it takes away the note that the state was read (alive.go)
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("in the directory are %v (%v), want the state alone", files, err)
	}
}

func TestASnapshotStaysAsItIsWhileApplyGoesOn(t *testing.T) {
	s := busy(t)
	want := dump(t, s.store)
	var b bytes.Buffer
	err := s.store.Snapshot(func(index uint64, _ []byte, state io.WriterTo) error {
		if now, _ := s.store.Applied(); now != index {
			return fmt.Errorf("the snapshot is of %d, the state of %d", index, now)
		}
		for i := range 500 { // many pages, so that bbolt would use any that it believed free
			s.must(farm.CreatePrinter{Text: farm.Text{Notes: strings.Repeat("x", 2000)}, Company: "c", Model: fmt.Sprint(i)})
		}
		s.must(to("j1", farm.Done))
		_, err := state.WriteTo(&b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	other := newStore(t)
	if err := other.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, other); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestADamagedSnapshotIsRefusedAndTheOldStateStands(t *testing.T) {
	snapshot := snapshotOf(t, busy(t).store)
	s := newShop(t)
	s.must(printer("old"))
	want := dump(t, s.store)
	damaged := map[string]io.Reader{
		"empty":             bytes.NewReader(nil),
		"going on":          io.MultiReader(bytes.NewReader(snapshot), strings.NewReader("x")),
		"something else":    strings.NewReader(strings.Repeat("GET / HTTP/1.1\r\n", 100)),
		"a claim of more":   bytes.NewReader(bytes.Replace(snapshot, []byte("\n\x00\x00"), []byte("\n\xff\xff"), 1)),
		"a broken stream":   io.MultiReader(bytes.NewReader(snapshot[:len(snapshot)/2]), iotest.ErrReader(errors.New("reset"))),
		"an end in trouble": io.MultiReader(bytes.NewReader(snapshot), iotest.ErrReader(errors.New("reset"))),
	}
	for at := 0; at < len(snapshot); at += 1 + len(snapshot)/40 {
		damaged[fmt.Sprintf("cut at %d", at)] = bytes.NewReader(snapshot[:at])
		flipped := bytes.Clone(snapshot)
		flipped[at] ^= 0x10
		damaged[fmt.Sprintf("flipped at %d", at)] = bytes.NewReader(flipped)
	}
	damaged["cut by a byte"] = bytes.NewReader(snapshot[:len(snapshot)-1])
	for name, r := range damaged {
		err := s.store.Restore(r)
		if err == nil {
			t.Fatalf("%s: restored", name)
		}
		if got := dump(t, s.store); got != want {
			t.Fatalf("%s: the state is now\n%s", name, got)
		}
		if _, err := os.Stat(s.store.path(incomingFile)); err == nil {
			t.Fatalf("%s: the incoming file is still there", name)
		}
	}
	s.must(printer("new"))
}

// putFormat makes the file say that it is of another format.
func putFormat(t testing.TB, s *Store, format string) {
	t.Helper()
	if err := s.Sync(); err != nil { // what is flushed later puts the newest format there
		t.Fatal(err)
	}
	err := s.current.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte(format)) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestAStateOfAnotherFormatIsRefused(t *testing.T) {
	for name, value := range map[string]string{"older": "1", "newer": fmt.Sprint(format + 1), "none": ""} {
		s := newStore(t)
		putFormat(t, s, value)
		if err := newStore(t).Restore(bytes.NewReader(snapshotOf(t, s))); err == nil || !strings.Contains(err.Error(), "format") {
			t.Errorf("%s: %v", name, err)
		}
		dir := s.dir
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if other, err := Open(dir, Options{Keep: true}); err == nil || !strings.Contains(err.Error(), "format") {
			other.Close()
			t.Errorf("%s: opened, %v", name, err)
		}
	}
}

func TestReadersSeeTheOldStateOrTheNewOneButNoMixture(t *testing.T) {
	s := busy(t)
	replacement := newShop(t)
	replacement.must(printer("new"))
	snapshot := snapshotOf(t, replacement.store)
	jobs := farm.Query{Kind: farm.KindJob}

	oldFile := s.store.current.db
	err := s.View(t.Context(), farm.ReadOptions{}, func(old farm.View) error {
		before, err := listOf(old, jobs)
		if err != nil {
			return err
		}
		if err := s.store.Restore(bytes.NewReader(snapshot)); err != nil {
			return err
		}
		if now := s.list(jobs); len(now) != 0 {
			return fmt.Errorf("a new reader sees the old jobs %v", now)
		}
		s.must(printer("newer")) // writes to the new file while the old one is read
		after, err := listOf(old, jobs)
		if err != nil {
			return err
		}
		if len(after) != 3 || strings.Join(after, "") != strings.Join(before, "") {
			return fmt.Errorf("the old reader saw %v and now sees %v", before, after)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.list(farm.Query{Kind: farm.KindPrinter})); n != 2 {
		t.Fatalf("%d printers", n)
	}
	if _, err := oldFile.Begin(false); !errors.Is(err, berrors.ErrDatabaseNotOpen) {
		t.Fatalf("the old file was not closed after its last reader: %v", err)
	}
}

func TestManyReadersWhileTheStateIsReplacedAndWritten(t *testing.T) {
	s := busy(t)
	snapshot := snapshotOf(t, s.store)
	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 4)
	for range cap(failed) {
		go func() {
			var err error
			for ctx.Err() == nil && err == nil {
				err = s.View(context.Background(), farm.ReadOptions{Stale: true}, func(v farm.View) error {
					jobs, err := listOf(v, farm.Query{Kind: farm.KindJob})
					if n, countErr := v.Count(farm.Query{Kind: farm.KindJob}); n != len(jobs) {
						return fmt.Errorf("%d jobs, %d counted: %w", len(jobs), n, errors.Join(err, countErr))
					}
					return err
				})
			}
			failed <- err
		}()
	}
	for i := range 20 {
		if err := s.store.Restore(bytes.NewReader(snapshot)); err != nil {
			t.Error(err)
		}
		for j := range 20 {
			s.must(job(farm.ID(fmt.Sprintf("x%d-%d", i, j)), "p1", "f1", farm.Gram))
		}
	}
	stop()
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
