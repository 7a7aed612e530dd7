package wal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// model is a log in memory, as raft sees it: what a restart must find.
type model struct {
	base    snapshotID   // the snapshot that entries follow on
	entries []snapshotID // index and term
	newest  snapshotID   // the newest snapshot, at base or within entries
	older   snapshotID   // the one before it
	state   hardState
	durable hardState // what a crash leaves of it
}

func (m *model) last() uint64 { return m.base.index + uint64(len(m.entries)) }

func (m *model) term(index uint64) uint64 {
	if index == m.base.index {
		return m.base.term
	}
	return m.entries[index-m.base.index-1].term
}

func (m *model) append(id snapshotID) {
	m.entries = append(slices.Clone(m.entries[:id.index-m.base.index-1]), id)
}

// String is what describe says of a log that recovers this.
func (m *model) String() string { return m.with(m.state) }

func (m *model) with(s hardState) string {
	var b strings.Builder
	if m.newest.index > 0 {
		fmt.Fprintf(&b, "%d/%d", m.newest.index, m.newest.term)
	}
	b.WriteString("|")
	for _, e := range m.entries {
		if e.index > m.newest.index {
			fmt.Fprintf(&b, " %d/%d", e.index, e.term)
		}
		s.seen(e.term)
	}
	s.seen(m.newest.term)
	fmt.Fprintf(&b, "| term %d vote %d commit %d", s.term, s.vote, max(s.commit, m.newest.index))
	return b.String()
}

// Whatever raft does to its log, and wherever the process ends, a restart finds the log that raft had.
func TestARestartFindsTheLogThatRaftHad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir := memoryDir(t)
		defer os.RemoveAll(dir)
		f := &fixture{t: t, dir: filepath.Join(dir, "n"), config: Config{SegmentBytes: 1 << 10}}
		var err error
		f.Log, err = Create(f.dir, testIdentity, f.config)
		must(t, err)
		defer func() { f.Close() }()
		f.fast()
		m := &model{}
		number := func(name string, from, to uint64) uint64 { return rapid.Uint64Range(from, to).Draw(t, name) }
		found := func(r Recovered) {
			want(t, r, m.String())
			m.durable = m.state
			f.fast()
		}
		// appendRun is one append of raft, in the model.
		appendRun := func() (entries []*raftpb.Entry) {
			at := m.last() + 1
			if m.last() > m.state.commit && rapid.Bool().Draw(t, "overwrite") {
				at = number("at", m.state.commit+1, m.last())
			}
			for range number("entries", 1, 6) {
				term := number("term", max(1, m.term(at-1)), max(1, m.state.term))
				entries = append(entries, entry(at, term))
				m.append(snapshotID{at, term})
				at++
			}
			return entries
		}
		moveState := func() {
			if rapid.Bool().Draw(t, "new term") {
				m.state.term += number("terms", 1, 3)
				m.state.vote = number("vote", 0, 3)
			}
			m.state.term = max(m.state.term, 1)
		}
		moveCommit := func() {
			m.state.commit = number("commit", m.state.commit, m.last())
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				moveState()
				var entries []*raftpb.Entry
				for range number("runs", 1, 3) {
					entries = append(entries, appendRun()...)
				}
				moveCommit()
				f.append(m.state.message(), entries...)
				m.durable = m.state
			},
			"append torn": func(t *rapid.T) {
				moveState()
				states := []string{m.with(m.durable)}
				old, before := m.durable, inspect(t, f.dir)
				entries := appendRun()
				for i := range entries {
					part := *m
					part.entries = m.entries[:uint64(len(m.entries))-uint64(len(entries)-1-i)]
					states = append(states, part.with(old))
				}
				moveCommit()
				states = append(states, m.String())
				f.append(m.state.message(), entries...)
				m.durable = m.state
				f.crash()
				after := inspect(t, f.dir)
				if filepath.Base(after.path) != filepath.Base(before.path) {
					found(f.open()) // the append ended its segment
					return
				}
				end := int64(number("sectors", uint64(before.end())/sectorBytes+1, uint64(after.end())/sectorBytes+1)) * sectorBytes
				put(t, after.path, after.zeroed(min(end, int64(len(after.bytes))), int64(len(after.bytes))))
				r := f.open()
				if !slices.Contains(states, describe(r)) {
					t.Fatalf("recovered %s\nwant one of %q", describe(r), states)
				}
				m.entries = slices.Clone(m.entries[:m.newest.index-m.base.index])
				for _, e := range r.Entries {
					m.entries = append(m.entries, snapshotID{e.GetIndex(), e.GetTerm()})
				}
				m.state = hardStateOf(r.HardState)
				m.durable = m.state
				f.fast()
			},
			"commit": func(t *rapid.T) {
				moveCommit()
				f.append(m.state.message())
			},
			"vote": func(t *rapid.T) {
				m.state.term++
				m.state.vote = number("vote", 0, 3)
				f.append(m.state.message())
				m.durable = m.state
			},
			"local snapshot": func(t *rapid.T) {
				from := max(m.newest.index+1, m.base.index)
				if from > m.state.commit {
					t.Skip("nothing new is committed")
				}
				at := number("at", from, m.state.commit)
				m.older, m.newest = m.newest, snapshotID{at, m.term(at)}
				f.snapshot(m.newest.index, m.newest.term)
			},
			"received snapshot": func(t *rapid.T) {
				at := number("at", m.state.commit+1, m.last()+5)
				term := number("term", max(1, m.term(m.state.commit)), max(1, m.state.term))
				if at <= m.last() && m.term(at) == term {
					t.Skip("raft has it already")
				}
				moveState()
				m.older, m.newest = m.newest, snapshotID{at, term}
				m.base, m.entries = m.newest, nil
				m.state.commit = at
				f.snapshot(at, term)
				f.append(m.state.message())
				m.durable = m.state
				m.durable.commit = at
			},
			"lose the newest snapshot": func(t *rapid.T) {
				if m.newest.index == 0 || m.newest == m.base || m.older.index < m.base.index {
					t.Skip("nothing reaches over it")
				}
				f.close()
				must(t, os.Remove(m.newest.path(f.dir)))
				newest := m.newest
				m.newest, m.state.commit = m.older, max(m.state.commit, newest.index)
				found(f.open())
				m.newest = newest
				f.snapshot(newest.index, newest.term)
			},
			"restart": func(t *rapid.T) { found(f.reopen()) },
			"crash": func(t *rapid.T) {
				f.crash()
				m.state = m.durable
				m.state.commit = max(m.state.commit, m.newest.index)
				found(f.open())
			},
		})
	})
}
