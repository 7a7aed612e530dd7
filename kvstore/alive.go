package kvstore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
)

// A state that nobody synced is lost with the machine, but not with the process: what bbolt committed is in the kernel's
// memory, and a transaction that a kill cut off has touched nothing that the last one uses. So after each transaction
// the store notes which file it was and when it was written, and an Open that finds the file exactly so goes on from
// there instead of applying the log again (docs/decisions/0012).
//
// The note holds the kernel's boot, the mount, the inode, its size and the time of its last change to the nanosecond: after
// a reboot, a remount, a copy, or a write by anybody else, a byte in an editor included, it no longer fits. A store that
// ends by itself removes it, so that a state with which something was wrong is built anew; and so does Open, until the
// state was read, so that one on which the process dies at once is not met twice.
const aliveFile = "state.db.alive"

// noteAlive follows each transaction. It must be called with writing held. Without the note the next start takes longer,
// which is no reason to stop.
func (s *Store) noteAlive() {
	is := aliveMark(s.path(stateFile))
	if is == nil {
		return
	}
	if s.alive == nil {
		var err error
		if s.alive, err = os.OpenFile(s.path(aliveFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
			s.log.Debug("could not note the state", "err", err)
			return
		}
	}
	if _, err := s.alive.WriteAt(is, 0); err != nil {
		s.log.Debug("could not note the state", "err", err)
	}
}

// noteRead notes a state that was found, and read without a fault. It must be called without writing held.
func (s *Store) noteRead() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.isClosed() && s.broken == nil {
		s.noteAlive()
	}
}

// Survived reports whether the state in dir is as the process that wrote it left it, so that Open goes on from it.
func Survived(dir string) bool {
	was, err := os.ReadFile(filepath.Join(dir, aliveFile))
	is := aliveMark(filepath.Join(dir, stateFile))
	return err == nil && is != nil && bytes.Equal(was, is)
}

// forgetAlive takes the note away. It must be called with writing held.
func (s *Store) forgetAlive() error {
	if s.alive == nil {
		return nil
	}
	err := errors.Join(s.alive.Close(), removeIfThere(s.path(aliveFile)))
	s.alive = nil
	return err
}
