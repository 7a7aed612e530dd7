package kvstore

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"raft3d/farm"
)

// Objects are stored as they are sent: JSON with the fields in the order of farm's structs and labels sorted, what
// encoding/json makes without escaping for HTML. Written by hand it takes a fifth of the time, and every command
// writes two or three.

func appendPrinter(b []byte, p *farm.Printer) []byte {
	b = appendCommon(b, &p.Common)
	b = appendText(append(b, `,"company":`...), p.Company)
	b = appendText(append(b, `,"model":`...), p.Model)
	b = append(b, `,"current_job_id":`...)
	if p.CurrentJobID == nil {
		b = append(b, "null"...)
	} else {
		b = appendText(b, string(*p.CurrentJobID))
	}
	return appendTimes(b, &p.Times)
}

func appendFilament(b []byte, f *farm.Filament) []byte {
	b = appendCommon(b, &f.Common)
	b = appendText(append(b, `,"type":`...), f.Type)
	b = appendText(append(b, `,"color":`...), f.Color)
	b = f.Total.Append(append(b, `,"total_weight_in_grams":`...))
	b = f.Remaining.Append(append(b, `,"remaining_weight_in_grams":`...))
	b = f.Reserved.Append(append(b, `,"reserved_weight_in_grams":`...))
	b = f.Available.Append(append(b, `,"available_weight_in_grams":`...))
	return appendTimes(b, &f.Times)
}

func appendJob(b []byte, j *farm.Job) []byte {
	b = appendCommon(b, &j.Common)
	b = appendText(append(b, `,"printer_id":`...), string(j.PrinterID))
	b = appendText(append(b, `,"filament_id":`...), string(j.FilamentID))
	b = appendText(append(b, `,"filepath":`...), j.Filepath)
	b = j.Weight.Append(append(b, `,"print_weight_in_grams":`...))
	b = appendText(append(b, `,"status":`...), string(j.Status))
	b = append(b, `,"used_weight_in_grams":`...)
	if j.Used == nil {
		b = append(b, "null"...)
	} else {
		b = j.Used.Append(b)
	}
	b = appendOptionalTime(append(b, `,"started_at":`...), j.StartedAt)
	b = appendOptionalTime(append(b, `,"finished_at":`...), j.FinishedAt)
	return appendTimes(b, &j.Times)
}

func appendCommon(b []byte, c *farm.Common) []byte {
	b = appendText(append(b, `{"id":`...), string(c.ID))
	b = appendText(append(b, `,"name":`...), c.Name)
	b = appendText(append(b, `,"notes":`...), c.Notes)
	b = append(b, `,"labels":{`...)
	if len(c.Labels) == 0 {
		return append(b, '}')
	}
	var few [8]string
	for i, key := range sortedKeys(few[:0], c.Labels) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, key)
		b = appendText(append(b, ':'), c.Labels[key])
	}
	return append(b, '}')
}

func appendTimes(b []byte, t *farm.Times) []byte {
	b = appendTime(append(b, `,"created_at":`...), t.CreatedAt)
	b = appendTime(append(b, `,"updated_at":`...), t.UpdatedAt)
	b = strconv.AppendUint(append(b, `,"revision":`...), t.Revision, 10)
	return append(b, '}')
}

func appendTime(b []byte, t farm.Time) []byte {
	return append(t.Append(append(b, '"')), '"')
}

func appendOptionalTime(b []byte, t *farm.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return appendTime(b, *t)
}

// appendText adds a JSON string as encoding/json spells it without escaping for HTML. s is valid UTF-8: farm takes
// nothing else.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := plain(s); i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == '\u2028' || r == '\u2029' { // line ends in JavaScript
				b = append(b, s[start:i]...)
				b = append(b, `\u202`...)
				b = append(b, hex[r&0xf])
				start = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// plain is how much of s, from its beginning, surely stands for itself in a JSON string. It looks at eight bytes at once: a
// control character, a quote and a backslash leave the highest bit of their byte set when one is taken from it, and so does
// the first byte of what is not ASCII. Where one is, and in the last few, the caller looks for itself.
func plain(s string) (n int) {
	const (
		each = 0x0101010101010101
		high = each << 7
	)
	for ; n+8 <= len(s); n += 8 {
		c := s[n : n+8]
		w := uint64(c[0]) | uint64(c[1])<<8 | uint64(c[2])<<16 | uint64(c[3])<<24 |
			uint64(c[4])<<32 | uint64(c[5])<<40 | uint64(c[6])<<48 | uint64(c[7])<<56
		quote, backslash := w^each*'"', w^each*'\\'
		if ((w-each*' ')|(quote-each)|(backslash-each))&high != 0 {
			break
		}
	}
	return n
}

// decodeObject reads an object as it is stored: a *farm.Printer, *farm.Filament or *farm.Job.
func decodeObject(kind farm.Kind, raw []byte) (any, error) {
	var object any
	switch kind {
	case farm.KindPrinter:
		object = new(farm.Printer)
	case farm.KindFilament:
		object = new(farm.Filament)
	case farm.KindJob:
		object = new(farm.Job)
	default:
		panic(fmt.Sprintf("decode object: no kind %q", kind))
	}
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, fmt.Errorf("stored %s is damaged: %w", kind, err)
	}
	return object, nil
}
