package transport

import "math/rand/v2"

// startBits are the low bits of an incarnation: they are random, and tell a start from that of a copy.
const startBits = 20

// Incarnation names one start of a member: the number of times that its directory was started, and below that 20
// random bits. The count orders the starts of one directory. The bits tell apart two starts with the same count, of
// which one must be of a copy of the directory, made before the other start: it may have forgotten what the other
// promised.
func Incarnation(count uint64) uint64 {
	return count<<startBits | rand.Uint64N(1<<startBits)
}

// Rivals reports whether a and b are two starts with the same count. Numbers that Incarnation did not make have
// count 0 and are only compared.
func Rivals(a, b uint64) bool {
	return a != b && a>>startBits == b>>startBits && a>>startBits != 0
}
