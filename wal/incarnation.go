package wal

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

const incarnationName = "incarnation"

// The file is one line: format, member (so that the file of another directory is not taken), number, checksum.
const incarnationLine = "raft3d-incarnation %d member=%016x opened=%d"

// readIncarnation returns how many times the directory was opened, and by whom. Zero: it is being made.
func readIncarnation(dir string) (member, n uint64, err error) {
	path := filepath.Join(dir, incarnationName)
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	var format int
	if _, err := fmt.Sscanf(string(b), incarnationLine, &format, &member, &n); err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", path, err)
	}
	if format != formatVersion {
		return 0, 0, fmt.Errorf("read %s: written in format %d: %w", path, format, errFormat)
	}
	if !bytes.Equal(b, encodeIncarnation(member, n)) {
		return 0, 0, fmt.Errorf("read %s: checksum mismatch", path)
	}
	return member, n, nil
}

func writeIncarnation(dir string, member, n uint64) error {
	return writeFile(filepath.Join(dir, incarnationName), encodeIncarnation(member, n))
}

func encodeIncarnation(member, n uint64) []byte {
	line := fmt.Sprintf(incarnationLine, formatVersion, member, n)
	return fmt.Appendf(nil, "%s crc32=%08x\n", line, crc32.ChecksumIEEE([]byte(line)))
}
