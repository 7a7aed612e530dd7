package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// aBackup is what a node sends: something, and its SHA-256.
func aBackup() []byte {
	text := []byte("raft3d backup 1\n" + `{"cluster_id":"aa","revision":43,"state_bytes":120}` + "\n" + strings.Repeat("state ", 20))
	sum := sha256.Sum256(text)
	return append(text, sum[:]...)
}

func sendBackup(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Raft3D-Revision", "42")
	_, _ = w.Write(aBackup())
}

func TestABackupThatIsCutOffAtAnyByteIsBegunAnew(t *testing.T) {
	first, second := serveBrittle(t, http.HandlerFunc(sendBackup)), serveBrittle(t, http.HandlerFunc(sendBackup))
	length := 1
	for cut := 0; cut <= length; cut++ {
		first.cutAt(func(answer []byte) int { length = len(answer); return cut })
		var file bytes.Buffer
		opened := 0
		revision, err := newClient(t, first.url, second.url).Backup(within(t, 10*time.Second), func(size int64) (io.Writer, error) {
			opened++
			if size != int64(len(aBackup())) {
				t.Errorf("size %d", size)
			}
			file.Reset()
			return &file, nil
		})
		if err != nil || revision != 43 || !bytes.Equal(file.Bytes(), aBackup()) || opened > 2 {
			t.Fatalf("cut after %d bytes: revision %d, %d bytes, %v", cut, revision, file.Len(), err)
		}
	}
}

func TestABackupWithAWrongSumIsNotTaken(t *testing.T) {
	for i := range len(aBackup()) + 1 {
		damaged := aBackup()
		if i < len(damaged) {
			damaged[i] ^= 1
		} else {
			damaged = damaged[:10]
		}
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a" {
				return says(http.StatusOK, string(damaged))
			}
			return says(http.StatusOK, string(aBackup()))
		}, "a", "b")
		var file bytes.Buffer
		if _, err := c.Backup(t.Context(), func(int64) (io.Writer, error) { file.Reset(); return &file, nil }); err != nil ||
			!bytes.Equal(file.Bytes(), aBackup()) || c.last.Load() != 1 {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
	}
}

func TestABackupSaysItselfHowLongItIsAndWhatItShows(t *testing.T) {
	c := scripted(t, func(r *http.Request) (*http.Response, error) {
		answer, err := says(http.StatusOK, string(aBackup()), "Raft3D-Revision: 42")
		answer.ContentLength, answer.TransferEncoding = -1, []string{"chunked"}
		return answer, err
	}, "a")
	revision, err := c.Backup(t.Context(), func(size int64) (io.Writer, error) {
		if size != int64(len(aBackup())) {
			t.Errorf("size %d", size)
		}
		return io.Discard, nil
	})
	if err != nil || revision != 43 {
		t.Errorf("revision %d, %v", revision, err)
	}
}

func TestABackupEndsWhenItCannotBeWritten(t *testing.T) {
	full := errors.New("disk full")
	c := scripted(t, func(*http.Request) (*http.Response, error) { return says(http.StatusOK, string(aBackup())) }, "a")
	_, err := c.Backup(t.Context(), func(int64) (io.Writer, error) { return failing{full}, nil })
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if _, err = c.Backup(t.Context(), func(int64) (io.Writer, error) { return nil, full }); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestABackupThatFallsSilentIsBegunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := scripted(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "a" {
				return streams(r, 0, "state ")
			}
			return says(http.StatusOK, string(aBackup()))
		}, "a", "b")
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := c.Backup(ctx, func(int64) (io.Writer, error) { return io.Discard, nil }); err != nil || time.Since(began) != maxSilence {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
