package kvstore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// FuzzRestore gives a store arbitrary bytes for a snapshot: as they are, and as the state in one whose length and
// checksum fit. It takes them or stands as it was, and leaves nothing behind.
func FuzzRestore(f *testing.F) {
	whole := snapshotOf(f, busy(f).store)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Add(whole[:len(snapshotMagic)+8])
	f.Add(binary.BigEndian.AppendUint64([]byte(snapshotMagic), 1<<63))
	f.Add(binary.BigEndian.AppendUint64([]byte("raft3d state 99\n"), 0))
	f.Add([]byte("not a database"))
	f.Add(make([]byte, 8192))
	s := busy(f).store
	f.Fuzz(func(t *testing.T, given []byte) {
		was := dump(t, s)
		for _, b := range [][]byte{given, framed(given)} {
			err := s.Restore(bytes.NewReader(b))
			if err == nil && bytes.Equal(b, whole) {
				was = dump(t, s)
				continue
			}
			// bbolt believes what a checksum says is right, so an arbitrary file is not one that it must survive.
			if err == nil {
				t.Fatalf("took %d bytes that no store wrote", len(b))
			}
			if is := dump(t, s); is != was {
				t.Fatalf("%v, and was\n%s\nis\n%s", err, was, is)
			}
		}
	})
}

// framed is a snapshot of that file. A file with bbolt's own marks is left out: whoever made its checksum meant it.
func framed(file []byte) []byte {
	if len(file) >= 4096 || bytes.HasPrefix(file, []byte(snapshotMagic)) {
		return file
	}
	b := binary.BigEndian.AppendUint64([]byte(snapshotMagic), uint64(len(file)))
	b = append(b, file...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
}
