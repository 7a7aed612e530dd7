package kvstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, t.TempDir(), Options{})
}

// ownLog is the log of a cluster of one: what is proposed is applied at once.
type ownLog struct {
	store   *Store
	barrier func(context.Context) error // nil: all is here
}

func (l *ownLog) Propose(_ context.Context, cmd []byte) (any, error) {
	index, _ := l.store.Applied()
	results, err := l.store.Apply(index+1, [][]byte{cmd}, nil)
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (l *ownLog) ReadBarrier(ctx context.Context) error {
	if l.barrier == nil {
		return nil
	}
	return l.barrier(ctx)
}

// shop is a store with a DB on it, told a command at a time.
type shop struct {
	testing.TB
	*DB
	store *Store
	log   *ownLog
	now   farm.Time
}

func newShop(t testing.TB) *shop { return shopOn(t, newStore(t)) }

func shopOn(t testing.TB, s *Store) *shop {
	log := &ownLog{store: s}
	return &shop{TB: t, DB: NewDB(s, log), store: s, log: log, now: farmtest.Start}
}

func (s *shop) do(c farm.Command) (farm.Result, error) {
	s.now += 1000
	return s.Do(context.Background(), c, farm.Stamp{At: s.now, Actor: "tester", NewID: farm.ID(fmt.Sprintf("new-%d", s.now))})
}

func (s *shop) must(c farm.Command) farm.Result {
	s.Helper()
	r, err := s.do(c)
	if err != nil {
		s.Fatalf("%+v: %v", c, err)
	}
	return r
}

func (s *shop) refused(c farm.Command, kind farm.ErrorKind) *farm.Error {
	s.Helper()
	r, err := s.do(c)
	var refusal *farm.Error
	if !errors.As(err, &refusal) || refusal.Kind != kind {
		s.Fatalf("%+v: %+v, %v; want a refusal of kind %d", c, r, err, kind)
	}
	return refusal
}

// seen is what fn makes of the state as it is now.
func seen[T any](s *shop, fn func(farm.View) (T, error)) T {
	s.Helper()
	var got T
	err := s.View(context.Background(), farm.ReadOptions{}, func(v farm.View) (err error) {
		got, err = fn(v)
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return got
}

func (s *shop) list(q farm.Query) []string {
	s.Helper()
	return seen(s, func(v farm.View) ([]string, error) { return listOf(v, q) })
}

func listOf(v farm.View, q farm.Query) ([]string, error) {
	objects := []string{}
	err := v.List(q, func(_ uint64, object []byte) error {
		objects = append(objects, string(object))
		return nil
	})
	return objects, err
}

func (s *shop) get(kind farm.Kind, id farm.ID) string {
	s.Helper()
	object, ok := s.find(kind, id)
	if !ok {
		s.Fatalf("no %s %q", kind, id)
	}
	return object
}

// find looks before the file has the object, if it is pending, and again when it has.
func (s *shop) find(kind farm.Kind, id farm.ID) (object string, ok bool) {
	s.Helper()
	var found [2][]byte
	for i := range found {
		object, revision, err := s.Get(context.Background(), kind, id, farm.ReadOptions{})
		if now := s.store.head.Revision; err != nil || revision != now {
			s.Fatalf("%s %q is of revision %d, now is %d: %v", kind, id, revision, now, err)
		}
		found[i] = object
		if err := s.store.catchUp(); err != nil {
			s.Fatal(err)
		}
	}
	if string(found[0]) != string(found[1]) || (found[0] == nil) != (found[1] == nil) {
		s.Fatalf("%s %q is %s while it is pending, %s in the file", kind, id, found[0], found[1])
	}
	return string(found[0]), found[0] != nil
}

// failer is what a testing.T and a rapid.T have in common.
type failer interface {
	Helper()
	Fatal(...any)
}

// dump is everything that readers can see of a store, its hash, and every byte of its buckets but the index that it
// has applied and raftnode's record.
func dump(t failer, s *Store) string {
	t.Helper()
	var b bytes.Buffer
	err := NewDB(s, &ownLog{store: s}).View(context.Background(), farm.ReadOptions{}, func(v farm.View) error {
		fmt.Fprintln(&b, v.Revision(), v.Summary())
		for _, k := range farm.Kinds {
			objects, err := listOf(v, farm.Query{Kind: k})
			if err != nil {
				return err
			}
			for _, o := range objects {
				fmt.Fprintln(&b, o)
			}
		}
		return v.Events(farm.EventQuery{Since: v.Oldest() - 1}, func(_ uint64, event []byte) error {
			fmt.Fprintf(&b, "%s\n", event)
			return nil
		})
	})
	if err == nil {
		err = s.read(func(tx *bbolt.Tx) error {
			for _, name := range dataBuckets() {
				err := tx.Bucket(name).ForEach(func(key, value []byte) error {
					fmt.Fprintf(&b, "%s %x: %x\n", name, key, sha256.Sum256(value))
					return nil
				})
				if err != nil {
					return err
				}
			}
			h, err := readHead(tx)
			h.Applied = 0
			fmt.Fprintf(&b, "%+v\n", h)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	_, hash := s.Hash()
	fmt.Fprintf(&b, "%x\n", hash)
	return b.String()
}

func snapshotOf(t failer, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	err := s.Snapshot(func(_ uint64, _ []byte, state io.WriterTo) error {
		n, err := state.WriteTo(&b)
		if err == nil && n != int64(b.Len()) {
			return fmt.Errorf("%d bytes were written, %d counted", b.Len(), n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func printer(id farm.ID) farm.CreatePrinter {
	return farm.CreatePrinter{Text: farm.Text{ID: id}, Company: "Prusa", Model: "MK4"}
}

func spool(id farm.ID, total farm.Grams) farm.CreateFilament {
	return farm.CreateFilament{Text: farm.Text{ID: id}, Type: "PLA", Color: "red", Total: total}
}

func job(id, printer, filament farm.ID, weight farm.Grams) farm.CreateJob {
	return farm.CreateJob{Text: farm.Text{ID: id}, PrinterID: printer, FilamentID: filament, Filepath: "a.gcode", Weight: weight}
}

func to(id farm.ID, status farm.JobStatus) farm.SetJobStatus {
	return farm.SetJobStatus{ID: id, Status: status}
}

// busy is a shop with two printers, a spool of 1000 g, and the jobs j1 (Running), j2 (Queued) and j3 (Done), 10 g each.
func busy(t testing.TB) *shop { return busyOn(t, newStore(t)) }

func busyOn(t testing.TB, store *Store) *shop {
	s := shopOn(t, store)
	s.must(printer("p1"))
	s.must(printer("p2"))
	s.must(spool("f1", 1000*farm.Gram))
	for _, id := range []farm.ID{"j1", "j2", "j3"} {
		s.must(job(id, "p1", "f1", 10*farm.Gram))
	}
	s.must(to("j3", farm.Running))
	s.must(to("j3", farm.Done))
	s.must(to("j1", farm.Running))
	return s
}

func encode(t testing.TB, c farm.Command, s farm.Stamp) []byte {
	t.Helper()
	b, err := Encode(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeJob(t testing.TB, object string) farm.Job {
	t.Helper()
	var j farm.Job
	if err := json.Unmarshal([]byte(object), &j); err != nil {
		t.Fatal(err)
	}
	return j
}

// noLog is a log that no command may reach.
type noLog struct{ testing.TB }

func (l noLog) Propose(context.Context, []byte) (any, error) {
	l.Error("it entered the log")
	return nil, errors.New("no log")
}
func (noLog) ReadBarrier(context.Context) error { return nil }

func TestWhatIsNotOfTheRightFormNeverEntersTheLog(t *testing.T) {
	d := NewDB(newStore(t), noLog{t})
	for _, c := range []farm.Command{farm.CreatePrinter{}, farm.CreateFilament{}, farm.CreateJob{}, farm.SetJobStatus{ID: "j", Status: "Lost"}, farm.Delete{Kind: "spoon", ID: "x"}} {
		var refusal *farm.Error
		if _, err := d.Do(t.Context(), c, farm.Stamp{At: farmtest.Start}); !errors.As(err, &refusal) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestAHeadIsReadAsItWasWritten(t *testing.T) {
	var written, read head
	b := make([]byte, binary.Size(written))
	for i := range b {
		b[i] = byte(i) & 0x7f
	}
	if _, err := binary.Decode(b, binary.BigEndian, &written); err != nil {
		t.Fatal(err)
	}
	if err := read.decode(written.encode()); err != nil || read != written {
		t.Fatalf("%+v, %v, want %+v", read, err, written)
	}
	for _, wrong := range [][]byte{nil, b[1:], append(b, 0)} {
		if err := read.decode(wrong); err == nil {
			t.Errorf("%d bytes are taken for a head", len(wrong))
		}
	}
}
