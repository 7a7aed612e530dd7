package kvstore

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"raft3d/farm"
	"raft3d/farm/farmtest"
)

func TestEveryCommandComesOutOfTheLogAsItWentIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := farmtest.Commands().Draw(t, "command")
		stamp := farm.Stamp{At: farm.Time(rapid.Int64Min(0).Draw(t, "at")), Actor: "größe", NewID: "n"}
		version := byte(1) // a node of the first release takes what has nothing that it would miss
		if rapid.Bool().Draw(t, "with a key") {
			stamp.Key, stamp.Fingerprint, version = "k 1", [32]byte{1, 31: 2}, 2
		}
		if rapid.Bool().Draw(t, "with a condition") {
			stamp.IfMatch, version = append([]uint64{}, rapid.SliceOfN(rapid.Uint64(), 0, 3).Draw(t, "revisions")...), 2
			stamp.IfMatchAny = rapid.Bool().Draw(t, "any")
		}
		if rapid.IntRange(0, 9).Draw(t, "an answer") == 0 {
			given, version = farm.RecordAnswer{Answer: farm.Answer{Status: 201, Header: map[string]string{"A": "b", "C": "d"}, Body: []byte{0xff}}}, 2
		}
		b, err := Encode(given, stamp)
		if err != nil || b[1] != version {
			t.Fatalf("%x, %v; want version %d", b, err, version)
		}
		got, gotStamp, refusal := Decode(b)
		if refusal != nil || !reflect.DeepEqual(gotStamp, stamp) || !reflect.DeepEqual(got, given) {
			t.Fatalf("%+v came back as %+v, %+v, %v", given, got, gotStamp, refusal)
		}
	})
}

// A log outlives the program that wrote it: these bytes must mean the same for ever.
func TestTheFirstLogsCanStillBeRead(t *testing.T) {
	stamp := farm.Stamp{At: 1_700_000_000_000, Actor: "ann", NewID: "n1"}
	for spelled, want := range map[string]farm.Command{
		"08011080d095ffbc311a03616e6e22026e3152120a040a027031120550727573611a034d4b34":                 printer("p1"),
		"08011080d095ffbc311a03616e6e22026e315a140a040a0266311203504c411a037265642080897a":             spool("f1", 2000*farm.Gram),
		"08011080d095ffbc311a03616e6e22026e31621a0a040a026a31120270311a0266312207612e67636f646528f403": job("j1", "p1", "f1", 500),
		"08011080d095ffbc311a03616e6e22026e3182010d0a026a311204446f6e6518e807":                         farm.SetJobStatus{ID: "j1", Status: farm.Done, Used: ptr(farm.Gram)},
		"08011080d095ffbc311a03616e6e22026e318a010f0a077072696e746572120470312e78":                     farm.Delete{Kind: farm.KindPrinter, ID: "p1.x"},
	} {
		b, err := hex.DecodeString(spelled)
		if err != nil {
			t.Fatal(err)
		}
		got, gotStamp, refusal := Decode(b)
		if refusal != nil || !reflect.DeepEqual(gotStamp, stamp) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %+v, %v; want %+v", spelled, got, gotStamp, refusal, want)
		}
	}
}

func TestAKeyOfTheWrongFormIsNotTakenFromTheLog(t *testing.T) {
	for what, e := range map[string]*Envelope{
		"a long key":          {Version: 2, Key: strings.Repeat("k", farm.MaxKeyLength+1), Fingerprint: make([]byte, 32)},
		"a line break":        {Version: 2, Key: "k\n", Fingerprint: make([]byte, 32)},
		"no fingerprint":      {Version: 2, Key: "k"},
		"a short fingerprint": {Version: 2, Key: "k", Fingerprint: make([]byte, 31)},
	} {
		e.Command = &Envelope_Delete{&Delete{Kind: "printer", Id: "p"}}
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, refusal := Decode(b); refusal != errBadKey {
			t.Errorf("%s: %v", what, refusal)
		}
	}
}

func TestWhatCannotBeWrittenIsNotEncoded(t *testing.T) {
	if b, err := Encode(farm.CreatePrinter{Company: "\xff"}, farm.Stamp{}); err == nil {
		t.Errorf("%x", b)
	}
	if b, err := Encode(nil, farm.Stamp{}); err == nil || !strings.Contains(err.Error(), "encode command") {
		t.Errorf("%x, %v", b, err)
	}
}
