package farm

import (
	"fmt"
	"slices"
	"strings"
)

// ParseStatus reads the state of a job in any case, also with the British "cancelled". Its error is fit for clients.
func ParseStatus(word string) (JobStatus, error) {
	lower := lowerASCII(word)
	if lower == "cancelled" {
		return Canceled, nil
	}
	for _, s := range Statuses {
		if lower == lowerASCII(string(s)) {
			return s, nil
		}
	}
	return "", fmt.Errorf("must be one of %s", joined(Statuses))
}

// ParseFilamentType reads what a spool is made of in any case, and returns it in upper case. Its error is fit for
// clients.
func ParseFilamentType(word string) (string, error) {
	upper := upperASCII(word)
	if !slices.Contains(FilamentTypes, upper) {
		return "", fmt.Errorf("must be one of %s", joined(FilamentTypes))
	}
	return upper, nil
}

func joined[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}

// lowerASCII and upperASCII leave all other letters alone: Unicode's folding would take a Kelvin sign for a k.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func upperASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}
