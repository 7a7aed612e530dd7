package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"
)

// Offline is the directory of a member that does not run, open for reading: nothing in it is changed. While it is open
// no process can run the member.
type Offline struct {
	dir  string
	lock *os.File
}

// OpenOffline opens the directory of a member for reading and says what may be believed of it. Its errors are those of
// Open.
func OpenOffline(dir string) (_ *Offline, _ Recovered, err error) {
	if !Exists(dir) {
		return nil, Recovered{}, fmt.Errorf("read %s: no member is there: %w", dir, fs.ErrNotExist)
	}
	o := &Offline{dir: dir}
	// Without the file nobody has used the directory, or somebody took it away: nobody runs there either way.
	o.lock, err = os.Open(filepath.Join(dir, lockName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, Recovered{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err == nil {
		if err = syscall.Flock(int(o.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		if err != nil {
			return nil, Recovered{}, errors.Join(fmt.Errorf("lock %s: %w", dir, err), o.Close())
		}
	}
	p, err := replay(dir, defaultSegmentBytes, 0)
	if err != nil {
		return nil, Recovered{}, errors.Join(err, o.Close())
	}
	return o, p.recovered, nil
}

// OpenSnapshot opens the file of a snapshot. What is read is its state; where the checksum turns out wrong, Read
// returns an error instead of io.EOF.
func (o *Offline) OpenSnapshot(meta *raftpb.SnapshotMetadata) (io.ReadCloser, error) {
	r, err := openSnapshot(o.dir, snapshotID{meta.GetIndex(), meta.GetTerm()})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Close lets the member run again.
func (o *Offline) Close() error {
	if o.lock == nil {
		return nil
	}
	return o.lock.Close()
}

// Prepare makes an empty directory beside dir, and what is missing above it. Its name begins with a dot and says that it
// is unfinished: a crash may leave it behind.
func Prepare(dir string) (prepared string, err error) {
	dir = filepath.Clean(dir)
	if err := makeDirs(filepath.Dir(dir)); err != nil {
		return "", fmt.Errorf("prepare %s: %w", dir, err)
	}
	return os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".unfinished-*")
}

// Install gives a directory that Prepare made the name dir, which must be free: after a crash,
// whenever it happens, there is all of it under that name, or nothing. What is in it must be on the disk already, but
// for the names in its first level.
func Install(prepared, dir string) error {
	err := syncDir(prepared)
	if err == nil {
		err = os.Rename(prepared, dir)
	}
	if err == nil {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("give %s its name: %w", dir, err)
	}
	return nil
}
