package archtest

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// matches says whether the package or import path p is one of the patterns: "farm", "raftnode/..." (that and all
// below it), or "*".
func matches(p string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		below, all := strings.CutSuffix(pattern, "/...")
		return pattern == "*" || p == pattern || all && (p == below || strings.HasPrefix(p, below+"/"))
	})
}

// scope is the packages of ours that a rule is about.
type scope struct{ in, except []string }

func (c scope) has(s *source) bool { return matches(s.short(), c.in) && !matches(s.short(), c.except) }

func in(packages ...string) scope            { return scope{in: packages} }
func everywhereBut(packages ...string) scope { return scope{in: []string{"*"}, except: packages} }
func ours(packages ...string) (paths []string) {
	for _, p := range packages {
		paths = append(paths, module+"/"+p)
	}
	return paths
}

// An arrow that must not be.
type arrow struct {
	from   scope
	to     []string // import paths
	reason string
}

var arrows = []arrow{
	// The house, from the bottom up.
	{in("farm"), []string{module + "/..."},
		"the rules of a farm need nobody: whatever they need comes in as a value"},
	{in("wal"), []string{module + "/..."},
		"the log keeps bytes for whoever asks; the moment it knows what they mean, it can't be reasoned about alone"},
	{in("kvstore"), ours("raftnode/...", "wal/...", "httpapi/...", "internal/..."),
		"the store knows nothing of clusters, logs or clients; it meets raftnode in cmd, through builtins and farm's types"},
	{in("raftnode/..."), ours("kvstore/...", "farm/...", "httpapi/...", "internal/..."),
		"raftnode agrees on byte strings; what they mean is the state machine's business"},
	{in("httpapi/..."), ours("kvstore/...", "wal/...", "raftnode/transport/...", "internal/..."),
		"the API sees the farm and the cluster through interfaces of its own, so that it can be tested without either"},
	{in("client"), append(ours("..."), "github.com/...", "go.etcd.io/...", "google.golang.org/..."),
		"whoever talks to a farm from Go takes the client and the standard library, not the server"},
	{everywhereBut("cmd/..."), ours("cmd/..."), "the binary wires the packages, and nothing is above it"},

	// What comes from outside has one door each.
	{everywhereBut("kvstore", "internal/..."), []string{"go.etcd.io/bbolt/..."},
		"the store's file has one owner"},
	{everywhereBut("wal", "internal/..."), []string{"go.etcd.io/etcd/..."},
		"etcd's WAL reads back what was truncated; only our own replay in wal knows how to use it safely"},
	{in("farm", "kvstore", "httpapi/...", "cmd/..."), []string{"go.etcd.io/raft/..."},
		"raft's types end at raftnode: a change of its version must not reach the rules or the contract"},
	{everywhereBut("httpapi/..."), []string{"github.com/gorilla/..."}, "routes are the API's"},
	{everywhereBut("httpapi/...", "cmd/..."), []string{"github.com/prometheus/..."},
		"libraries offer figures and functions to observe; how they are published is decided above them"},
	{everywhereBut("wal"), []string{"go.uber.org/zap/..."}, "log/slog is the log here; zap is for etcd's WAL only"},
	{in("farm"), []string{"os/...", "net/...", "io/fs", "sync/...", "context", "log/...", "math/rand/...", "crypto/rand",
		"github.com/...", "google.golang.org/...", "go.etcd.io/..."},
		"farm is pure values and functions: no input or output, no goroutine, no randomness, nobody else's code"},
	{in("*"), []string{"net/http/pprof", "expvar"}, "it adds routes to a global mux when it is imported; mount handlers by hand"},
	{in("*"), []string{"log"}, "log/slog is the log here"},
}

// importsOf finds the arrows that s must not have.
func importsOf(s *source) (all []finding) {
	for _, f := range s.files {
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				continue // it parsed, so it is a string
			}
			for _, a := range arrows {
				if a.from.has(s) && matches(path, a.to) {
					all = append(all, s.found(i, a.reason, "imports %s", path))
				}
			}
		}
	}
	return all
}

// A use of something another package exports, that must not be.
type use struct {
	where  scope
	pkg    string   // import path
	names  []string // what it exports; nil: all of it
	except []string // with nil names: but these
	reason string
}

// commands are what somebody starts: the binary, and the tests' own under internal, which end with a status and print
// their figures for whoever started them.
var commands = []string{"cmd/...", "internal/fuzz", "internal/mutants", "internal/simulate", "internal/torture"}

const (
	noClock = "every node must decide alike: the time comes with the command, stamped once before it entered the log"
	noDice  = "every node must decide alike: what is random was drawn before the command entered the log"
	noEnv   = "every node must decide alike: the environment of one is not that of another"
	noMux   = "global muxes and clients are everybody's: no timeouts, and routes that nobody sees here"
	noExit  = "only main ends the process: below it, errors do, so that what is open is closed"
	noWords = "only cmd, and a command of the tests, speaks to whoever started the program"
	noSlog  = "a package below cmd gets its logger in its Config"
	noSync  = "only wal makes bytes durable; whoever else syncs has a second truth, or pays for nothing"
)

var uses = []use{
	{where: in("farm", "kvstore"), pkg: "time", names: []string{"Now", "Since", "Until"}, reason: noClock},
	{where: in("farm"), pkg: "time", names: []string{"Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}, reason: noClock},
	{where: in("farm", "kvstore"), pkg: "math/rand", reason: noDice},
	{where: in("farm", "kvstore"), pkg: "math/rand/v2", reason: noDice},
	{where: in("farm", "kvstore"), pkg: "crypto/rand", reason: noDice},
	{where: in("farm", "kvstore"), pkg: "hash/maphash", reason: noDice},
	{where: in("farm", "kvstore"), pkg: "github.com/google/uuid", reason: noDice},
	{where: in("farm", "kvstore"), pkg: "os", names: []string{"Getenv", "LookupEnv", "Environ", "Hostname", "Getpid"}, reason: noEnv},
	{where: in("farm", "kvstore"), pkg: "runtime", names: []string{"NumCPU", "GOMAXPROCS"}, reason: noEnv},

	{where: in("httpapi/..."), pkg: module + "/raftnode", except: []string{"Status", "Member"},
		reason: "the API takes raftnode's plain types and nothing that acts; cmd adapts the rest"},

	{where: in("*"), pkg: "net/http", names: []string{"DefaultServeMux", "Handle", "HandleFunc", "DefaultClient",
		"DefaultTransport", "Get", "Head", "Post", "PostForm", "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS"},
		reason: noMux},
	{where: everywhereBut(commands...), pkg: "os", names: []string{"Exit"}, reason: noExit},
	{where: everywhereBut(commands...), pkg: "os", names: []string{"Stdin", "Stdout", "Stderr"}, reason: noWords},
	{where: everywhereBut(commands...), pkg: "fmt", names: []string{"Print", "Printf", "Println"}, reason: noWords},
	{where: everywhereBut("cmd/..."), pkg: "log/slog", names: []string{"Default", "SetDefault", "Debug", "Info", "Warn",
		"Error", "Log", "LogAttrs", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"}, reason: noSlog},
	{where: everywhereBut("wal"), pkg: "syscall", names: []string{"Fsync", "Fdatasync", "Sync"}, reason: noSync},
	{where: everywhereBut("wal"), pkg: "golang.org/x/sys/unix", names: []string{"Fsync", "Fdatasync", "Sync", "Syncfs"}, reason: noSync},
}

// usesOf finds what s takes from other packages and must not, and calls of (*os.File).Sync outside wal.
func usesOf(s *source) (all []finding) {
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok {
				if pkg, ok := s.info.Uses[x].(*types.PkgName); ok {
					for _, u := range uses {
						if u.where.has(s) && u.pkg == pkg.Imported().Path() && u.forbids(sel.Sel.Name) {
							all = append(all, s.found(sel, u.reason, "uses %s.%s", u.pkg, sel.Sel.Name))
						}
					}
				}
			}
			if m := s.info.Selections[sel]; m != nil && everywhereBut("wal").has(s) {
				if fn, ok := m.Obj().(*types.Func); ok && fn.FullName() == "(*os.File).Sync" {
					all = append(all, s.found(sel, noSync, "calls (*os.File).Sync"))
				}
			}
			return true
		})
	}
	return all
}

func (u use) forbids(name string) bool {
	if u.names == nil {
		return !slices.Contains(u.except, name)
	}
	return slices.Contains(u.names, name)
}

// mapRangesOf finds ranges over maps where each node must do the same in the same order. Sorted first, it is a range
// over a slice: for _, k := range slices.Sorted(maps.Keys(m)).
func mapRangesOf(s *source) (all []finding) {
	if !in("farm", "kvstore").has(s) {
		return nil
	}
	const reason = "every node must do the same in the same order: range over slices.Sorted(maps.Keys(m)), or use maps.Copy"
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			r, ok := n.(*ast.RangeStmt)
			if !ok {
				return true
			}
			if t := s.info.TypeOf(r.X); t != nil {
				if _, isMap := t.Underlying().(*types.Map); isMap {
					all = append(all, s.found(r, reason, "ranges over a map"))
				}
			}
			if call, ok := r.X.(*ast.CallExpr); ok && s.isFrom(call.Fun, "maps") {
				all = append(all, s.found(r, reason, "ranges over a map's keys or values in no order"))
			}
			return true
		})
	}
	return all
}

// isFrom says whether the expression is something that package pkg exports.
func (s *source) isFrom(e ast.Expr, pkg string) bool {
	if i, ok := e.(*ast.IndexExpr); ok { // with explicit type arguments
		e = i.X
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	p, ok := s.info.Uses[x].(*types.PkgName)
	return ok && p.Imported().Path() == pkg
}

// floatsOf finds floating point among the rules of the farm.
func floatsOf(s *source) (all []finding) {
	if !in("farm").has(s) {
		return nil
	}
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if i, ok := n.(*ast.Ident); ok && (i.Name == "float64" || i.Name == "float32") {
				all = append(all, s.found(i, "weights are exact: whole milligrams, never a binary fraction", "uses %s", i.Name))
			}
			return true
		})
	}
	return all
}

// coreOf finds what has no place in raftnode's core, the files core*.go.
func coreOf(s *source) (all []finding) {
	if !in("raftnode").has(s) {
		return nil
	}
	const reason = "the core only decides: the same one runs in the node and, with virtual time and a seed, in the simulator"
	outside := []string{"time", "os/...", "net/...", "sync/...", "context", "io/...", "math/rand/...", "crypto/rand", "log"}
	for _, f := range s.files {
		if !strings.HasPrefix(s.file(f), "core") {
			continue
		}
		for _, i := range f.Imports {
			if path, err := strconv.Unquote(i.Path.Value); err == nil && matches(path, outside) {
				all = append(all, s.found(i, reason, "%s imports %s", s.file(f), path))
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			what := ""
			switch n := n.(type) {
			case *ast.GoStmt:
				what = "go statement"
			case *ast.SelectStmt:
				what = "select"
			case *ast.SendStmt:
				what = "send"
			case *ast.ChanType:
				what = "chan"
			case *ast.UnaryExpr:
				if n.Op == token.ARROW {
					what = "receive"
				}
			}
			if what != "" {
				all = append(all, s.found(n, reason, "%s has a %s", s.file(f), what))
			}
			return true
		})
	}
	return all
}

// rules are all that is held here.
var rules = []struct {
	name string
	find func(*source) []finding
}{
	{"imports", importsOf},
	{"uses", usesOf},
	{"map ranges", mapRangesOf},
	{"floats", floatsOf},
	{"the core", coreOf},
}
