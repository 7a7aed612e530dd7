package wal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func sealed(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	put(t, path, []byte("what the store wrote without fsync"))
	must(t, Seal(path))
	return path
}

// unsealed asserts what Unseal says, and that no seal is left.
func unsealed(t testing.TB, path string, want bool) {
	t.Helper()
	intact, err := Unseal(path)
	must(t, err)
	if intact != want {
		t.Fatalf("intact is %v", intact)
	}
	if left, err := filepath.Glob(path + sealSuffix + "*"); err != nil || len(left) > 0 {
		t.Fatalf("left %v, %v", left, err)
	}
}

func TestASealHoldsOnce(t *testing.T) {
	path := sealed(t)
	unsealed(t, path, true)
	unsealed(t, path, false)
}

func TestASealDoesNotHoldForAChangedFile(t *testing.T) {
	good, err := os.ReadFile(sealed(t))
	must(t, err)
	for at := range good {
		path := sealed(t)
		flip(t, path, at)
		unsealed(t, path, false)
	}
	path := sealed(t)
	must(t, os.Truncate(path, int64(len(good)-1)))
	unsealed(t, path, false)
	must(t, os.Remove(path))
	unsealed(t, path, false)
}

func TestADamagedSealDoesNotHold(t *testing.T) {
	path := sealed(t)
	seal, err := os.ReadFile(path + sealSuffix)
	must(t, err)
	for at := range seal {
		must(t, Seal(path))
		flip(t, path+sealSuffix, at)
		unsealed(t, path, false)
	}
	put(t, path+sealSuffix+tmpSuffix, seal) // the crash came before the rename
	unsealed(t, path, false)
}

func TestSealNeedsAFile(t *testing.T) {
	if err := Seal(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}
