package wal

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const sealSuffix = ".seal"

// A file that is written without fsync may be believed only after an end that synced it. Seal is that end's last act
// and Unseal the next start's first: whatever happens between the two leaves no seal, and the file is to be rebuilt.

// Seal syncs the file at path and writes path+".seal" with its size and SHA-256, durably. Nobody may write the file
// any more.
func Seal(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	seal, err := sealOf(f)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := writeFile(path+sealSuffix, seal); err != nil { // syncs the directory, so the file's own name, too
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// Sealed says whether there is a seal of path. Whether it still fits, only Unseal says.
func Sealed(path string) bool {
	_, err := os.Stat(path + sealSuffix)
	return err == nil
}

// Unseal says whether path was sealed and is unchanged since. In every case but an error the seal is durably gone when
// it returns; after an error the file must not be written.
func Unseal(path string) (intact bool, err error) {
	want, err := os.ReadFile(path + sealSuffix)
	if err == nil {
		if f, err := os.Open(path); err == nil {
			got, err := sealOf(f)
			intact = err == nil && bytes.Equal(got, want)
			f.Close()
		}
	}
	for _, name := range []string{path + sealSuffix, path + sealSuffix + tmpSuffix} {
		if err := remove(name); err != nil {
			return false, fmt.Errorf("unseal: %w", err)
		}
	}
	// Also where there was none: it may be gone only from this machine's memory.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return false, fmt.Errorf("unseal: %w", err)
	}
	return intact, nil
}

func sealOf(f *os.File) ([]byte, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return fmt.Appendf(nil, "raft3d-seal %d size=%d sha256=%x\n", formatVersion, n, sum.Sum(nil)), nil
}
