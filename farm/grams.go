package farm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Grams is a weight in whole milligrams: grams with at most three decimals, kept exactly, never a binary
// fraction. In JSON it is a number of grams: 1000 mg is 1, 12500 mg is 12.5.
type Grams int64

// Gram is one gram.
const Gram Grams = 1000

// maxDigits bounds a weight's digits in milligrams: what every int64 holds.
const maxDigits = 18

var (
	errGramsForm     = errors.New("must be a decimal number of grams, such as 12.5")
	errGramsDecimals = errors.New("must have at most three decimals: weights are kept in whole milligrams")
	errGramsSize     = fmt.Errorf("must be a number of grams below 1e%d", maxDigits-3)
)

// ParseGrams reads a weight in grams as JSON spells numbers, exponent included: 1e3 is 1000 g. It takes what is
// exact in milligrams and refuses the rest; nothing is rounded. Its errors are fit for clients.
func ParseGrams(text string) (Grams, error) {
	number, ok := scanNumber(text)
	if !ok {
		return 0, errGramsForm
	}
	digits := strings.TrimLeft(number.digits, "0")
	exponent := number.exponent + 3 // of ten, in milligrams
	trimmed := strings.TrimRight(digits, "0")
	exponent += int64(len(digits) - len(trimmed))
	digits = trimmed
	switch {
	case digits == "":
		return 0, nil
	case exponent < 0:
		return 0, errGramsDecimals
	case int64(len(digits))+exponent > maxDigits:
		return 0, errGramsSize
	}
	milligrams, err := strconv.ParseInt(digits+strings.Repeat("0", int(exponent)), 10, 64)
	if err != nil {
		return 0, errGramsForm
	}
	if number.negative {
		milligrams = -milligrams
	}
	return Grams(milligrams), nil
}

// number is digits × 10^exponent.
type number struct {
	negative bool
	digits   string
	exponent int64
}

// scanNumber takes a JSON number apart (RFC 8259, section 6).
func scanNumber(text string) (n number, ok bool) {
	rest, negative := strings.CutPrefix(text, "-")
	mantissa, power := rest, ""
	if at := strings.IndexAny(rest, "eE"); at >= 0 {
		mantissa, power = rest[:at], rest[at+1:]
		if strings.HasPrefix(power, "+") || strings.HasPrefix(power, "-") {
			if !isDigits(power[1:]) {
				return number{}, false
			}
		} else if !isDigits(power) {
			return number{}, false
		}
	}
	whole, fraction, hasPoint := strings.Cut(mantissa, ".")
	if !isDigits(whole) || len(whole) > 1 && whole[0] == '0' || hasPoint && !isDigits(fraction) {
		return number{}, false
	}
	return number{negative, whole + fraction, clampedInt(power) - int64(len(fraction))}, true
}

// clampedInt reads an integer that was found well formed. One beyond a billion counts as a billion: no text of a
// weight is long enough to make up for such an exponent.
func clampedInt(text string) int64 {
	const limit = 1_000_000_000
	value, err := strconv.ParseInt(text, 10, 64)
	switch {
	case text == "":
		return 0
	case err != nil && text[0] == '-':
		return -limit
	case err != nil:
		return limit
	}
	return max(-limit, min(value, limit))
}

func isDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}

// Append adds g to b as JSON spells it: the shortest exact form, without an exponent.
func (g Grams) Append(b []byte) []byte {
	milligrams := uint64(g)
	if g < 0 {
		b = append(b, '-')
		milligrams = -milligrams
	}
	b = strconv.AppendUint(b, milligrams/1000, 10)
	fraction := milligrams % 1000
	if fraction == 0 {
		return b
	}
	b = append(b, '.', byte('0'+fraction/100), byte('0'+fraction/10%10), byte('0'+fraction%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// String is g in grams, without a unit: 12.5.
func (g Grams) String() string { return string(g.Append(nil)) }

// MarshalJSON makes a number of grams.
func (g Grams) MarshalJSON() ([]byte, error) { return g.Append(nil), nil }

// UnmarshalJSON takes a number of grams, as ParseGrams does; null and strings are refused.
func (g *Grams) UnmarshalJSON(text []byte) error {
	parsed, err := ParseGrams(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}
