package kvstore

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"raft3d/farm"
	"raft3d/farm/farmtest"
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

// FuzzDecode holds what decodeQuick takes against what protobuf makes of it.
func FuzzDecode(f *testing.F) {
	printer := farm.CreatePrinter{
		Text:    farm.Text{ID: "p1", Name: "a", Notes: "\u00e9\n", Labels: map[string]string{"a": "1", "b": ""}},
		Company: "Prusa", Model: "MK4",
	}
	for _, c := range []farm.Command{
		printer, farm.CreatePrinter{}, job("j1", "p1", "f1", 12_500), to("j1", farm.Running),
		farm.SetJobStatus{ID: "j1", Status: farm.Done, Used: new(farm.Grams(7))}, spool("f1", 1000),
	} {
		for _, s := range []farm.Stamp{{}, {At: farmtest.Start, Actor: "me", NewID: "n1"}, {Key: "k", Fingerprint: [32]byte{1}}, {Key: "k", Fingerprint: [32]byte{1}, IfMatchAny: true}} {
			b := encode(f, c, s)
			if _, _, quick := decodeQuick(b); quick != (!s.IfMatchAny && reflect.TypeOf(c) != reflect.TypeOf(farm.CreateFilament{})) {
				f.Fatalf("%T with %+v: quick is %v", c, s, quick)
			}
			f.Add(b)
			f.Add(append(bytes.Clone(b), b...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, s, quick := decodeQuick(b)
		if !quick {
			return
		}
		want, stamp, refusal := decodeAny(b)
		if refusal != nil || !reflect.DeepEqual(c, want) || !reflect.DeepEqual(s, stamp) {
			t.Fatalf("%x is %+v, %+v\nprotobuf says %+v, %+v, %v", b, c, s, want, stamp, refusal)
		}
	})
}

// FuzzEncode holds what encodeQuick writes against what protobuf does.
func FuzzEncode(f *testing.F) {
	f.Add("p1", "a", "\u00e9\n", "ann", "", int64(farmtest.Start), uint8(2))
	f.Add("", "", "", "", "", int64(0), uint8(0))
	f.Add("", "", "n", "", "", int64(1), uint8(3))
	f.Add("\xff", strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("y", 16384), "k", int64(-1), uint8(12))
	f.Fuzz(func(t *testing.T, a, b, c, d, key string, n int64, labels uint8) {
		text := farm.Text{ID: farm.ID(a), Name: b, Notes: c}
		for i := range labels % 40 {
			if text.Labels == nil {
				text.Labels = map[string]string{"": d}
			}
			text.Labels[c+strings.Repeat("l", int(i))] = b
		}
		used := farm.Grams(n)
		stamp := farm.Stamp{At: farm.Time(n), Actor: d, NewID: farm.ID(a), Key: key}
		copy(stamp.Fingerprint[:], c)
		for _, command := range []farm.Command{
			farm.CreatePrinter{Text: text, Company: b, Model: d},
			farm.CreateJob{Text: text, PrinterID: farm.ID(b), FilamentID: farm.ID(d), Filepath: c, Weight: used},
			farm.SetJobStatus{ID: farm.ID(b), Status: farm.JobStatus(d)},
			farm.SetJobStatus{ID: farm.ID(b), Status: farm.JobStatus(d), Used: &used},
		} {
			got, quick := encodeQuick(command, &stamp)
			want, err := encodeAny(command, stamp)
			if quick != (err == nil) || quick && !bytes.Equal(got, want) {
				t.Fatalf("%+v, %+v is\n%x, %v\nprotobuf says\n%x, %v", command, stamp, got, quick, want, err)
			}
		}
	})
}
