package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
)

// BackupPath is the path of the backup.
const BackupPath = "/api/v1/backup"

// Backup writes a consistent copy of the whole farm to what open returns, and returns the revision that it shows. The copy
// ends with a SHA-256 of all that comes before it, which is checked here. After an answer that was cut off, or whose sum
// does not match, Backup calls open again and begins anew, through the next node: open must throw away what was written
// before. size is that of the whole copy in bytes, -1 where it is not known.
func (c *Client) Backup(ctx context.Context, open func(size int64) (io.Writer, error)) (revision uint64, err error) {
	call, err := c.prepare(Request{Method: http.MethodGet, Path: BackupPath})
	if err != nil {
		return 0, err
	}
	call.header.Set("Accept", "application/octet-stream")
	err = c.attempt(ctx, false, c.rotate(), func(rotation *rotation, server *url.URL) error {
		silence := watchSilence(ctx)
		defer silence.end()
		response, err := call.send(silence.ctx, server, rotation)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if endsAnywhere(response, call.method) {
			return &attemptError{cause: fmt.Errorf("%s: %w", server, &cutError{errNoLength})}
		}
		body := bufio.NewReaderSize(&audible{response.Body, silence}, 64<<10)
		size := response.ContentLength
		revision = revisionOf(response.Header)
		if head, ok := readBackupHead(body); ok {
			size, revision = head.size, head.revision
		}
		w, err := open(size)
		if err != nil {
			return err
		}
		err = copyBackup(w, body)
		var cut *cutError
		if errors.As(err, &cut) {
			return &attemptError{cause: causeOf(silence.ctx, fmt.Errorf("%s: %w", server, err))}
		}
		return err
	})
	return revision, err
}

// backupHead is what the beginning of a backup says of the rest.
type backupHead struct {
	revision uint64 // that the copy shows; the answer's header has the one before it was begun
	size     int64  // of all, in bytes
}

// readBackupHead looks at the beginning without taking it: a line with the form and its version, a line of JSON. ok is false
// for what does not begin so; whatever that is, its sum is to be checked all the same.
func readBackupHead(r *bufio.Reader) (head backupHead, ok bool) {
	beginning, _ := r.Peek(1024) // the copy meets the error, if there is one
	form, rest, _ := bytes.Cut(beginning, []byte("\n"))
	line, _, whole := bytes.Cut(rest, []byte("\n"))
	var said struct {
		Revision   uint64 `json:"revision"`
		StateBytes int64  `json:"state_bytes"`
	}
	if !whole || !bytes.HasPrefix(form, []byte("raft3d backup ")) || json.Unmarshal(line, &said) != nil {
		return backupHead{}, false
	}
	return backupHead{said.Revision, int64(len(form)+len(line)+2) + said.StateBytes + sha256.Size}, true
}

// audible breaks the silence with each byte that comes. It is not listening while nobody reads.
type audible struct {
	r       io.Reader
	silence *silence
}

func (a *audible) Read(p []byte) (int, error) {
	a.silence.broken()
	defer a.silence.pause()
	return a.r.Read(p)
}

var errSum = errors.New("the SHA-256 at its end is not that of what comes before it")

// copyBackup copies a backup from r to w and checks the sum at its end. It returns a *cutError if r breaks off or the sum
// is wrong, and the error of w as it is.
func copyBackup(w io.Writer, r io.Reader) error {
	sum := &trailing{hash: sha256.New()}
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		if _, err := w.Write(buffer[:n]); err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
		sum.add(buffer[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return &cutError{err}
		}
	}
	if !sum.matches() {
		return &cutError{errSum}
	}
	return nil
}

// trailing hashes all that is added but the last bytes, which are to be the hash.
type trailing struct {
	hash hash.Hash
	last []byte // at most as many as the hash has
}

func (t *trailing) add(p []byte) {
	t.last = append(t.last, p...)
	if over := len(t.last) - t.hash.Size(); over > 0 {
		t.hash.Write(t.last[:over])
		t.last = append(t.last[:0], t.last[over:]...)
	}
}

func (t *trailing) matches() bool { return bytes.Equal(t.hash.Sum(nil), t.last) }
