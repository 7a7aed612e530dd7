package farm

import (
	"errors"
	"time"
)

// Time is an instant in UTC with millisecond precision; it is sent as RFC 3339 with exactly three decimals.
type Time int64 // milliseconds since the Unix epoch

// MaxTime is the last instant that RFC 3339 can spell: the end of the year 9999.
const MaxTime Time = 253402300799999

const timeLayout = "2006-01-02T15:04:05.000Z"

var errTimeForm = errors.New("must be a time such as 2026-01-31T12:00:00.000Z: RFC 3339, UTC, three decimals")

// TimeOf cuts t to milliseconds.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// Append adds t to b as it is sent, without quotes.
func (t Time) Append(b []byte) []byte {
	// By hand, since every change spells several: AppendFormat takes three times as long.
	u := time.UnixMilli(int64(t)).UTC()
	year, month, day := u.Date()
	if year < 0 || year > 9999 {
		return u.AppendFormat(b, timeLayout)
	}
	hour, minute, second := u.Clock()
	b = append(appendTwo(appendTwo(b, year/100), year%100), '-')
	b = append(appendTwo(b, int(month)), '-')
	b = append(appendTwo(b, day), 'T')
	b = append(appendTwo(b, hour), ':')
	b = append(appendTwo(b, minute), ':')
	b = append(appendTwo(b, second), '.')
	ms := u.Nanosecond() / int(time.Millisecond)
	return append(appendTwo(append(b, byte('0'+ms/100)), ms%100), 'Z')
}

// appendTwo adds two decimal digits.
func appendTwo(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func (t Time) String() string { return string(t.Append(nil)) }

// MarshalJSON makes a string in the one form that UnmarshalJSON takes.
func (t Time) MarshalJSON() ([]byte, error) {
	return append(t.Append([]byte{'"'}), '"'), nil
}

// UnmarshalJSON takes RFC 3339 in UTC (Z) with exactly three decimals.
func (t *Time) UnmarshalJSON(text []byte) error {
	if len(text) != len(timeLayout)+2 || text[0] != '"' || text[len(text)-1] != '"' {
		return errTimeForm
	}
	spelled := string(text[1 : len(text)-1])
	parsed, err := time.Parse(timeLayout, spelled)
	if err != nil || TimeOf(parsed).String() != spelled {
		return errTimeForm
	}
	*t = TimeOf(parsed)
	return nil
}
