// Package archtest holds the shape of this repository: which package may import which, and what some of them must
// never do, such as read a clock where every node has to decide alike. Its tests read the source of all packages and
// fail with the reason of each rule that is broken.
//
// To allow something new, change the rule and its reason here, in the same commit, and the design with it. To add a
// rule, add it to rules.go with a piece of source in the tests that breaks it.
//
// Nothing but its own tests uses this package.
package archtest

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is the import path that all of our packages begin with.
const module = "raft3d"

// source is one package of ours: its files without tests, parsed and, as far as it compiles, with types.
type source struct {
	path  string // "raft3d/farm"
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

// short is the package as the rules name it: "farm", "cmd/raft3d".
func (s *source) short() string { return strings.TrimPrefix(strings.TrimPrefix(s.path, module), "/") }

// file is the name of the file that n is in.
func (s *source) file(n ast.Node) string { return filepath.Base(s.fset.Position(n.Pos()).Filename) }

// finding is a place that breaks a rule.
type finding struct {
	at   token.Position
	what string // what stands there
	why  string // the rule's reason
}

func (f finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", filepath.Base(f.at.Filename), f.at.Line, f.what, f.why)
}

func (s *source) found(n ast.Node, why, format string, args ...any) finding {
	return finding{at: s.fset.Position(n.Pos()), what: s.short() + ": " + fmt.Sprintf(format, args...), why: why}
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// packages loads every package of ours in the module at root, and what is needed to type-check more source, which
// may import the packages named in extra besides those that ours import.
func packages(root string, extra ...string) ([]*source, *checker, error) {
	args := append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", "./..."}, extra...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list in %s: %w\n%s", root, err, &complaints)
	}
	c := &checker{fset: token.NewFileSet(), exports: map[string]string{}}
	var ours []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read what go list says: %w", err)
		}
		c.exports[p.ImportPath] = p.Export
		if p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/") {
			ours = append(ours, p)
		}
	}
	c.importer = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(c.exports[path])
	})
	var all []*source
	for _, p := range ours {
		files := map[string]string{}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, nil, err
			}
			files[filepath.Join(p.Dir, name)] = string(text)
		}
		s, err := c.check(p.ImportPath, files)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, s)
	}
	return all, c, nil
}

// checker turns source text into a source, with the types of compiled packages.
type checker struct {
	fset     *token.FileSet
	exports  map[string]string // import path to the file with its compiled types
	importer types.Importer
}

// check parses and type-checks the files (text by name) of the package at path.
func (c *checker) check(path string, files map[string]string) (*source, error) {
	s := &source{path: path, fset: c.fset, info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}}
	for name, text := range files {
		f, err := parser.ParseFile(c.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	config := types.Config{Importer: c.importer}
	if _, err := config.Check(path, c.fset, s.files, s.info); err != nil {
		return nil, fmt.Errorf("check the types of %s: %w", path, err)
	}
	return s, nil
}
