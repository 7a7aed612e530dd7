//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// fault is a program with one bug in it: the proof that this harness can fail. It is compiled from a copy of one file, so
// that none can reach a release.
type fault struct {
	name, what string
	file       string   // from the module's root
	edits      []string // what is there once, and what takes its place, in turn
}

var breaks = []fault{
	{"memory", "the log keeps its newest entries in memory until there are twenty", "wal/wal.go", []string{
		"	etcd    *etcdwal.WAL\n", "	etcd    *etcdwal.WAL\n	held    []*raftpb.Entry\n",
		"	err := l.etcd.Save(state.numbered(l.unit+1), entries)\n	if err == nil && len(entries) == 0 {",
		"	if entries = append(l.held, entries...); len(entries) > 0 && len(entries) < 20 {\n		l.held, l.state, l.durable = entries, state, state\n		return nil\n	}\n" +
			"	l.held = nil\n	err := l.etcd.Save(state.numbered(l.unit+1), entries)\n	if err == nil && len(entries) == 0 {",
	}},
	{"keys", "an Idempotency-Key is not remembered", "kvstore/keys.go", []string{
		"	b.keys[s.Key] = sequence\n", "",
	}},
	{"window", "a request that was proposed again is applied again", "raftnode/request.go", []string{
		"	if !w.insert(h.sequence) {\n		return duplicate\n	}", "	w.insert(h.sequence)",
	}},
	{"barrier", "reads are answered from a node's own state", "raftnode/node.go", []string{
		"	if n.readers == nil {\n		n.readers =", "	if n.mu.Unlock(); n.id != 0 {\n		return nil\n	}\n	if n.readers == nil {\n		n.readers =",
	}},
	{"denial", "a client that gives up is told that its change did not happen", "raftnode/core_propose.go", []string{
		"		neverSent = p.data == nil", "		neverSent = p.data == nil || p.sequence > 0",
	}},
	{"checksum", "frames are not checked", "raftnode/transport/frame.go", []string{
		"	if sum != want {", "	if sum != want && limit < 0 {",
	}},
	{"busy", "a printer takes a second job", "farm/decide_job.go", []string{
		"d.RunningJob(before.PrinterID); busy {", "d.RunningJob(before.PrinterID); busy && running == before.ID {",
	}},
}

// overlayOf writes the file that has the compiler take a copy with the fault in it.
func overlayOf(ctx context.Context, dir, name string) (string, error) {
	for _, b := range breaks {
		if b.name != name {
			continue
		}
		text, err := b.apply(ctx)
		if err != nil {
			return "", err
		}
		changed := filepath.Join(dir, "broken.go")
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		path, err := b.path(ctx)
		if err != nil {
			return "", err
		}
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
		if err != nil {
			return "", err
		}
		written := filepath.Join(dir, "overlay.json")
		return written, os.WriteFile(written, overlay, 0o600)
	}
	return "", fmt.Errorf("-broken=%s: no such fault; \"list\" lists them", name)
}

// path is where the file is on this machine.
func (b fault) path(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "raft3d").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), b.file), nil
}

// apply is the file with the fault in it.
func (b fault) apply(ctx context.Context) (string, error) {
	path, err := b.path(ctx)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	broken := string(text)
	for edit := range slices.Chunk(b.edits, 2) {
		if n := strings.Count(broken, edit[0]); n != 1 {
			return "", fmt.Errorf("the fault %s replaces what is %d times in %s: %q", b.name, n, b.file, edit[0])
		}
		broken = strings.Replace(broken, edit[0], edit[1], 1)
	}
	return broken, nil
}
