package kvstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"raft3d/farm"
)

func backupOf(t testing.TB, s *shop) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := s.Backup(context.Background(), "cluster-1", &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sealed is a backup altered, with a checksum that fits.
func sealed(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func bodyOf(backup []byte) []byte { return backup[:len(backup)-sha256.Size] }

func TestABackupBringsEverythingToANewCluster(t *testing.T) {
	s := busy(t)
	if _, err := s.keyed("k", to("j2", farm.Canceled)); err != nil {
		t.Fatal(err)
	}
	index, _ := s.store.Applied()
	if _, err := s.store.Apply(index+1, nil, []byte("members of the old cluster")); err != nil {
		t.Fatal(err)
	}
	revision := seen(s, func(v farm.View) (uint64, error) { return v.Revision(), nil })
	backup := backupOf(t, s)

	dir := filepath.Join(t.TempDir(), "new")
	info, err := ReadBackup(iotest.OneByteReader(bytes.NewReader(backup)), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := (BackupInfo{"cluster-1", revision, index + 1, s.now}); info != want {
		t.Fatalf("it says %+v, want %+v", info, want)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != stateFile {
		t.Fatalf("in the directory are %v (%v)", files, err)
	}
	other := openStore(t, dir, Options{Keep: true})
	if at, meta := other.Applied(); at != 0 || meta != nil {
		t.Fatalf("it begins at index %d with meta %q", at, meta)
	}
	if was, is := afterGap(dump(t, s.store), revision), dump(t, other); was != is {
		t.Fatalf("was\n%s\nis\n%s", was, is)
	}

	// The log of the new cluster begins at 1. Old keys stand, and no revision of the old cluster's is used again.
	next := shopOn(t, other)
	next.now = s.now
	if r, err := next.keyed("k", to("j2", farm.Canceled)); err != nil || !r.Replayed || r.Revision != revision {
		t.Fatalf("%+v, %v", r, err)
	}
	if r := next.must(printer("new")); r.Revision != revision+RevisionGap+1 {
		t.Fatalf("the first change has revision %d", r.Revision)
	}
	if got := next.revisions(farm.EventQuery{Since: revision}); len(got) != 1 || got[0] != revision+RevisionGap+1 {
		t.Fatalf("after the backup are %v", got)
	}
	if got := next.revisions(farm.EventQuery{Since: revision - 1}); len(got) != 2 {
		t.Fatalf("around the backup are %v", got)
	}
	if oldest := next.oldest(); oldest != 1 {
		t.Fatalf("%d is the oldest", oldest)
	}
}

// afterGap is a dump with its own revision raised.
func afterGap(dump string, revision uint64) string {
	raised := fmt.Sprint(revision + RevisionGap)
	dump = regexp.MustCompile(fmt.Sprintf(`^%d `, revision)).ReplaceAllString(dump, raised+" ")
	return strings.Replace(dump, fmt.Sprintf("Revision:%d ", revision), "Revision:"+raised+" ", 1)
}

func TestABackupIsOfOneRevisionWhileWritesGoOn(t *testing.T) {
	s := busy(t)
	want := dump(t, s.store)
	var b bytes.Buffer
	revision, err := s.Backup(t.Context(), "c", writerFunc(func(p []byte) (int, error) {
		s.must(farm.CreatePrinter{Text: farm.Text{Notes: strings.Repeat("x", 1000)}, Company: "c", Model: "m"})
		return b.Write(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := ReadBackup(&b, dir); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, openStore(t, dir, Options{Keep: true})); got != afterGap(want, revision) {
		t.Fatalf("got\n%s\nwant\n%s", got, afterGap(want, revision))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestABackupWaitsForTheBarrierAndEndsWithItsReader(t *testing.T) {
	s := busy(t)
	s.log.barrier = func(context.Context) error { return errNoLeader }
	if _, err := s.Backup(t.Context(), "c", io.Discard); !errors.Is(err, errNoLeader) {
		t.Errorf("without a leader: %v", err)
	}
	s.log.barrier = nil
	gone := errors.New("gone")
	if _, err := s.Backup(t.Context(), "c", writerFunc(func([]byte) (int, error) { return 0, gone })); !errors.Is(err, gone) {
		t.Errorf("after its reader has gone: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	writes := 0
	_, err := s.Backup(ctx, "c", writerFunc(func(p []byte) (int, error) {
		writes++
		cancel(gone)
		return len(p), nil
	}))
	if !errors.Is(err, gone) || writes != 1 {
		t.Errorf("after its end was asked for: %v, %d writes", err, writes)
	}
}

func TestABackupThatIsNotRightIsRefusedAndLeavesNothing(t *testing.T) {
	s := busy(t)
	backup := backupOf(t, s)
	body := bodyOf(backup)
	other := func(old, new string) []byte {
		if !bytes.Contains(body, []byte(old)) {
			t.Fatalf("%q is not in %.300q", old, body)
		}
		return sealed(bytes.Replace(body, []byte(old), []byte(new), 1))
	}
	oldFormat := busy(t)
	putFormat(t, oldFormat.store, "1")
	cases := map[string]struct {
		r    io.Reader
		says string
	}{
		"empty":                   {bytes.NewReader(nil), "begins with"},
		"a page of the web":       {strings.NewReader(strings.Repeat("<html>\r\n", 100_000)), "begins with"},
		"zeros":                   {bytes.NewReader(make([]byte, 200_000)), "begins with"},
		"a snapshot":              {bytes.NewReader(snapshotOf(t, s.store)), "begins with"},
		"a newer form":            {bytes.NewReader(other("backup 1\n", "backup 2\n")), "the form \"2\""},
		"an older format":         {bytes.NewReader(backupOf(t, oldFormat)), "its format is \"1\""},
		"another revision":        {bytes.NewReader(other(`"revision":`, `"revision":1`)), "its header says"},
		"a claim of more":         {bytes.NewReader(other(`"state_bytes":`, `"state_bytes":9`)), "ends after"},
		"a claim of very much":    {bytes.NewReader(other(`"state_bytes":`, `"state_bytes":999999999999`)), "claims"},
		"a claim of less than no": {bytes.NewReader(other(`"state_bytes":`, `"state_bytes":-`)), "claims"},
		"a header that is none":   {bytes.NewReader(other(`{"cluster_id"`, `["cluster_id"`)), "header is damaged"},
		"an endless header":       {io.MultiReader(strings.NewReader("raft3d backup 1\n"), bytes.NewReader(bytes.Repeat([]byte("x"), 1<<20))), "ends in its header"},
		"going on":                {io.MultiReader(bytes.NewReader(backup), strings.NewReader("x")), "goes on"},
		"an end in trouble":       {io.MultiReader(bytes.NewReader(backup), iotest.ErrReader(errors.New("reset"))), "reset"},
		"a broken stream":         {io.MultiReader(bytes.NewReader(backup[:len(backup)/2]), iotest.ErrReader(errors.New("reset"))), "reset"},
		"cut by a byte":           {bytes.NewReader(backup[:len(backup)-1]), "ends before its checksum"},
	}
	for at := 0; at < len(backup); at += 1 + len(backup)/60 {
		flipped := bytes.Clone(backup)
		flipped[at] ^= 0x10
		cases[fmt.Sprintf("cut at %d", at)] = struct {
			r    io.Reader
			says string
		}{bytes.NewReader(backup[:at]), ""}
		cases[fmt.Sprintf("flipped at %d", at)] = struct {
			r    io.Reader
			says string
		}{bytes.NewReader(flipped), ""}
	}
	dir := t.TempDir()
	for name, c := range cases {
		_, err := ReadBackup(c.r, dir)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Fatalf("%s: it leaves %v (%v)", name, files, err)
		}
	}
	if _, err := ReadBackup(bytes.NewReader(backup), dir); err != nil {
		t.Errorf("the backup itself: %v", err)
	}
}

func TestABackupIsNotReadOverAStateThatIsThere(t *testing.T) {
	s := newShop(t)
	s.must(printer("old"))
	backup, was := backupOf(t, busy(t)), dump(t, s.store)
	if _, err := ReadBackup(bytes.NewReader(backup), s.store.dir); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("%v", err)
	}
	if is := dump(t, s.store); is != was {
		t.Errorf("was\n%s\nis\n%s", was, is)
	}
}

// FuzzReadBackup gives the reader arbitrary bytes, as they are and with a checksum that fits. It must not panic, and
// must leave a state that can be opened or none.
func FuzzReadBackup(f *testing.F) {
	backup := backupOf(f, busy(f))
	header := bytes.IndexByte(backup[len(backupMagic)+2:], '\n') + len(backupMagic) + 3
	f.Add(backup)
	f.Add(backup[:header])
	f.Add(bodyOf(backup)[:header+8192])
	f.Add([]byte(backupMagic + "1\n{}\n"))
	f.Add([]byte(backupMagic + "9\n"))
	f.Fuzz(func(t *testing.T, given []byte) {
		dir := t.TempDir()
		for i, b := range [][]byte{given, sealed(given)} {
			if i == 1 && bytes.Count(given, []byte("\n")) > 1 && len(given) > 200 {
				continue // a checksum over an arbitrary file only proves that whoever made it meant it
			}
			_, err := ReadBackup(bytes.NewReader(b), dir)
			files, readErr := os.ReadDir(dir)
			if readErr != nil || (err == nil) != (len(files) == 1) {
				t.Fatalf("%v, and %v is there (%v)", err, files, readErr)
			}
			if err != nil {
				continue
			}
			s, err := Open(dir, Options{Keep: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Close(), os.Remove(filepath.Join(dir, stateFile))); err != nil {
				t.Fatal(err)
			}
		}
	})
}
