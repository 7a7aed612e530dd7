//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// short is a round for every commit. The long ones are run by hand.
func short(t *testing.T, out *bytes.Buffer) options {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	return options{nodes: 3, cycles: 4, seed: 1, minOps: 20, out: out}
}

func TestNothingIsLostInAShortRoundOfKillsAndCuts(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), short(t, &out))
	if err != nil || !strings.Contains(out.String(), "kill -9 of all at once") {
		t.Errorf("%v\n%s", err, out.String())
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), "raft3d-torture-") {
			t.Errorf("it leaves %s, %v", entry.Name(), err)
		}
	}
	t.Log(out.String())
}

func TestAProgramThatForgetsItsKeysIsFound(t *testing.T) {
	var out bytes.Buffer
	o := short(t, &out)
	o.broken = "keys"
	err := run(t.Context(), o)
	var wrong *violation
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "one key got two answers") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestEachFaultThatCanBeBuiltInStillFitsTheSource(t *testing.T) {
	for _, b := range breaks {
		if _, err := b.apply(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
