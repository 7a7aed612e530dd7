package wal

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// A snapshot file is
//
//	magic     8 bytes, "raft3dsn"
//	format    4 bytes, little endian
//	length    4 bytes, little endian, of the metadata
//	metadata  raftpb.SnapshotMetadata
//	state     all that follows, but for the last 32 bytes
//	checksum  SHA-256 of everything before it
const (
	snapshotMagic     = "raft3dsn"
	snapshotHeadBytes = len(snapshotMagic) + 8
	snapshotSuffix    = ".snap"
)

// snapshotID names a snapshot: the last entry in it.
type snapshotID struct{ index, term uint64 }

func (id snapshotID) name() string {
	return fmt.Sprintf("%016x-%016x%s", id.index, id.term, snapshotSuffix)
}

func (id snapshotID) path(dir string) string { return filepath.Join(dir, snapDirName, id.name()) }

func (id snapshotID) compare(o snapshotID) int {
	return cmp.Or(cmp.Compare(id.index, o.index), cmp.Compare(id.term, o.term))
}

// snapshotFiles lists the whole snapshots in a directory, in no order. A directory without a place for them has none.
func snapshotFiles(dir string) ([]snapshotID, error) {
	files, err := os.ReadDir(filepath.Join(dir, snapDirName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []snapshotID
	for _, f := range files {
		var id snapshotID
		if !strings.HasSuffix(f.Name(), snapshotSuffix) {
			continue
		}
		if _, err := fmt.Sscanf(f.Name(), "%016x-%016x", &id.index, &id.term); err == nil && id.name() == f.Name() {
			out = append(out, id)
		}
	}
	return out, nil
}

// WriteSnapshot writes the file of a snapshot, whole and durable when it returns; it counts for nothing until
// MarkSnapshot. state is written straight to the disk. It returns the size of the file in bytes. Any goroutine may
// call it. An error of state itself, and a full disk, leave the Log alive and nothing behind.
func (l *Log) WriteSnapshot(meta *raftpb.SnapshotMetadata, state io.WriterTo) (int64, error) {
	if err := l.failed(); err != nil {
		return 0, err
	}
	id, err := idOf(meta)
	if err != nil {
		return 0, err
	}
	head, err := snapshotHead(meta)
	if err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(filepath.Join(l.dir, snapDirName), id.name()+".*"+tmpSuffix)
	if err != nil {
		return 0, l.snapshotFailed(id, err)
	}
	out := &diskWriter{f: f}
	buffered := bufio.NewWriterSize(out, 256<<10)
	sum := sha256.New()
	both := io.MultiWriter(sum, buffered)
	_, err = both.Write(head)
	if err == nil {
		_, err = state.WriteTo(both)
	}
	sourceErr := err
	if err == nil {
		_, err = buffered.Write(sum.Sum(nil))
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), id.path(l.dir))
	}
	if err != nil {
		os.Remove(f.Name())
		if sourceErr != nil && out.err == nil {
			return 0, fmt.Errorf("write snapshot %s: %w", id.name(), sourceErr)
		}
		return 0, l.snapshotFailed(id, err)
	}
	if err := syncDir(filepath.Join(l.dir, snapDirName)); err != nil {
		return 0, l.snapshotFailed(id, err)
	}
	return out.bytes, nil
}

// snapshotFailed kills the Log, unless the disk was merely full: that leaves no doubt about what was written.
func (l *Log) snapshotFailed(id snapshotID, err error) error {
	err = fmt.Errorf("write snapshot %s: %w", id.name(), err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return l.die(err)
}

// diskWriter counts, and remembers whether it was the disk that failed.
type diskWriter struct {
	f     *os.File
	bytes int64
	err   error
}

func (w *diskWriter) Write(b []byte) (int, error) {
	n, err := w.f.Write(b)
	w.bytes += int64(n)
	if err != nil {
		w.err = err
	}
	return n, err
}

func idOf(meta *raftpb.SnapshotMetadata) (snapshotID, error) {
	id := snapshotID{meta.GetIndex(), meta.GetTerm()}
	if id.index == 0 || id.term == 0 || meta.GetConfState() == nil {
		return id, fmt.Errorf("snapshot %d of term %d: index, term and configuration are needed", id.index, id.term)
	}
	return id, nil
}

func snapshotHead(meta *raftpb.SnapshotMetadata) ([]byte, error) {
	m, err := proto.Marshal(meta)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m)))
	return append(b, m...), nil
}

// OpenSnapshot opens the file of a snapshot, whether it counts or not. What is read is its state; where the checksum
// turns out wrong, Read returns an error instead of io.EOF. It may be read to its end even if the file is deleted
// meanwhile. Any goroutine may call it.
func (l *Log) OpenSnapshot(index, term uint64) (io.ReadCloser, *raftpb.SnapshotMetadata, error) {
	if err := l.failed(); err != nil {
		return nil, nil, err
	}
	r, err := openSnapshot(l.dir, snapshotID{index, term})
	if err != nil {
		return nil, nil, err
	}
	return r, r.metadata, nil
}

type snapshotReader struct {
	f        *os.File
	sum      hash.Hash
	left     int64 // bytes of state
	metadata *raftpb.SnapshotMetadata
}

func openSnapshot(dir string, id snapshotID) (_ *snapshotReader, err error) {
	f, err := os.Open(id.path(dir))
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	r := &snapshotReader{f: f, sum: sha256.New()}
	if err := r.readHead(id); err != nil {
		f.Close()
		return nil, fmt.Errorf("open snapshot %s: %w", f.Name(), err)
	}
	return r, nil
}

func (r *snapshotReader) readHead(id snapshotID) error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.left = info.Size() - int64(snapshotHeadBytes) - sha256.Size
	if r.left < 0 {
		return fmt.Errorf("%d bytes are too few", info.Size())
	}
	head := make([]byte, snapshotHeadBytes)
	if _, err := io.ReadFull(r.f, head); err != nil {
		return err
	}
	r.sum.Write(head)
	if !bytes.HasPrefix(head, []byte(snapshotMagic)) {
		return errors.New("not a snapshot")
	}
	if v := binary.LittleEndian.Uint32(head[len(snapshotMagic):]); v != formatVersion {
		return fmt.Errorf("written in format %d: %w", v, errFormat)
	}
	n := int64(binary.LittleEndian.Uint32(head[len(snapshotMagic)+4:]))
	if r.left -= n; r.left < 0 {
		return fmt.Errorf("the metadata is %d bytes long, more than the file has", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.f, b); err != nil {
		return err
	}
	r.sum.Write(b)
	r.metadata = &raftpb.SnapshotMetadata{}
	if err := proto.Unmarshal(b, r.metadata); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if got, err := idOf(r.metadata); err != nil || got != id {
		return fmt.Errorf("metadata: of index %d and term %d", got.index, got.term)
	}
	return nil
}

func (r *snapshotReader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, r.checkSum()
	}
	n, err := r.f.Read(b[:min(int64(len(b)), r.left)])
	r.sum.Write(b[:n])
	r.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = fmt.Errorf("read snapshot %s: %w", r.f.Name(), err)
	}
	return n, err
}

// checkSum returns io.EOF for a snapshot that is whole. The position stays where it is, so it may be asked again.
func (r *snapshotReader) checkSum() error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", r.f.Name(), err)
	}
	want := make([]byte, sha256.Size)
	if _, err := r.f.ReadAt(want, info.Size()-sha256.Size); err != nil {
		return fmt.Errorf("read snapshot %s: %w", r.f.Name(), err)
	}
	if !bytes.Equal(want, r.sum.Sum(nil)) {
		return fmt.Errorf("read snapshot %s: checksum mismatch", r.f.Name())
	}
	return io.EOF
}

func (r *snapshotReader) Close() error { return r.f.Close() }

// verifySnapshot reads a snapshot to its end.
func verifySnapshot(dir string, id snapshotID) (*raftpb.SnapshotMetadata, error) {
	r, err := openSnapshot(dir, id)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return r.metadata, nil
}
