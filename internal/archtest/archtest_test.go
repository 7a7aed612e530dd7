package archtest

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// load reads the repository once for all tests.
var load = sync.OnceValues(func() (loaded, error) {
	all, c, err := packages(filepath.Join("..", ".."), "crypto/rand", "log", "math/rand/v2", "net/http/pprof")
	return loaded{all, c}, err
})

type loaded struct {
	packages []*source
	checker  *checker
}

func loadAll(t *testing.T) loaded {
	t.Helper()
	l, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestThePackagesKeepTheirPlaces(t *testing.T) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, s := range loadAll(t).packages {
				for _, f := range rule.find(s) {
					t.Error(f)
				}
			}
		})
	}
}

// A rule that names a package which is not there holds nothing.
func TestEveryPackageThatARuleNamesIsThere(t *testing.T) {
	have := map[string]bool{"*": true}
	for _, s := range loadAll(t).packages {
		for dir := s.short(); dir != "."; dir = filepath.Dir(dir) {
			have[dir] = true
		}
	}
	check := func(c scope) {
		for _, p := range append(c.in, c.except...) {
			if !have[strings.TrimSuffix(p, "/...")] {
				t.Errorf("a rule is about %s, which is no package of ours", p)
			}
		}
	}
	for _, a := range arrows {
		check(a.from)
	}
	for _, u := range uses {
		check(u.where)
	}
}

func TestEachRuleCanBeBroken(t *testing.T) {
	for _, c := range []struct {
		path, file, text string
		want             string // in the one finding; empty: none
	}{
		{"farm", "a.go", `import _ "raft3d/wal"`, "need nobody"},
		{"farm", "a.go", `import _ "os"`, "pure values"},
		{"farm", "a.go", `import _ "strings"`, ""},
		{"wal", "a.go", `import _ "raft3d/farm"`, "keeps bytes"},
		{"kvstore", "a.go", `import _ "raft3d/raftnode"`, "knows nothing of clusters"},
		{"kvstore", "a.go", `import _ "go.etcd.io/bbolt"`, ""},
		{"raftnode", "a.go", `import _ "raft3d/kvstore"`, "byte strings"},
		{"raftnode/transport", "a.go", `import _ "raft3d/farm"`, "byte strings"},
		{"raftnode", "a.go", `import _ "raft3d/wal"`, ""},
		{"raftnode", "a.go", `import _ "go.etcd.io/bbolt"`, "one owner"},
		{"httpapi", "a.go", `import _ "raft3d/kvstore"`, "interfaces of its own"},
		{"httpapi", "a.go", `import _ "go.etcd.io/raft/v3"`, "end at raftnode"},
		{"client", "a.go", `import _ "raft3d/farm"`, "not the server"},
		{"client", "a.go", `import _ "github.com/google/uuid"`, "not the server"},
		{"client", "a.go", `import _ "net/http"`, ""},
		{"raftnode", "a.go", `import _ "go.etcd.io/etcd/server/v3/storage/wal"`, "own replay"},
		{"raftnode", "a.go", `import _ "github.com/gorilla/mux"`, "routes are the API's"},
		{"raftnode", "a.go", `import _ "github.com/prometheus/client_golang/prometheus"`, "decided above"},
		{"kvstore", "a.go", `import _ "go.uber.org/zap"`, "zap is for"},
		{"cmd/raft3d", "a.go", `import _ "net/http/pprof"`, "global mux"},
		{"cmd/raft3d", "a.go", `import _ "log"`, "log/slog is the log"},

		{"farm", "a.go", `import "time"; var _ = time.Now`, "stamped once"},
		{"kvstore", "a.go", `import clock "time"; func f(t clock.Time) clock.Duration { return clock.Since(t) }`, "stamped once"},
		{"kvstore", "a.go", `import "time"; func f() time.Duration { return time.Second }`, ""},
		{"kvstore", "a.go", `import "crypto/rand"; var _ = rand.Text()`, "what is random"},
		{"kvstore", "a.go", `import "math/rand/v2"; var _ = rand.Int()`, "what is random"},
		{"kvstore", "a.go", `import "os"; var _ = os.Getenv("HOME")`, "environment"},
		{"httpapi", "a.go", `import "raft3d/raftnode"; var _ raftnode.Config`, "nothing that acts"},
		{"httpapi", "a.go", `import "raft3d/raftnode"; var _ raftnode.Status; var _ raftnode.Member`, ""},
		{"cmd/raft3d", "a.go", `import "net/http"; var _ = http.DefaultServeMux`, "global muxes"},
		{"httpapi", "a.go", `import "net/http"; func f() { http.HandleFunc("/", nil) }`, "global muxes"},
		{"httpapi", "a.go", `import "log/slog"; func f() { slog.Info("x") }`, "logger in its Config"},
		{"httpapi", "a.go", `import "os"; func f() { os.Exit(1) }`, "only main ends"},
		{"cmd/raft3d", "a.go", `import "os"; func f() { os.Exit(1) }`, ""},
		{"internal/simulate", "a.go", `import "os"; func f() { os.Exit(1) }`, ""},
		{"wal", "a.go", `import "os"; var _ = os.Stderr`, "only cmd, and"},
		{"raftnode", "a.go", `import "fmt"; func f() { fmt.Println() }`, "only cmd, and"},
		{"kvstore", "a.go", `import "os"; func f(x *os.File) error { return x.Sync() }`, "only wal"},
		{"kvstore", "a.go", `import "os"; type t struct{ *os.File }; func f(x t) func() error { return x.Sync }`, "only wal"},
		{"wal", "a.go", `import "os"; func f(x *os.File) error { return x.Sync() }`, ""},
		{"cmd/raft3d", "a.go", `import "syscall"; func f() error { return syscall.Fsync(0) }`, "only wal"},

		{"farm", "a.go", `func f(m map[string]int) { for range m { } }`, "same order"},
		{"kvstore", "a.go", `type t map[int]int; func f(m t) { for range m { } }`, "same order"},
		{"kvstore", "a.go", `import "maps"; func f(m map[int]int) { for range maps.Keys(m) { } }`, "same order"},
		{"kvstore", "a.go", `import ("maps"; "slices"); func f(m map[int]int) { for range slices.Sorted(maps.Keys(m)) { } }`, ""},
		{"httpapi", "a.go", `func f(m map[string]int) { for range m { } }`, ""},
		{"farm", "a.go", `var x float64`, "exact"},

		{"raftnode", "core.go", `func f() { go f() }`, "only decides"},
		{"raftnode", "core_x.go", `var c chan int`, "only decides"},
		{"raftnode", "core.go", `import "time"; var d time.Duration`, "only decides"},
		{"raftnode", "core.go", `import _ "os"`, "only decides"},
		{"raftnode", "core.go", `func f() { select {} }`, "only decides"},
		{"raftnode", "node.go", `import "time"; func f() { go f(); time.Sleep(1) }`, ""},
	} {
		s, err := loadAll(t).checker.check(module+"/"+c.path, map[string]string{c.file: "package p; " + c.text})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		var all []finding
		for _, rule := range rules {
			all = append(all, rule.find(s)...)
		}
		switch {
		case c.want == "" && len(all) > 0:
			t.Errorf("%s in %s: want nothing said, got %v", c.text, c.path, all)
		case c.want != "" && (len(all) != 1 || !strings.Contains(all[0].String(), c.want)):
			t.Errorf("%s in %s: want one finding that says %q, got %v", c.text, c.path, c.want, all)
		}
	}
}

// The sends and receives of a core, which need a chan to be written, are found beside it.
func TestTheCoreNeitherSendsNorReceives(t *testing.T) {
	s, err := loadAll(t).checker.check(module+"/raftnode", map[string]string{
		"types.go": "package p; type queue chan int",
		"core.go":  "package p; func f(q queue) { q <- 1; <-q }",
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := coreOf(s); len(all) != 2 {
		t.Errorf("want the send and the receive found, got %v", all)
	}
}
