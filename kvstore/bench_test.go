package kvstore

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

// workday makes n commands: jobs on some printers and spools, each of which is started and finished.
func workday(b *testing.B, n int) [][]byte {
	cmds := make([][]byte, 0, n)
	for i := 0; len(cmds) < n; i++ {
		stamp := farm.Stamp{At: farmtest.Start + farm.Time(i), Actor: "bench"}
		c := job(farm.ID(fmt.Sprintf("01890a5d-ac96-774b-bcce-%012d", i)), farm.ID(fmt.Sprint("p", i%100)), farm.ID(fmt.Sprint("f", i%100)), 1)
		c.Name, c.Labels = "bracket, left", map[string]string{"customer": "acme", "order": "4711"}
		cmds = append(cmds, encode(b, c, stamp), encode(b, to(c.ID, farm.Running), stamp), encode(b, to(c.ID, farm.Done), stamp))
	}
	return cmds[:n]
}

func hall(b *testing.B) *Store {
	s := newStore(b)
	var cmds [][]byte
	for i := range 100 {
		cmds = append(cmds, encode(b, printer(farm.ID(fmt.Sprint("p", i))), farm.Stamp{}), encode(b, spool(farm.ID(fmt.Sprint("f", i)), farm.MaxWeight), farm.Stamp{}))
	}
	apply(b, s, 1, cmds...)
	return s
}

// creations makes n commands: printers that are sent in 300 bytes, whose ids their clients count up and which arrive a
// little out of that order.
func creations(b *testing.B, n int) [][]byte {
	cmds := make([][]byte, n)
	for i := range cmds {
		c := farm.CreatePrinter{
			Text: farm.Text{
				ID: farm.ID(fmt.Sprintf("w%09d", i&^63|i*37&63)), Name: "a printer of a measurement",
				Notes: strings.Repeat("x", 178), Labels: map[string]string{"room": "b12", "row": "7"},
			},
			Company: "Prusa", Model: "MK4S",
		}
		cmds[i] = encode(b, c, farm.Stamp{At: farmtest.Start + farm.Time(i), Actor: "bench"})
	}
	return cmds
}

// BenchmarkApply counts commands, not batches.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 64, 512} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) { benchmarkApply(b, size, workday) })
	}
	b.Run("printers", func(b *testing.B) { benchmarkApply(b, 64, creations) })
}

func benchmarkApply(b *testing.B, size int, commands func(*testing.B, int) [][]byte) {
	s, cmds := hall(b), commands(b, b.N)
	index := uint64(1)
	b.ReportAllocs()
	b.ResetTimer()
	for len(cmds) > 0 {
		n := min(size, len(cmds))
		index += uint64(n)
		for _, r := range apply(b, s, index, cmds[:n]...) {
			if err, refused := r.(*farm.Error); refused {
				b.Fatal(err)
			}
		}
		cmds = cmds[n:]
	}
	b.StopTimer()
	if size, err := s.Size(); err == nil {
		b.ReportMetric(float64(size)/float64(b.N), "file-B/op")
	}
}

// BenchmarkGet is one object of ten thousand.
func BenchmarkGet(b *testing.B) {
	s := hall(b)
	apply(b, s, 1<<20, workday(b, 30_000)...)
	db := NewDB(s, &ownLog{store: s})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := farm.ID(fmt.Sprintf("01890a5d-ac96-774b-bcce-%012d", i%10_000))
		if object, _, err := db.Get(context.Background(), farm.KindJob, id, farm.ReadOptions{Stale: true}); object == nil || err != nil {
			b.Fatalf("%s: %s, %v", id, object, err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s := hall(b)
	apply(b, s, 1<<20, workday(b, 30_000)...)
	db := NewDB(s, &ownLog{store: s})
	for name, q := range map[string]farm.Query{
		"all 10000":       {Kind: farm.KindJob},
		"100 of 10000":    {Kind: farm.KindJob, PrinterID: "p7"},
		"none of 10000":   {Kind: farm.KindJob, Status: []farm.JobStatus{farm.Queued}},
		"all 10000 by it": {Kind: farm.KindJob, Status: []farm.JobStatus{farm.Done}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bytes := 0
				err := db.View(context.Background(), farm.ReadOptions{}, func(v farm.View) error {
					return v.List(q, func(_ uint64, object []byte) error { bytes += len(object); return nil })
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPage is what a client waits for among a million jobs: the first page of a filtered list, with its count.
func BenchmarkPage(b *testing.B) {
	s := openStore(b, b.TempDir(), Options{History: 1000})
	fill(b, s, 1_000_000)
	db := NewDB(s, &ownLog{store: s})
	for _, c := range []struct {
		name  string
		query farm.Query
	}{
		{"all", farm.Query{}},
		{"one running", farm.Query{Status: []farm.JobStatus{farm.Running}}},
		{"queued", farm.Query{Status: []farm.JobStatus{farm.Queued}}},
		{"of a printer", farm.Query{PrinterID: "p7"}},
		{"done on a printer", farm.Query{PrinterID: "p7", Status: []farm.JobStatus{farm.Done}}},
		{"of a spool, from the middle", farm.Query{FilamentID: "f3", After: 1_000_000}},
		{"printer and spool", farm.Query{PrinterID: "p7", FilamentID: "f3", Status: []farm.JobStatus{farm.Done}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			q := c.query
			q.Kind, q.Limit = farm.KindJob, 100
			shown, total := 0, 0
			for b.Loop() {
				shown = 0
				err := db.View(context.Background(), farm.ReadOptions{}, func(v farm.View) (err error) {
					if total, err = v.Count(q); err != nil {
						return err
					}
					return v.List(q, func(uint64, []byte) error { shown++; return nil })
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(shown), "shown")
			b.ReportMetric(float64(total), "counted")
		})
	}
}

func BenchmarkCodec(b *testing.B) {
	c := job("01890a5d-ac96-774b-bcce-b302099a8057", "p1", "f1", 12_500)
	c.Name, c.Labels = "bracket, left", map[string]string{"customer": "acme", "order": "4711"}
	stamp := farm.Stamp{At: farmtest.Start, Actor: "bench"}
	cmd := encode(b, c, stamp)
	b.Run("encode command", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Encode(c, stamp); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode command", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := Decode(cmd); err != nil {
				b.Fatal(err)
			}
		}
	})
	at := farmtest.Start
	j := farm.Job{
		Common: farm.Common{ID: c.ID, Name: c.Name, Labels: c.Labels}, PrinterID: "p1", FilamentID: "f1", Filepath: c.Filepath,
		Weight: c.Weight, Status: farm.Running, StartedAt: &at, Times: farm.Times{CreatedAt: at, UpdatedAt: at, Revision: 7},
	}
	raw := appendJob(nil, &j)
	b.Run("encode object", func(b *testing.B) {
		b.ReportAllocs()
		var buffer []byte
		for b.Loop() {
			buffer = appendJob(buffer[:0], &j)
		}
	})
	b.Run("decode object", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeObject(farm.KindJob, raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
