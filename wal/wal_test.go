package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testIdentity = Identity{ClusterID: 0xC1, MemberID: 0xA1, Name: "node1", Founder: true}
	testConfig   = Config{SegmentBytes: 64 << 10}
)

// fixture is a member's directory and its open Log.
type fixture struct {
	t   rapid.TB
	dir string
	*Log
	config Config
}

func create(t testing.TB) *fixture {
	t.Helper()
	return createWith(t, testConfig)
}

func createWith(t testing.TB, c Config) *fixture {
	t.Helper()
	dir := memoryDir(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fixture{t: t, dir: filepath.Join(dir, "data", "node1"), config: c}
	l, err := Create(f.dir, testIdentity, c)
	if err != nil {
		t.Fatal(err)
	}
	f.Log = l
	t.Cleanup(func() { f.Log.Close() })
	return f
}

// memoryDir is a directory where fsync costs nothing, if the machine has one. The caller removes it.
func memoryDir(t rapid.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "wal")
	if err != nil {
		dir, err = os.MkdirTemp("", "wal")
	}
	must(t, err)
	return dir
}

func (f *fixture) append(hard *raftpb.HardState, entries ...*raftpb.Entry) {
	f.t.Helper()
	if err := f.Append(hard, entries); err != nil {
		f.t.Fatal(err)
	}
}

// snapshot writes and marks one.
func (f *fixture) snapshot(index, term uint64) {
	f.t.Helper()
	f.write(index, term)
	if err := f.MarkSnapshot(meta(index, term)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) write(index, term uint64) {
	f.t.Helper()
	if _, err := f.WriteSnapshot(meta(index, term), strings.NewReader(stateAt(index))); err != nil {
		f.t.Fatal(err)
	}
}

// segments is how many there are.
func (f *fixture) segments() int {
	f.t.Helper()
	list, err := segments(walDir(f.dir))
	must(f.t, err)
	return len(list)
}

func (f *fixture) close() {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) open() Recovered {
	f.t.Helper()
	l, r, err := Open(f.dir, f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Log = l
	return r
}

func (f *fixture) reopen() Recovered {
	f.t.Helper()
	f.close()
	for _, data := range []uint64{1, 7} {
		f.checkBare(data)
	}
	return f.open()
}

// checkBare reads the log with the data of only so many committed entries: all else must be as it is with all of it.
func (f *fixture) checkBare(data uint64) {
	f.t.Helper()
	whole, wholeErr := replay(f.dir, 0, 0)
	part, err := replay(f.dir, 0, data)
	if wholeErr != nil || err != nil {
		if fmt.Sprint(wholeErr) != fmt.Sprint(err) {
			f.t.Fatalf("with all data: %v; without: %v", wholeErr, err)
		}
		return
	}
	r := part.recovered
	if r.Bare > 0 && (r.Bare+data > r.HardState.GetCommit() || r.Bare <= r.Snapshot.GetIndex()) {
		f.t.Fatalf("with the data of %d committed entries, those up to %d are without: commit %d, snapshot %d", data, r.Bare, r.HardState.GetCommit(), r.Snapshot.GetIndex())
	}
	for i, e := range r.Entries {
		if e.GetIndex() <= r.Bare {
			if e.Data != nil {
				f.t.Fatalf("entry %d has data, and is said to have none", e.GetIndex())
			}
			e.Data = whole.recovered.Entries[i].Data
		}
	}
	if got, want := describe(r), describe(whole.recovered); got != want {
		f.t.Fatalf("with the data of %d committed entries the log is\n%s\nwith all of it\n%s", data, got, want)
	}
}

// fast leaves out the fsyncs of appends until the next open, in tests that are about something else.
func (f *fixture) fast() *fixture {
	f.etcd.SetUnsafeNoFsync()
	return f
}

// crash leaves the directory as a power cut may: everything that was written is there, but for the note of how far the
// log reaches, which is not synced; nothing was closed. It goes on in a copy.
func (f *fixture) crash() {
	f.t.Helper()
	f.kill()
	must(f.t, os.Remove(filepath.Join(f.dir, reachedName)))
}

// kill leaves the directory as a killed process does.
func (f *fixture) kill() {
	f.t.Helper()
	dir := f.dir + "'"
	copyDir(f.t, f.dir, dir)
	f.close()
	f.dir = dir
}

func copyDir(t rapid.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// refused asserts that Open says so and changes nothing.
func (f *fixture) refused(want string) {
	f.t.Helper()
	before := contents(f.t, f.dir)
	l, _, err := Open(f.dir, f.config)
	if err == nil {
		l.Close()
		f.t.Fatalf("opened; want an error with %q", want)
	}
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "join again") {
		f.t.Fatalf("got %v; want damage, with %q, and what to do", err, want)
	}
	if after := contents(f.t, f.dir); after != before {
		f.t.Fatal("a refused Open changed the directory")
	}
}

func contents(t rapid.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %d %q\n", path, len(content), strings.TrimRight(string(content), "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func hard(term, vote, commit uint64) *raftpb.HardState {
	return hardState{term, vote, commit}.message()
}

func entry(index, term uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Type: raftpb.EntryNormal.Enum(), Data: fmt.Appendf(nil, "entry %d/%d", index, term)}
}

// run is entries from first to last.
func run(first, last, term uint64) (out []*raftpb.Entry) {
	for i := first; i <= last; i++ {
		out = append(out, entry(i, term))
	}
	return out
}

func meta(index, term uint64) *raftpb.SnapshotMetadata {
	return &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}
}

func stateAt(index uint64) string { return strings.Repeat(fmt.Sprintf("state at %d;", index), 100) }

// describe is a recovered log in one line: snapshot|entries|hard state.
func describe(r Recovered) string {
	var b strings.Builder
	if r.Snapshot != nil {
		fmt.Fprintf(&b, "%d/%d", r.Snapshot.GetIndex(), r.Snapshot.GetTerm())
	}
	b.WriteString("|")
	for _, e := range r.Entries {
		if string(e.GetData()) != fmt.Sprintf("entry %d/%d", e.GetIndex(), e.GetTerm()) {
			b.WriteString(" CHANGED")
		}
		fmt.Fprintf(&b, " %d/%d", e.GetIndex(), e.GetTerm())
	}
	fmt.Fprintf(&b, "| term %d vote %d commit %d", r.HardState.GetTerm(), r.HardState.GetVote(), r.HardState.GetCommit())
	return b.String()
}

func want(t rapid.TB, r Recovered, line string) {
	t.Helper()
	if got := describe(r); got != line {
		t.Fatalf("recovered %s\nwant      %s", got, line)
	}
}

func TestALogComesBackAsItWasWritten(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 0), run(1, 3, 1)...)
	f.append(hard(2, 3, 2), run(4, 5, 2)...)
	r := f.reopen()
	want(t, r, "| 1/1 2/1 3/1 4/2 5/2| term 2 vote 3 commit 2")
	if r.Identity != testIdentity || f.Identity() != testIdentity {
		t.Fatalf("identity is %+v, %+v", r.Identity, f.Identity())
	}
	f.append(nil, run(6, 6, 2)...)
	want(t, f.reopen(), "| 1/1 2/1 3/1 4/2 5/2 6/2| term 2 vote 3 commit 2")
}

func TestANewLogIsEmpty(t *testing.T) {
	f := create(t)
	want(t, f.reopen(), "|| term 0 vote 0 commit 0")
	want(t, f.reopen(), "|| term 0 vote 0 commit 0")
}

func TestACommitIndexAloneIsWrittenBySyncCloseOrTheNextAppend(t *testing.T) {
	f := create(t)
	f.append(hard(1, 1, 0), run(1, 3, 1)...)
	f.append(hard(1, 1, 2))
	f.crash()
	want(t, f.open(), "| 1/1 2/1 3/1| term 1 vote 1 commit 0")
	f.append(hard(1, 1, 2))
	want(t, f.reopen(), "| 1/1 2/1 3/1| term 1 vote 1 commit 2")
	f.append(hard(1, 1, 3))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	f.crash()
	want(t, f.open(), "| 1/1 2/1 3/1| term 1 vote 1 commit 3")
}

func TestEntriesReplaceWhatTheyOverlapAlsoWithinOneAppend(t *testing.T) {
	f := create(t)
	f.append(hard(1, 0, 1), slices.Concat(run(1, 6, 1), run(3, 4, 2), run(4, 5, 3))...)
	want(t, f.reopen(), "| 1/1 2/1 3/2 4/3 5/3| term 3 vote 0 commit 1")
	f.append(hard(4, 0, 2), run(3, 3, 4)...)
	want(t, f.reopen(), "| 1/1 2/1 3/4| term 4 vote 0 commit 2")
}

func TestABigAppendIsWrittenInUnitsAndComesBackWhole(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 1 << 20})
	var entries []*raftpb.Entry
	for i := uint64(1); i <= 12; i++ {
		e := entry(i, 1)
		e.Data = make([]byte, 700<<10)
		entries = append(entries, e)
	}
	entries[5].Data = make([]byte, 3<<20) // more than a unit
	before := f.unit
	f.append(hard(1, 0, 12), entries...)
	if f.unit-before < 4 {
		t.Fatalf("written in %d units", f.unit-before)
	}
	r := f.reopen()
	if len(r.Entries) != 12 || r.HardState.GetCommit() != 12 {
		t.Fatalf("%d entries, commit %d", len(r.Entries), r.HardState.GetCommit())
	}
	for i, e := range r.Entries {
		if !proto.Equal(e, entries[i]) {
			t.Fatalf("entry %d changed", i+1)
		}
	}
}

// A commit index may be that of a later run of the same append, so no unit but the last carries it.
func TestABigAppendThatIsTornHasNoCommitIndexAhead(t *testing.T) {
	f := createWith(t, Config{SegmentBytes: 16 << 20})
	entries := run(1, 4, 1)
	for _, e := range entries {
		e.Data = make([]byte, 1<<20)
	}
	f.append(hard(1, 0, 4), append(entries, run(3, 4, 2)...)...)
	c := f.crashed()
	for n, kind := range c.kinds[:len(c.kinds)-1] {
		if kind != etcdwal.StateType {
			continue
		}
		if r, err := c.with(c.bytes[:c.ends[n]]); err != nil || r.HardState.GetCommit() != 0 {
			t.Fatalf("the append ends after record %d: %v, %v", n, r.HardState, err)
		}
	}
}

func TestAppendPanicsOnAGapAndOnACommitBeyondTheEnd(t *testing.T) {
	panics := func(hard *raftpb.HardState, entries ...*raftpb.Entry) {
		t.Helper()
		f := create(t)
		f.append(nil, run(1, 3, 1)...)
		defer func() {
			if recover() == nil {
				t.Fatal("did not panic")
			}
		}()
		f.Append(hard, entries)
	}
	panics(nil, entry(5, 1))
	panics(nil, entry(4, 0))
	panics(hard(1, 0, 4))
	panics(hard(1, 0, 5), entry(4, 1))
}

func TestIncarnationRisesWithEachOpen(t *testing.T) {
	f := create(t)
	if f.Incarnation() != 1 {
		t.Fatalf("a new directory has incarnation %d", f.Incarnation())
	}
	for n := uint64(2); n < 5; n++ {
		if r := f.reopen(); r.Incarnation != n || f.Incarnation() != n {
			t.Fatalf("incarnation %d, %d; want %d", r.Incarnation, f.Incarnation(), n)
		}
		if r, err := Read(f.dir); err != nil || r.Incarnation != n {
			t.Fatalf("read incarnation %d, %v; want %d", r.Incarnation, err, n)
		}
	}
}

func TestALogWithoutItsIncarnationIsRefused(t *testing.T) {
	f := create(t)
	f.close()
	path := filepath.Join(f.dir, incarnationName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 4
		put(t, path, bad)
		if l, _, err := Open(f.dir, testConfig); err == nil {
			l.Close()
			t.Fatalf("opened with %q", bad)
		}
	}
	put(t, path, encodeIncarnation(testIdentity.MemberID+1, 1))
	f.refused("of member")
	put(t, path, good[:5])
	f.refused(incarnationName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.refused(incarnationName)
	if !Exists(f.dir) {
		t.Fatal("a damaged member does not exist")
	}
}

func put(t rapid.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestASecondProcessIsKeptOut(t *testing.T) {
	f := create(t)
	if _, _, err := Open(f.dir, testConfig); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another process uses") {
		t.Fatalf("opened twice: %v", err)
	}
	f.reopen()
}

func TestCreateRefusesAMemberAndOpenRefusesNone(t *testing.T) {
	f := create(t)
	f.close()
	if _, err := Create(f.dir, testIdentity, testConfig); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("created twice: %v", err)
	}
	empty := t.TempDir()
	if _, _, err := Open(empty, testConfig); !errors.Is(err, fs.ErrNotExist) || Exists(empty) || Exists(filepath.Join(empty, "absent")) {
		t.Fatalf("opened an empty directory: %v", err)
	}
	if files, err := os.ReadDir(empty); err != nil || len(files) > 0 {
		t.Fatalf("a refused Open left %v, %v", files, err)
	}
	if _, err := Create(empty, Identity{Name: "x"}, testConfig); err == nil {
		t.Fatal("created a member without ids")
	}
}

// A crash in Create leaves one of these; each is either nothing, and Create may be tried again, or a good log.
func TestACreateThatDidNotFinishDoesNotBlockTheNext(t *testing.T) {
	steps := map[string]func(dir string){
		"the directory":        func(dir string) {},
		"snap":                 func(dir string) { must(t, os.Mkdir(filepath.Join(dir, snapDirName), 0o700)) },
		"a lock":               func(dir string) { put(t, filepath.Join(dir, lockName), nil) },
		"half an incarnation":  func(dir string) { put(t, filepath.Join(dir, incarnationName+tmpSuffix), []byte("raft")) },
		"an incarnation":       func(dir string) { must(t, writeIncarnation(dir, 7, 0)) },
		"half a log":           func(dir string) { must(t, os.Mkdir(walDir(dir)+tmpSuffix, 0o700)) },
		"a log without a name": func(dir string) { must(t, os.Mkdir(walDir(dir), 0o700)) },
		"a segment in half a log": func(dir string) {
			must(t, os.Mkdir(walDir(dir)+tmpSuffix, 0o700))
			put(t, filepath.Join(walDir(dir)+tmpSuffix, "0000000000000000-0000000000000000.wal"), []byte("x"))
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			step(dir)
			if Exists(dir) {
				t.Fatal("half of a member exists")
			}
			l, err := Create(dir, testIdentity, testConfig)
			must(t, err)
			if l.Incarnation() != 1 {
				t.Fatalf("incarnation %d", l.Incarnation())
			}
			must(t, l.Close())
		})
	}
	dir := t.TempDir()
	if _, err := Create(dir, testIdentity, Config{SegmentBytes: 1 << 60}); err == nil {
		t.Fatal("allocated 2^60 bytes")
	}
	if Exists(dir) {
		t.Fatal("a member without a log exists")
	}
	f := create(t)
	f.close()
	must(t, writeIncarnation(f.dir, testIdentity.MemberID, 0)) // the crash came before the last steps
	must(t, os.Remove(filepath.Join(f.dir, reachedName)))
	if !Exists(f.dir) {
		t.Fatal("a complete log does not exist")
	}
	if r := f.open(); r.Incarnation != 1 {
		t.Fatalf("incarnation %d", r.Incarnation)
	}
}

func TestAMemberWithoutItsLogStillExists(t *testing.T) {
	f := create(t)
	f.close()
	must(t, os.RemoveAll(walDir(f.dir)))
	if !Exists(f.dir) {
		t.Fatal("a member that lost its log does not exist, and would be made anew under its old name")
	}
	f.refused("holds no log")
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	f := create(t)
	f.append(nil, run(1, 3, 1)...)
	f.snapshot(2, 1)
	must(t, Seal(filepath.Join(f.dir, incarnationName)))
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	must(t, err)
}

func TestCloseIsIdempotentAndEndsTheLog(t *testing.T) {
	f := create(t)
	f.close()
	f.close()
	if err := f.Append(nil, run(1, 1, 1)); !errors.Is(err, fs.ErrClosed) || errors.Is(err, ErrDead) {
		t.Fatalf("appended to a closed log: %v", err)
	}
}

func TestANewerFormatIsRefusedWithoutAdviceToThrowItAway(t *testing.T) {
	f := create(t)
	f.close()
	line := strings.Replace(string(encodeIncarnation(testIdentity.MemberID, 1)), "incarnation 1", "incarnation 2", 1)
	put(t, filepath.Join(f.dir, incarnationName), []byte(line))
	_, _, err := Open(f.dir, testConfig)
	if err == nil || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "format 2") {
		t.Fatalf("got %v", err)
	}
	if _, err := decodeIdentity([]byte(`{"format":2}`)); !errors.Is(err, errFormat) {
		t.Fatalf("got %v", err)
	}
}

func TestAppendedCountsWhatTheNextSnapshotWouldSave(t *testing.T) {
	f := create(t)
	f.append(nil, run(1, 100, 1)...)
	before := f.Appended()
	if before < 100*10 {
		t.Fatalf("appended %d bytes", before)
	}
	if f.reopen(); f.Appended() != before {
		t.Fatalf("after a restart %d, before %d", f.Appended(), before)
	}
	f.snapshot(100, 1)
	if f.Appended() != 0 {
		t.Fatalf("after a snapshot %d", f.Appended())
	}
	w, s, err := f.Size()
	must(t, err)
	if w < testConfig.SegmentBytes || s < int64(len(stateAt(100))) {
		t.Fatalf("sizes are %d and %d", w, s)
	}
}
