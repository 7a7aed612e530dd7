package kvstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// A snapshot is snapshotMagic, the length of the bbolt file in 8 bytes, the file, and the CRC-32C of all of that in 4
// (integers big endian). The magic ends with the version of this form; the file says its own format. CRC-32C finds
// what a bad cable does, at no cost on any machine; whoever keeps a snapshot guards it with more (wal: SHA-256).
const snapshotMagic = "raft3d state 01\n"

var crcTable = crc32.MakeTable(crc32.Castagnoli)

const maxSnapshotSize = 1 << 48 // bytes; what bbolt can address

// Snapshot calls fn with a state that stays as it is while fn runs; Apply goes on meanwhile, and what it writes
// makes the file grow until fn returns. state may be written more than once; it must not be used after fn. meta is
// the caller's own copy. Snapshot returns fn's error as it is.
func (s *Store) Snapshot(fn func(index uint64, meta []byte, state io.WriterTo) error) error {
	return s.read(func(tx *bbolt.Tx) error {
		h, err := readHead(tx)
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		meta := bytes.Clone(tx.Bucket(metaBucket).Get(raftKey))
		return fn(h.Applied, meta, snapshot{tx})
	})
}

// snapshot is a state that is held still.
type snapshot struct{ tx *bbolt.Tx }

func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	sum := crc32.New(crcTable)
	out := &countingWriter{w: io.MultiWriter(w, sum)}
	header := binary.BigEndian.AppendUint64([]byte(snapshotMagic), uint64(s.tx.Size()))
	if _, err := out.Write(header); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	if _, err := s.tx.WriteTo(out); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	n, err := w.Write(sum.Sum(nil))
	if err != nil {
		return out.n + int64(n), fmt.Errorf("write snapshot: %w", err)
	}
	return out.n + int64(n), nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore replaces the state by one that a Snapshot wrote, and reads r to its end. The new state is received beside
// the old one, checked, and put in its place at once: whoever reads sees the one or the other. After an error the
// old state stands. The index may be lower than the one applied: whoever restores has decided so.
func (s *Store) Restore(r io.Reader) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.isClosed() {
		return ErrClosed
	}
	if err := s.flush(); err != nil { // so that readers need not wait for us
		return fmt.Errorf("restore: %w", err)
	}
	db, h, meta, err := s.receive(r)
	if err != nil {
		return fmt.Errorf("restore: %w", errors.Join(err, removeIfThere(s.path(incomingFile))))
	}
	if err := os.Rename(s.path(incomingFile), s.path(stateFile)); err != nil {
		return fmt.Errorf("restore: %w", errors.Join(err, db.Close(), removeIfThere(s.path(incomingFile))))
	}

	s.mu.Lock()
	old := s.current
	s.current = &file{db: db}
	s.head, s.meta = h, meta
	s.sums.begin(h.mark(), h.Hash)
	s.wake()
	old.retired = true
	unread := old.readers == 0
	s.mu.Unlock()
	s.noteAlive()
	if unread {
		s.closeRetired(old)
	}
	return nil
}

// receive reads a snapshot into the incoming file and opens it.
func (s *Store) receive(r io.Reader) (*bbolt.DB, head, []byte, error) {
	if err := s.download(r); err != nil {
		return nil, head{}, nil, err
	}
	db, err := openFile(s.path(incomingFile))
	if err != nil {
		return nil, head{}, nil, err
	}
	h, meta, err := readState(db)
	if err != nil {
		return nil, head{}, nil, errors.Join(err, db.Close())
	}
	return db, h, meta, nil
}

// download takes the file out of the stream. It is whole and right when download returns without an error; nothing
// of it is looked at before.
func (s *Store) download(r io.Reader) (err error) {
	f, err := os.OpenFile(s.path(incomingFile), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := bufio.NewReaderSize(r, 1<<16)
	sum := crc32.New(crcTable)
	size, err := readHeader(in, sum)
	if err != nil {
		return err
	}
	n, err := io.CopyN(io.MultiWriter(f, sum), in, size)
	if err != nil {
		return fmt.Errorf("the snapshot ends after %d of %d bytes: %w", n, size, noEOF(err))
	}
	var trailer [crc32.Size]byte
	if _, err := io.ReadFull(in, trailer[:]); err != nil {
		return fmt.Errorf("the snapshot ends before its checksum: %w", noEOF(err))
	}
	if trailer != [crc32.Size]byte(sum.Sum(nil)) {
		return errors.New("the snapshot is damaged: its checksum does not match")
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return errors.New("the snapshot goes on after its checksum")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read the end of the snapshot: %w", err)
	}
	return nil
}

func readHeader(r io.Reader, sum hash.Hash) (size int64, err error) {
	var header [len(snapshotMagic) + 8]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, fmt.Errorf("the snapshot ends in its header: %w", noEOF(err))
	}
	if found := string(header[:len(snapshotMagic)]); found != snapshotMagic {
		return 0, fmt.Errorf("not a snapshot of the farm's state that this program reads: it begins with %q", found)
	}
	length := binary.BigEndian.Uint64(header[len(snapshotMagic):])
	if length > maxSnapshotSize {
		return 0, fmt.Errorf("the snapshot is damaged: it claims %d bytes", length)
	}
	sum.Write(header[:])
	return int64(length), nil
}

// noEOF makes an end that came too early look like one: io.EOF alone reads as an orderly end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
