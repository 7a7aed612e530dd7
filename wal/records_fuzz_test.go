package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// frames makes records as etcd's encoder would, with checksums that fit. data begins each record with its type and its
// length, in a byte each.
func frames(b []byte, crc uint32, data []byte) []byte {
	for len(data) >= 2 {
		kind, length := int64(data[0]%8), min(int(data[1]), len(data)-2)
		body := data[2 : 2+length]
		data = data[2+length:]
		crc = crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), body)
		rec, err := proto.Marshal(&walpb.Record{Type: &kind, Crc: proto.Uint32(crc), Data: body})
		if err != nil {
			panic(err)
		}
		head := uint64(len(rec))
		padding := (8 - len(rec)%8) % 8
		if padding > 0 {
			head |= uint64(0x80|padding) << 56
		}
		b = binary.LittleEndian.AppendUint64(b, head)
		b = append(append(b, rec...), make([]byte, padding)...)
	}
	return b
}

// FuzzRecords reads a log of arbitrary records whose checksums fit. What is recovered is a log as raft believes in one;
// anything else is damage. Nothing panics.
func FuzzRecords(f *testing.F) {
	record := func(kind byte, m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return append([]byte{kind, byte(len(b))}, b...)
	}
	var whole []byte
	for i := uint64(1); i <= 3; i++ {
		e := entry(i, 2)
		e.Data = []byte("x")
		whole = append(whole, record(byte(etcdwal.EntryType), e)...)
		whole = append(whole, record(byte(etcdwal.StateType), hardState{2, 1, i}.numbered(i))...)
		f.Add(whole)
	}
	f.Add(append(whole[:len(whole):len(whole)], record(byte(etcdwal.EntryType), entry(2, 3))...))
	f.Add(append(whole[:len(whole):len(whole)], record(byte(etcdwal.SnapshotType), &walpb.Snapshot{
		Index: proto.Uint64(2), Term: proto.Uint64(2), ConfState: &raftpb.ConfState{Voters: []uint64{1}},
	})...))
	f.Add(record(byte(etcdwal.EntryType), entry(1<<63, 1)))
	f.Add(record(byte(etcdwal.EntryType), entry(1<<64-1, 1<<64-1)))
	f.Add([]byte{byte(etcdwal.CrcType), 0, byte(etcdwal.MetadataType), 1, 'x', 0, 0, 7, 0})
	dir := memoryDir(f)
	f.Cleanup(func() { os.RemoveAll(dir) })
	dir = filepath.Join(dir, "n")
	l, err := Create(dir, testIdentity, testConfig)
	must(f, err)
	must(f, l.etcd.Close())
	must(f, l.lock.Close())
	must(f, l.note.Close())
	c := inspect(f, dir)
	end := c.end()
	metadata, err := testIdentity.encode()
	must(f, err)
	// The head of the very first segment: a checksum of nothing, the metadata, and the snapshot of a new log.
	crc := crc32.Checksum(metadata, crc32.MakeTable(crc32.Castagnoli))
	empty, err := proto.Marshal(&walpb.Snapshot{Index: proto.Uint64(0), Term: proto.Uint64(0)})
	must(f, err)
	crc = crc32.Update(crc, crc32.MakeTable(crc32.Castagnoli), empty)
	head := c.bytes[:end]

	put(f, c.path, append(frames(head[:end:end], crc, whole), make([]byte, 4096)...))
	r, err := Read(dir)
	must(f, err)
	if len(r.Entries) != 3 || r.HardState.GetCommit() != 3 {
		f.Fatalf("recovered %v", r)
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		put(t, c.path, append(frames(head[:end:end], crc, data), make([]byte, 4096)...))
		r, err := Read(dir)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, errFormat) {
				t.Fatalf("neither read nor refused as damaged: %v", err)
			}
			return
		}
		next, term := r.Snapshot.GetIndex()+1, r.Snapshot.GetTerm()
		for _, e := range r.Entries {
			if e.GetIndex() != next || e.GetTerm() == 0 || e.GetTerm() > r.HardState.GetTerm() {
				t.Fatalf("entry %d of term %d where %d comes next, in term %d", e.GetIndex(), e.GetTerm(), next, r.HardState.GetTerm())
			}
			next, term = next+1, max(term, e.GetTerm())
		}
		if h := r.HardState; h.GetCommit() >= next || h.GetTerm() < term {
			t.Fatalf("the log ends before entry %d, of term %d: %v", next, term, h)
		}
	})
}
