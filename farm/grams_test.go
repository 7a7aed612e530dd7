package farm_test

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"raft3d/farm"
)

func TestGramsAreReadExactlyOrRefused(t *testing.T) {
	for _, c := range []struct {
		text string
		want farm.Grams
	}{
		{"0", 0}, {"-0", 0}, {"0.000", 0}, {"0e999999999999999999999", 0},
		{"1", 1000}, {"1000", 1_000_000}, {"12.5", 12_500}, {"0.001", 1}, {"-2.25", -2250},
		{"1e3", 1_000_000}, {"1E+3", 1_000_000}, {"1.5e-2", 15}, {"1200e-2", 12_000}, {"0.1e1", 1000},
		{"1.5000000", 1500}, {"100000.999", 100_000_999}, {"1e-3", 1},
		{"999999999999999.999", 999_999_999_999_999_999},
	} {
		got, err := farm.ParseGrams(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: %d mg, %v; want %d mg", c.text, got, err, c.want)
		}
	}
	for text, reason := range map[string]string{
		"0.0001": "three decimals", "1e-4": "three decimals", "12.3456": "three decimals", "1e-99999999999999999999": "three decimals",
		"1e15": "below 1e15", "1e99999999999999999999": "below 1e15", "99999999999999999999": "below 1e15",
		"": "decimal number", "-": "decimal number", "01": "decimal number", "1.": "decimal number", ".5": "decimal number",
		"+1": "decimal number", "1e": "decimal number", "1e+": "decimal number", "0x10": "decimal number", "NaN": "decimal number",
		"1 ": "decimal number", "1_000": "decimal number", "--1": "decimal number", "1e+-3": "decimal number", "١": "decimal number",
	} {
		got, err := farm.ParseGrams(text)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %d mg, %v; want a refusal that says %q", text, got, err, reason)
		}
	}
}

func TestGramsAreWrittenInTheShortestExactForm(t *testing.T) {
	for want, g := range map[string]farm.Grams{
		"0": 0, "1000": 1000 * farm.Gram, "12.5": 12_500, "0.001": 1, "0.01": 10, "0.12": 120, "-0.5": -500, "-3": -3000,
		"-9223372036854775.808": math.MinInt64, "9223372036854775.807": math.MaxInt64,
	} {
		if got := g.String(); got != want {
			t.Errorf("%d mg: %s; want %s", int64(g), got, want)
		}
	}
}

func TestGramsInJSONAreNumbersOnly(t *testing.T) {
	var g farm.Grams
	for _, text := range []string{`"12.5"`, `null`, `true`, `{}`, `[1]`} {
		if err := json.Unmarshal([]byte(text), &g); err == nil {
			t.Errorf("%s was taken as %v g", text, g)
		}
	}
	b, err := json.Marshal(struct{ A, B farm.Grams }{12_500, -1})
	if err != nil || string(b) != `{"A":12.5,"B":-0.001}` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestEveryWeightComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := farm.Grams(rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "g"))
		back, err := farm.ParseGrams(g.String())
		if err != nil || back != g {
			t.Fatalf("%d mg went as %s and came back as %d mg, %v", int64(g), g, int64(back), err)
		}
	})
}

// FuzzParseGrams holds ParseGrams against rational arithmetic.
func FuzzParseGrams(f *testing.F) {
	for _, seed := range []string{"12.5", "1e3", "-0.001", "1.0000", "1e-4", "123456789012345678", "1E+02", "0.0e7", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := farm.ParseGrams(text)
		if len(text) > 30 || strings.ContainsAny(text, "/_xXpPbBoO") {
			return // what big.Rat reads beyond decimal numbers, or takes too long over
		}
		if at := strings.IndexAny(text, "eE"); at >= 0 && len(text)-at > 5 {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		if err == nil {
			if !ok || exact.Cmp(big.NewRat(int64(got), 1000)) != 0 {
				t.Fatalf("%q was read as %v g", text, got)
			}
			return
		}
		if !ok || !json.Valid([]byte(text)) {
			return
		}
		milligrams := new(big.Rat).Mul(exact, big.NewRat(1000, 1))
		if milligrams.IsInt() && milligrams.Num().IsInt64() && len(strings.TrimLeft(milligrams.Num().String(), "-")) <= 18 {
			t.Fatalf("%q was refused with %v", text, err)
		}
	})
}
