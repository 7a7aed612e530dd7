package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// crashed is a directory as a killed process left it, with the bytes of its last segment and where each record ends.
type crashed struct {
	t       rapid.TB
	dir     string
	path    string
	bytes   []byte
	ends    []int64 // of each record
	kinds   []int64
	payload int64 // where the first record behind the head begins
}

func (f *fixture) crashed() *crashed {
	f.t.Helper()
	f.crash()
	return inspect(f.t, f.dir)
}

func inspect(t rapid.TB, dir string) *crashed {
	t.Helper()
	list, err := segments(walDir(dir))
	must(t, err)
	c := &crashed{t: t, dir: dir, path: filepath.Join(walDir(dir), list[len(list)-1].name)}
	c.bytes, err = os.ReadFile(c.path)
	must(t, err)
	file, err := os.Open(c.path)
	must(t, err)
	defer file.Close()
	info, err := file.Stat()
	must(t, err)
	decoder := etcdwal.NewDecoder(&segmentReader{Reader: file, info: info})
	rec := &walpb.Record{}
	for decoder.Decode(rec) == nil {
		if rec.GetType() == etcdwal.CrcType {
			decoder.UpdateCRC(rec.GetCrc())
		}
		c.ends = append(c.ends, decoder.LastOffset())
		c.kinds = append(c.kinds, rec.GetType())
	}
	c.payload = c.ends[headRecords-1]
	return c
}

func (c *crashed) end() int64 { return c.ends[len(c.ends)-1] }

// begin is where the nth record behind the head begins.
func (c *crashed) begin(n int) int64 { return c.ends[headRecords-1+n] }

// with reads the directory with other bytes in its last segment.
func (c *crashed) with(b []byte) (Recovered, error) {
	put(c.t, c.path, b)
	r, err := Read(c.dir)
	if err != nil && !errors.Is(err, ErrDamaged) {
		c.t.Fatalf("got %v; want it recovered, or damage", err)
	}
	return r, err
}

func (c *crashed) zeroed(from, to int64) []byte {
	b := append([]byte(nil), c.bytes...)
	clear(b[from:to])
	return b
}

// written is a log of several units, and what a reader must find after each of its records.
func written(t testing.TB) (*crashed, []string) {
	t.Helper()
	f := create(t)
	prefixes := []string{"|| term 0 vote 0 commit 0"}
	log, state := "", hardState{}
	note := func(s hardState) {
		prefixes = append(prefixes, fmt.Sprintf("|%s| term %d vote %d commit %d", log, s.term, s.vote, s.commit))
	}
	unit := func(h *raftpb.HardState, entries ...*raftpb.Entry) {
		f.append(h, entries...)
		for _, e := range entries {
			log += fmt.Sprintf(" %d/%d", e.GetIndex(), e.GetTerm())
			state.seen(e.GetTerm())
			note(state)
		}
		state = hardStateOf(h)
		note(state)
	}
	unit(hard(1, 1, 0), run(1, 4, 1)...)
	unit(hard(2, 3, 0))
	unit(hard(2, 3, 3), run(5, 5, 2)...)
	unit(hard(3, 2, 5), run(6, 12, 3)...)
	c := f.crashed()
	c.bytes = c.bytes[:c.end()+2*sectorBytes] // less to write, thousands of times
	if len(c.ends)-headRecords != len(prefixes)-1 {
		t.Fatalf("%d records, %d were expected", len(c.ends)-headRecords, len(prefixes)-1)
	}
	return c, prefixes
}

// The file may end anywhere: what was whole is kept, no more and no less.
func TestATailThatIsCutOffAtAnyByteLeavesExactlyTheWholeRecords(t *testing.T) {
	c, prefixes := written(t)
	for at := c.payload; at <= c.end(); at++ {
		whole := 0
		for n := range prefixes {
			if c.begin(n) <= at {
				whole = n
			}
		}
		r, err := c.with(c.bytes[:at])
		must(t, err)
		if got := describe(r); got != prefixes[whole] || r.TornBytes > at-c.begin(whole) {
			t.Fatalf("cut at byte %d: recovered %s, %d torn\nwant %s", at, got, r.TornBytes, prefixes[whole])
		}
	}
	for at := int64(0); at < c.payload; at++ {
		if r, err := c.with(c.bytes[:at]); err == nil {
			t.Fatalf("cut in the head at byte %d: recovered %s", at, describe(r))
		}
	}
}

// A power cut does not shorten a file: what is behind its end was there once.
func TestALogThatLostItsEndIsRefused(t *testing.T) {
	c, _ := written(t)
	for _, at := range []int64{c.payload, c.end() - 70, c.end(), int64(len(c.bytes)) - 1} {
		put(t, c.path, c.bytes[:at])
		l, _, err := Open(c.dir, testConfig)
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("cut off at byte %d: %v, want ErrDamaged", at, err)
		}
	}
}

func TestOpenCutsATornTailOffAndGoesOnBehindIt(t *testing.T) {
	c, _ := written(t)
	torn := make([]byte, testConfig.SegmentBytes)
	copy(torn, c.bytes[:c.end()-70]) // in entry 12
	put(t, c.path, torn)
	f := &fixture{t: t, dir: c.dir, config: testConfig}
	r := f.open()
	defer func() { f.close() }()
	want(t, r, "| 1/1 2/1 3/1 4/1 5/2 6/3 7/3 8/3 9/3 10/3 11/3| term 3 vote 0 commit 3")
	if r.TornBytes == 0 {
		t.Fatal("nothing is said of the torn bytes")
	}
	f.append(hard(4, 0, 5), run(12, 13, 4)...)
	r = f.reopen()
	want(t, r, "| 1/1 2/1 3/1 4/1 5/2 6/3 7/3 8/3 9/3 10/3 11/3 12/4 13/4| term 4 vote 0 commit 5")
	if r.TornBytes != 0 {
		t.Fatalf("%d bytes are torn again", r.TornBytes)
	}
}

// One flipped bit anywhere is refused or does not matter (the padding of a record); it never shortens the log.
func TestAFlippedBitNeverShortensTheLog(t *testing.T) {
	c, prefixes := written(t)
	full := prefixes[len(prefixes)-1]
	harmless := 0
	for at := int64(0); at < c.end()+64; at++ {
		for bit := range 8 {
			b := append([]byte(nil), c.bytes...)
			b[at] ^= 1 << bit
			r, err := c.with(b)
			if err != nil {
				continue
			}
			if got := describe(r); got != full {
				t.Fatalf("bit %d of byte %d (the log ends at %d): recovered %s", bit, at, c.end(), got)
			}
			harmless++
		}
	}
	if harmless > int(c.end()+64)*8/4 {
		t.Fatalf("%d flips did not matter", harmless)
	}
}

func TestABlankHeadOfARecordIsRefused(t *testing.T) {
	c, _ := written(t)
	for n := range len(c.ends) - headRecords {
		begin := c.begin(n)
		r, err := c.with(c.zeroed(begin, begin+8))
		if err == nil {
			t.Fatalf("record %d at byte %d is without its head: recovered %s", n, begin, describe(r))
		}
	}
}

// sectors is a log of units that each span several sectors.
func sectors(t testing.TB, closed bool) (c *crashed, units []int64) {
	t.Helper()
	f := create(t)
	for i := uint64(1); i <= 4; i++ {
		f.append(hard(1, 0, 3*i), run(3*i-2, 3*i, 1)...)
		e := entry(3*i, 1)
		e.Data = make([]byte, 1500)
		for j := range e.Data {
			e.Data[j] = byte(j) | 1
		}
		f.append(hard(1, 0, 3*i-1), e)
	}
	if closed {
		f.close()
		c = inspect(t, f.dir)
	} else {
		c = f.crashed()
	}
	for n, kind := range c.kinds {
		if kind == etcdwal.StateType {
			units = append(units, c.ends[n])
		}
	}
	return c, units
}

func TestALostSectorIsRefusedUnlessItIsInTheLastUnit(t *testing.T) {
	c, units := sectors(t, false)
	last := units[len(units)-2] // where the last unit begins
	torn := 0
	for at := c.payload / sectorBytes * sectorBytes; at < c.end(); at += sectorBytes {
		from, to := max(at, c.payload), min(at+sectorBytes, c.end())
		r, err := c.with(c.zeroed(from, to))
		if from < last && err == nil {
			t.Fatalf("bytes %d to %d are lost, synced before byte %d was written: recovered %s", from, to, last, describe(r))
		}
		if err == nil {
			torn++
			if n := len(r.Entries); n < 11 || n > 12 {
				t.Fatalf("bytes %d to %d are lost: recovered %d entries", from, to, n)
			}
		}
	}
	if torn < 2 {
		t.Fatalf("only %d sectors of the last unit could be torn", torn)
	}
}

// Power fails while the last unit is on its way: any of its sectors may be missing.
func TestAnySectorsOfTheLastUnitMayBeMissing(t *testing.T) {
	c, units := sectors(t, false)
	begin := units[len(units)-2]
	first := begin / sectorBytes
	count := (c.end()-1)/sectorBytes - first + 1
	if count < 4 || count > 8 {
		t.Fatalf("the last unit has %d sectors", count)
	}
	for lost := range 1 << count {
		b := append([]byte(nil), c.bytes...)
		for s := range count {
			if lost&(1<<s) != 0 {
				clear(b[max(begin, (first+s)*sectorBytes):min(c.end(), (first+s+1)*sectorBytes)])
			}
		}
		r, err := c.with(b)
		if err != nil {
			t.Fatalf("sectors %b are missing from byte %d on: %v", lost, begin, err)
		}
		if n := len(r.Entries); n != 12 || r.HardState.GetCommit() < 11 && lost == 0 {
			t.Fatalf("sectors %b are missing: %d entries, commit %d", lost, n, r.HardState.GetCommit())
		}
	}
}

// Close writes one more unit, so nothing that was answered for is in the last one.
func TestAfterACleanEndEveryLostSectorIsSeen(t *testing.T) {
	c, units := sectors(t, true)
	last := units[len(units)-2]
	for at := c.payload / sectorBytes * sectorBytes; at < last; at += sectorBytes {
		from, to := max(at, c.payload), min(at+sectorBytes, last)
		if r, err := c.with(c.zeroed(from, to)); err == nil {
			t.Fatalf("bytes %d to %d are lost: recovered %s", from, to, describe(r))
		}
	}
}

func TestSomethingFarBehindTheEndIsRefused(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 3 << 20})
	f.append(hard(1, 0, 1), run(1, 3, 1)...)
	c := f.crashed()
	near, far := append([]byte(nil), c.bytes...), append([]byte(nil), c.bytes...)
	near[c.end()+5000] = 1
	if r, err := c.with(near); err != nil || len(r.Entries) != 3 {
		t.Fatalf("a byte of a lost unit: %v", err)
	}
	far[c.end()+maxUnitBytes+maxProbeBytes] = 1
	if _, err := c.with(far); err == nil {
		t.Fatal("a byte that no torn unit reaches was taken for one")
	}
}

func TestALengthBeyondTheFileIsRefusedWithoutReadingIt(t *testing.T) {
	c, _ := written(t)
	for _, size := range []uint64{1<<56 - 8, 1 << 40, uint64(len(c.bytes)), 8} {
		b := append([]byte(nil), c.bytes...)
		binary.LittleEndian.PutUint64(b[c.begin(3):], size)
		if r, err := c.with(b); err == nil {
			t.Fatalf("length %d: recovered %s", size, describe(r))
		}
	}
}

func TestAnUnknownOrMisplacedRecordIsRefused(t *testing.T) {
	c, _ := written(t)
	at := c.begin(3) + headBytes // the type is the first thing in a record, and the checksum does not cover it
	if c.bytes[at] != 8 {
		t.Fatalf("a record begins with %x", c.bytes[at])
	}
	for kind := byte(0); kind < 9; kind++ {
		if kind == byte(etcdwal.EntryType) {
			continue
		}
		b := append([]byte(nil), c.bytes...)
		b[at+1] = kind
		if r, err := c.with(b); err == nil {
			t.Fatalf("an entry taken for a record of type %d: recovered %s", kind, describe(r))
		}
	}
}

// Open answers for what a killed process had written, so it syncs it; and it leaves the proof that it did.
func TestOpenLeavesProofThatWhatItFoundIsOnTheDisk(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 2), run(1, 3, 1)...)
	f.crash()
	f.open()
	c := f.crashed()
	if n := len(c.kinds); c.kinds[n-1] != etcdwal.StateType || c.kinds[n-2] != etcdwal.StateType {
		t.Fatalf("the records are of types %v: Open added no unit", c.kinds)
	}
}

// A unit is broken, and the one behind it is torn: that it was begun proves that the broken one was synced.
func TestATornUnitBehindABrokenOneProvesDamage(t *testing.T) {
	f := create(t)
	for i := uint64(1); i <= 2; i++ {
		e := entry(i, 1)
		e.Data = bytes.Repeat([]byte{7}, 4*sectorBytes)
		f.append(hard(1, 0, i), e)
	}
	c := f.crashed()
	lost := (c.begin(0)/sectorBytes + 2) * sectorBytes // in the first entry
	b := c.zeroed(lost, lost+sectorBytes)
	if r, err := c.with(b[:c.begin(2)]); err != nil || len(r.Entries) != 0 {
		t.Fatalf("a torn unit at the end: %v", err)
	}
	if r, err := c.with(b[:c.begin(2)+3*sectorBytes]); err == nil {
		t.Fatalf("recovered %s", describe(r))
	}
}
