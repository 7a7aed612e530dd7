package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bug that cannot be put in any more proves nothing, and the campaign that would say so takes ten minutes.
func TestEachBugFindsThePlaceThatItIsPutInto(t *testing.T) {
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), m.old); n != 1 {
			t.Errorf("%s: what it replaces is %d times in %s", m.name, n, m.file)
		}
	}
}
