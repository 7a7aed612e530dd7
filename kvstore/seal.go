package kvstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// seal records what the closed file holds. bbolt itself checks no page that it reads: a byte that turned over while
// the node was down would be served, or end the process. The seal finds it.
func (s *Store) seal() error {
	sum, err := sumOf(s.path(stateFile))
	if err != nil {
		return fmt.Errorf("seal state: %w", err)
	}
	f, err := os.OpenFile(s.path(sealFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("seal state: %w", err)
	}
	_, err = io.WriteString(f, sum)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("seal state: %w", err)
	}
	return nil
}

// unseal reports whether the file that is there is as it was sealed. If it is not, or must not be kept, it is gone
// when unseal returns. Either way the seal is broken: from now on the file is written without fsync.
func (s *Store) unseal(keep bool) (sound bool, err error) {
	if keep {
		sound, err = s.isSealed()
		if err != nil {
			return false, err
		}
		if !sound {
			s.log.Warn("discarded a state that is not as it was closed", "path", s.path(stateFile))
		}
	}
	names := []string{sealFile, incomingFile}
	if !sound {
		names = append(names, stateFile)
	}
	for _, name := range names {
		if err := removeIfThere(s.path(name)); err != nil {
			return false, err
		}
	}
	return sound, nil
}

func (s *Store) isSealed() (bool, error) {
	recorded, err := os.ReadFile(s.path(sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sum, err := sumOf(s.path(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && sum == string(recorded), err
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
