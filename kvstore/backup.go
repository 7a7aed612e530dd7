package kvstore

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// A backup is backupMagic with the version of this form and a line end, one line of JSON (backupHeader), the bbolt
// file, and the SHA-256 of all of that in 32 bytes.
const (
	backupMagic   = "raft3d backup "
	backupVersion = "1"
)

// RevisionGap is how far the revisions of a restored farm begin beyond those of its backup. Between the backup and its
// restore the old cluster may have gone on: a client's cursor or ETag from that time means something else now, and must
// not look as if it did not. No farm makes a thousand million changes in between.
const RevisionGap = 1_000_000_000

// maxBackupLine bounds the header, in bytes.
const maxBackupLine = 64 << 10

// backupHeader tells what follows.
type backupHeader struct {
	BackupInfo
	StateBytes int64 `json:"state_bytes"`
}

// BackupInfo says what a backup is of.
type BackupInfo struct {
	ClusterID string    `json:"cluster_id"` // it was taken from
	Revision  uint64    `json:"revision"`   // the state that it shows
	Applied   uint64    `json:"applied_index"`
	Time      farm.Time `json:"time"` // of the last change
}

// Backup writes a copy of the whole state to w: one with every change that was acknowledged anywhere before the call.
// It tells which revision that is. Writes go on meanwhile, and make the file grow until it ends; it takes no memory to
// speak of. An error leaves w with a part that ReadBackup refuses. After the store was closed it is a *farm.Error of
// kind Unavailable; w's errors are wrapped, as is the cause where ctx ends.
func (d *DB) Backup(ctx context.Context, clusterID string, w io.Writer) (revision uint64, err error) {
	if err := d.log.ReadBarrier(ctx); err != nil {
		return 0, err
	}
	err = d.read(func(tx *bbolt.Tx) error {
		h, err := readHead(tx)
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		revision = h.Revision
		header := backupHeader{BackupInfo{clusterID, h.Revision, h.Applied, h.Time}, tx.Size()}
		out := &untilDone{ctx: ctx, w: w}
		if err := writeBackup(out, header, tx); err != nil {
			return fmt.Errorf("back up revision %d: %w", revision, cmp.Or(out.err, err))
		}
		return nil
	})
	return revision, err
}

func writeBackup(w io.Writer, h backupHeader, state io.WriterTo) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	if _, err := fmt.Fprintf(out, "%s%s\n%s\n", backupMagic, backupVersion, line); err != nil {
		return err
	}
	n, err := state.WriteTo(out)
	if err != nil {
		return err
	}
	if n != h.StateBytes {
		panic(fmt.Sprintf("backup: %d bytes of a state of %d", n, h.StateBytes))
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// untilDone refuses to write once its context has ended. It keeps what went wrong, of which bbolt only tells the text.
type untilDone struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (u *untilDone) Write(b []byte) (n int, err error) {
	if u.ctx.Err() != nil {
		u.err = context.Cause(u.ctx)
		return 0, u.err
	}
	n, u.err = u.w.Write(b)
	return n, u.err
}

// ReadBackup makes of a backup the state that a new cluster begins with, dir/state.db, synced (the directory is the
// caller's to sync): objects, history and keys as they were, at index 0, without a meta, and at a revision that is
// RevisionGap beyond. It reads r to its end, and leaves nothing behind where it returns an error: where dir has a state
// already, or the backup is damaged, cut short, or of a form or format that this program does not know.
func ReadBackup(r io.Reader, dir string) (BackupInfo, error) {
	info, err := readBackup(r, dir)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("read backup: %w", err)
	}
	return info, nil
}

func readBackup(r io.Reader, dir string) (BackupInfo, error) {
	target, incoming := filepath.Join(dir, stateFile), filepath.Join(dir, incomingFile)
	switch _, err := os.Lstat(target); {
	case err == nil:
		return BackupInfo{}, fmt.Errorf("%s is there already: a backup is restored into a new directory", target)
	case !errors.Is(err, fs.ErrNotExist):
		return BackupInfo{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return BackupInfo{}, err
	}
	h, err := receiveBackup(r, incoming)
	if err == nil {
		err = beginAnew(incoming, h.BackupInfo)
	}
	if err == nil {
		err = os.Rename(incoming, target)
	}
	if err != nil {
		return BackupInfo{}, errors.Join(err, removeIfThere(incoming))
	}
	return h.BackupInfo, nil
}

// receiveBackup takes the file out of the stream. It is whole and right when there is no error; nothing of it is looked
// at before.
func receiveBackup(r io.Reader, path string) (h backupHeader, err error) {
	in := bufio.NewReaderSize(r, maxBackupLine)
	sum := sha256.New()
	if h, err = readBackupHeader(in, sum); err != nil {
		return h, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if n, err := io.CopyN(io.MultiWriter(f, sum), in, h.StateBytes); err != nil {
		return h, fmt.Errorf("it ends after %d of %d bytes of the state: %w", n, h.StateBytes, noEOF(err))
	}
	var trailer [sha256.Size]byte
	if _, err := io.ReadFull(in, trailer[:]); err != nil {
		return h, fmt.Errorf("it ends before its checksum: %w", noEOF(err))
	}
	if !bytes.Equal(trailer[:], sum.Sum(nil)) {
		return h, errors.New("it is damaged: its checksum does not match")
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return h, errors.New("it goes on after its checksum")
	case !errors.Is(err, io.EOF):
		return h, err
	}
	return h, nil
}

func readBackupHeader(in *bufio.Reader, sum io.Writer) (h backupHeader, err error) {
	first, err := in.ReadSlice('\n')
	version, ours := strings.CutPrefix(string(first), backupMagic)
	switch {
	case !ours && (err == nil || errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull)):
		return h, fmt.Errorf("it is no backup of a farm: it begins with %.40q", first)
	case err != nil:
		return h, fmt.Errorf("it ends in its header: %w", noEOF(err))
	case version != backupVersion+"\n":
		return h, fmt.Errorf("it has the form %.20q, this program reads %s: use the version of raft3d that made it, or a newer one",
			strings.TrimSuffix(version, "\n"), backupVersion)
	}
	_, _ = sum.Write(first)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return h, fmt.Errorf("it ends in its header, or that is damaged: %w", noEOF(err))
	}
	_, _ = sum.Write(line)
	if err := json.Unmarshal(line, &h); err != nil {
		return h, fmt.Errorf("its header is damaged: %w", err)
	}
	if h.StateBytes < 0 || h.StateBytes > maxSnapshotSize {
		return h, fmt.Errorf("its header is damaged: it claims %d bytes", h.StateBytes)
	}
	return h, nil
}

// beginAnew makes the state in the file one that no log has touched.
func beginAnew(path string, info BackupInfo) (err error) {
	db, err := openFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	h, _, err := readState(db)
	if err != nil {
		return err
	}
	if found := (BackupInfo{info.ClusterID, h.Revision, h.Applied, h.Time}); found != info {
		return fmt.Errorf("its header says %+v, its state is %+v", info, found)
	}
	h.Applied = 0
	h.Revision += RevisionGap
	err = db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(metaBucket)
		return errors.Join(bucket.Delete(raftKey), bucket.Put(headKey, h.encode()))
	})
	if err != nil {
		return err
	}
	return db.Sync()
}
