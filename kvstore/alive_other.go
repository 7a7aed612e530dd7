//go:build !linux

package kvstore

// aliveMark is nil where nothing says for sure that a file is what it was.
func aliveMark(string) []byte { return nil }
