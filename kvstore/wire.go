package kvstore

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"raft3d/farm"
)

// Three commands are nearly all of a log: a new printer, a new job, and a job's next status. Each node decodes each, so
// decodeQuick reads them from their fields straight into farm's types: a fifth of the time, an eighth of the memory. It takes
// only what Encode writes, every field once and in order, and leaves all else to proto.Unmarshal; what it does take, it
// takes as that would (FuzzDecode).

// fields walks the fields of a message. A string is a part of one that was copied once.
type fields struct {
	b    []byte
	text string // the same bytes
	bad  bool   // it is not as Encode writes it

	tag   uint64 // number<<3 | wire type
	value uint64
	bytes []byte
	part  string
}

// The tags that occur: a field's number, and whether it is a number or a text.
const (
	number = uint64(protowire.VarintType)
	text   = uint64(protowire.BytesType)
)

// next goes on to the next field. Only the field repeated may come more than once; 0: none.
func (f *fields) next(repeated uint64) bool {
	if f.bad || len(f.b) == 0 {
		return false
	}
	tag, n := protowire.ConsumeVarint(f.b)
	if n < 0 || tag>>3 == 0 || tag>>3 < f.tag>>3 || tag>>3 == f.tag>>3 && tag != repeated {
		f.bad = true
		return false
	}
	f.tag = tag
	m := 0
	switch tag & 7 {
	case number:
		f.value, m = protowire.ConsumeVarint(f.b[n:])
	case text:
		f.bytes, m = protowire.ConsumeBytes(f.b[n:])
	default:
		m = -1
	}
	if m < 0 {
		f.bad = true
		return false
	}
	end := n + m
	if tag&7 == text {
		f.part = f.text[end-len(f.bytes) : end]
	}
	f.b, f.text = f.b[end:], f.text[end:]
	return true
}

func (f *fields) message() *fields { return &fields{b: f.bytes, text: f.part} }

// string is the text of the field, which must be UTF-8.
func (f *fields) string() string {
	f.bad = f.bad || !utf8.ValidString(f.part)
	return f.part
}

// decodeQuick returns false for what it leaves to others.
func decodeQuick(b []byte) (c farm.Command, s farm.Stamp, ok bool) {
	f := fields{b: b, text: string(b)}
	version := uint32(0)
	for f.next(0) {
		switch f.tag {
		case 1<<3 | number:
			version = uint32(f.value)
		case 2<<3 | number:
			s.At = farm.Time(f.value)
		case 3<<3 | text:
			s.Actor = f.string()
		case 4<<3 | text:
			s.NewID = farm.ID(f.string())
		case 5<<3 | text:
			s.Key = f.string()
		case 6<<3 | text:
			if len(f.bytes) != len(s.Fingerprint) {
				return nil, s, false
			}
			copy(s.Fingerprint[:], f.bytes)
		case 10<<3 | text:
			c = f.message().createPrinter(&f)
		case 12<<3 | text:
			c = f.message().createJob(&f)
		case 16<<3 | text:
			c = f.message().setJobStatus(&f)
		default:
			return nil, s, false
		}
		if c != nil && len(f.b) > 0 {
			return nil, s, false // of two commands the last would count
		}
	}
	if f.bad || c == nil || version < 1 || version > commandVersion || s.Key != "" && (!farm.ValidKey(s.Key) || s.Fingerprint == [32]byte{}) {
		return nil, s, false
	}
	return c, s, true
}

func (f *fields) createPrinter(outer *fields) farm.Command {
	var c farm.CreatePrinter
	for f.next(0) {
		switch f.tag {
		case 1<<3 | text:
			c.Text = f.message().commandText(f)
		case 2<<3 | text:
			c.Company = f.string()
		case 3<<3 | text:
			c.Model = f.string()
		default:
			f.bad = true
		}
	}
	outer.bad = f.bad
	return c
}

func (f *fields) createJob(outer *fields) farm.Command {
	var c farm.CreateJob
	for f.next(0) {
		switch f.tag {
		case 1<<3 | text:
			c.Text = f.message().commandText(f)
		case 2<<3 | text:
			c.PrinterID = farm.ID(f.string())
		case 3<<3 | text:
			c.FilamentID = farm.ID(f.string())
		case 4<<3 | text:
			c.Filepath = f.string()
		case 5<<3 | number:
			c.Weight = farm.Grams(f.value)
		default:
			f.bad = true
		}
	}
	outer.bad = f.bad
	return c
}

func (f *fields) setJobStatus(outer *fields) farm.Command {
	var c farm.SetJobStatus
	for f.next(0) {
		switch f.tag {
		case 1<<3 | text:
			c.ID = farm.ID(f.string())
		case 2<<3 | text:
			c.Status = farm.JobStatus(f.string())
		case 3<<3 | number:
			c.Used = new(farm.Grams(f.value))
		default:
			f.bad = true
		}
	}
	outer.bad = f.bad
	return c
}

func (f *fields) commandText(outer *fields) (t farm.Text) {
	const label = 4<<3 | text
	for f.next(label) {
		switch f.tag {
		case 1<<3 | text:
			t.ID = farm.ID(f.string())
		case 2<<3 | text:
			t.Name = f.string()
		case 3<<3 | text:
			t.Notes = f.string()
		case label:
			if t.Labels == nil {
				t.Labels = map[string]string{}
			}
			key, value := f.message().label(f)
			t.Labels[key] = value
		default:
			f.bad = true
		}
	}
	outer.bad = outer.bad || f.bad
	return t
}

func (f *fields) label(outer *fields) (key, value string) {
	for f.next(0) {
		switch f.tag {
		case 1<<3 | text:
			key = f.string()
		case 2<<3 | text:
			value = f.string()
		default:
			f.bad = true
		}
	}
	outer.bad = outer.bad || f.bad
	return key, value
}
