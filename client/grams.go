package client

import (
	"fmt"
	"strconv"
	"strings"
)

// Grams is a weight in whole milligrams, as the cluster keeps it: grams with at most three decimals, exactly. It is an
// integer, not a float64, so that 0.1 g is 0.1 g and sums are exact; not a json.Number, so that one can calculate with it.
// In JSON it is a number of grams: 12500 mg is 12.5.
type Grams int64

// Gram is one gram.
const Gram Grams = 1000

// ParseGrams reads a weight in grams: digits, and up to three decimals ("1000", "12.5"). What would have to be rounded
// is refused.
func ParseGrams(text string) (Grams, error) {
	unsigned, negative := strings.CutPrefix(text, "-")
	whole, fraction, _ := strings.Cut(unsigned, ".")
	digits := whole + fraction
	if whole == "" || strings.HasSuffix(unsigned, ".") || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is no weight in grams, such as 12.5", text)
	}
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 3 {
		return 0, fmt.Errorf("%q has more than three decimals: weights are kept in whole milligrams", text)
	}
	milligrams, err := strconv.ParseInt(whole+fraction+"000"[len(fraction):], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is too much for a weight in grams", text)
	}
	if negative {
		milligrams = -milligrams
	}
	return Grams(milligrams), nil
}

// String is g in grams, without a unit, in the shortest exact form: 12.5.
func (g Grams) String() string {
	sign, milligrams := "", uint64(g)
	if g < 0 {
		sign, milligrams = "-", -milligrams
	}
	text := fmt.Sprintf("%s%d.%03d", sign, milligrams/1000, milligrams%1000)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// MarshalJSON makes a number of grams.
func (g Grams) MarshalJSON() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalJSON takes a number of grams as nodes send it: exact, without an exponent.
func (g *Grams) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	parsed, err := ParseGrams(string(text))
	if err == nil {
		*g = parsed
	}
	return err
}
