package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// A log that has lost its last writes looks like one in which they never were. So each of them is noted in a second
// file, once it is on the disk and before anybody is told. The note itself is not synced: after a process was killed it
// is exact, after a power cut it may be some seconds old, and it is never ahead of a disk that keeps what it has synced.
// Open refuses a log that does not reach as far. A note that is missing or can't be read proves nothing.

const reachedName = "reached"

// The note is one line of fixed length, so that it is written in place, within one sector.
const reachedLine = "raft3d-reached %d member=%016x opened=%016x unit=%016x snapshot=%016x"

// reached is how far the log has come on the disk.
type reached struct {
	incarnation uint64 // so that an old copy of the file that counts them is noticed too
	unit        uint64 // number of the last unit
	snapshot    uint64 // index of the newest snapshot that counts
}

func (r reached) encode(member uint64) []byte {
	line := fmt.Sprintf(reachedLine, formatVersion, member, r.incarnation, r.unit, r.snapshot)
	return fmt.Appendf(nil, "%s crc32=%08x\n", line, crc32.ChecksumIEEE([]byte(line)))
}

// readReached returns the member's note; the zero value where there is none that can be believed.
func readReached(dir string, member uint64) (reached, error) {
	b, err := os.ReadFile(filepath.Join(dir, reachedName))
	if errors.Is(err, fs.ErrNotExist) {
		return reached{}, nil
	}
	if err != nil {
		return reached{}, err
	}
	var r reached
	var format int
	var of uint64
	if _, err := fmt.Sscanf(string(b), reachedLine, &format, &of, &r.incarnation, &r.unit, &r.snapshot); err != nil || !bytes.Equal(b, r.encode(member)) {
		return reached{}, nil
	}
	return r, nil
}

// openReached replaces the note and opens it, for writing in place.
func openReached(dir string, member uint64, r reached) (*os.File, error) {
	path := filepath.Join(dir, reachedName)
	if err := writeFile(path, r.encode(member)); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}

// noteReached tells the file what is on the disk by now.
func (l *Log) noteReached() error {
	r := reached{incarnation: l.incarnation, unit: l.unit}
	if n := len(l.kept); n > 0 { // only this goroutine changes it
		r.snapshot = l.kept[n-1].index
	}
	if _, err := l.note.WriteAt(r.encode(l.identity.MemberID), 0); err != nil {
		return l.die(fmt.Errorf("note how far the log reaches: %w", err))
	}
	return nil
}
