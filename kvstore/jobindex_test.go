package kvstore

import (
	"fmt"
	"testing"

	"go.etcd.io/bbolt"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// fill queues n jobs on 10 printers (p0 to p9) and 10 spools; of each hundred, job 7 runs or has run, and 8 is canceled.
// What runs does so on p7.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	index, _ := s.Applied()
	var cmds [][]byte
	send := func(c farm.Command) {
		cmds = append(cmds, encode(t, c, farm.Stamp{At: farmtest.Start}))
		if len(cmds) == 512 {
			index += 512
			apply(t, s, index, cmds...)
			cmds = cmds[:0]
		}
	}
	for i := range 10 {
		send(printer(farm.ID(fmt.Sprint("p", i))))
		send(spool(farm.ID(fmt.Sprint("f", i)), farm.MaxWeight))
	}
	running := farm.ID("")
	for i := range n {
		id := farm.ID(fmt.Sprint("j", i))
		send(job(id, farm.ID(fmt.Sprint("p", i%10)), farm.ID(fmt.Sprint("f", i/10%10)), 1))
		switch i % 100 {
		case 7:
			if running != "" {
				send(to(running, farm.Done))
			}
			send(to(id, farm.Running))
			running = id
		case 8:
			send(to(id, farm.Canceled))
		}
	}
	apply(t, s, index+uint64(max(len(cmds), 1)), cmds...)
}

func TestAPageOfAFilteredListReadsNoObjectButItsOwn(t *testing.T) {
	const jobs = 5000
	s := newShop(t)
	fill(t, s.store, jobs)
	for _, c := range []struct {
		query farm.Query
		count int
	}{
		{farm.Query{Status: []farm.JobStatus{farm.Running}}, 1},
		{farm.Query{Status: []farm.JobStatus{farm.Canceled, farm.Done}}, 2*jobs/100 - 1},
		{farm.Query{PrinterID: "p3"}, jobs / 10},
		{farm.Query{FilamentID: "f9"}, jobs / 10},
		{farm.Query{PrinterID: "p7", Status: []farm.JobStatus{farm.Done}}, jobs/100 - 1},
		{farm.Query{FilamentID: "f0", Status: []farm.JobStatus{farm.Canceled, farm.Running}}, jobs/100 + 1},
		{farm.Query{PrinterID: "p10"}, 0},
	} {
		q := c.query
		q.Kind, q.Limit = farm.KindJob, 20
		first := seen(s, func(v farm.View) ([]string, error) { return listOf(v, q) })
		if len(first) != min(c.count, 20) {
			t.Fatalf("%+v: a page of %d", q, len(first))
		}
		tx, err := s.store.current.db.Begin(true) // and never committed
		if err != nil {
			t.Fatal(err)
		}
		v := view{tx: tx}
		if v.head, err = readHead(tx); err != nil {
			t.Fatal(err)
		}
		bareOf(t, tx, first)
		if n, err := v.Count(q); err != nil || n != c.count {
			t.Errorf("%+v: %d are counted, want %d (%v)", q, n, c.count, err)
		}
		if page, err := listOf(v, q); err != nil || fmt.Sprint(page) != fmt.Sprint(first) {
			t.Errorf("%+v: %v\n%v\nwant\n%v", q, err, page, first)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

// bareOf takes all jobs out of the file but those that are listed.
func bareOf(t testing.TB, tx *bbolt.Tx, listed []string) {
	t.Helper()
	keep := map[string]bool{}
	for _, object := range listed {
		keep[object] = true
	}
	var rest [][]byte
	bucket := tx.Bucket(objectBucket(farm.KindJob))
	err := bucket.ForEach(func(key, object []byte) error {
		if !keep[string(object)] {
			rest = append(rest, append([]byte{}, key...))
		}
		return nil
	})
	for _, key := range rest {
		if err == nil {
			err = bucket.Delete(key)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPagesGoOnWhateverChangesBetweenThem(t *testing.T) {
	const jobs = 50_000
	s := newShop(t)
	fill(t, s.store, jobs)
	q := farm.Query{Kind: farm.KindJob, FilamentID: "f0", Limit: 100}
	want := map[farm.ID]bool{} // there from the first page to the last
	for _, object := range seen(s, func(v farm.View) ([]string, error) {
		return listOf(v, farm.Query{Kind: farm.KindJob, FilamentID: "f0"})
	}) {
		want[decodeJob(t, object).ID] = true
	}
	if len(want) != jobs/10 {
		t.Fatalf("%d are on the spool", len(want))
	}
	shown := map[farm.ID]bool{}
	for n := 1; n > 0; {
		n = seen(s, func(v farm.View) (n int, err error) {
			err = v.List(q, func(position uint64, object []byte) error {
				id := decodeJob(t, string(object)).ID
				if shown[id] {
					return fmt.Errorf("%q is shown twice", id)
				}
				shown[id] = true
				q.After = position
				n++
				return nil
			})
			return n, err
		})
		// One that was shown and one that was not change or go, and one comes.
		for _, object := range s.list(farm.Query{Kind: farm.KindJob, FilamentID: "f0", Status: []farm.JobStatus{farm.Queued}, After: q.After, Limit: 2}) {
			id := decodeJob(t, object).ID
			s.must(to(id, farm.Canceled))
			if len(shown)%200 == 0 {
				s.must(farm.Delete{Kind: farm.KindJob, ID: id})
				delete(want, id)
			}
		}
		for _, object := range s.list(farm.Query{Kind: farm.KindJob, FilamentID: "f0", Status: []farm.JobStatus{farm.Queued}, Limit: 1}) {
			s.must(to(decodeJob(t, object).ID, farm.Canceled))
		}
		if len(shown) < jobs/10 {
			s.must(job(farm.ID(fmt.Sprint("late", len(shown))), "p1", "f0", 1))
		}
	}
	for id := range want {
		if !shown[id] {
			t.Errorf("%q was never shown", id)
		}
	}
}

func TestTheIndexHasNothingOfJobsThatHaveGone(t *testing.T) {
	s := busy(t)
	sizes := func() (entries, tallies int) {
		err := s.store.read(func(tx *bbolt.Tx) error {
			entries, tallies = tx.Bucket(indexBucket).Stats().KeyN, tx.Bucket(talliesBucket).Stats().KeyN
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return entries, tallies
	}
	if entries, tallies := sizes(); entries != 3*3 || tallies != 2 { // p1 and f1
		t.Fatalf("%d entries and %d tallies of three jobs", entries, tallies)
	}
	s.must(to("j1", farm.Done))
	s.must(to("j2", farm.Canceled))
	var cmds [][]byte
	for _, c := range []farm.Command{
		farm.Delete{Kind: farm.KindJob, ID: "j1"}, farm.Delete{Kind: farm.KindJob, ID: "j2"}, farm.Delete{Kind: farm.KindJob, ID: "j3"},
		job("j1", "p1", "f1", farm.Gram), // the same printer and spool, after they had none
	} {
		cmds = append(cmds, encode(t, c, farm.Stamp{At: s.now}))
	}
	index, _ := s.store.Applied()
	apply(t, s.store, index+uint64(len(cmds)), cmds...)
	if entries, tallies := sizes(); entries != 3 || tallies != 2 {
		t.Fatalf("%d entries and %d tallies of one job", entries, tallies)
	}
	if got := s.list(farm.Query{Kind: farm.KindJob, PrinterID: "p1"}); len(got) != 1 {
		t.Fatalf("%v", got)
	}
	s.must(to("j1", farm.Canceled))
	s.must(farm.Delete{Kind: farm.KindJob, ID: "j1"})
	if entries, tallies := sizes(); entries != 0 || tallies != 0 {
		t.Fatalf("%d entries and %d tallies of no job", entries, tallies)
	}
}
