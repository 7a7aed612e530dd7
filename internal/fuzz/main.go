// Command fuzz runs each fuzz target of the module for a while, one after the other, on all cores:
//
//	go run ./internal/fuzz -each 1m
//
// It ends with status 1 where one failed. Go has put what failed into that package's testdata then, where every later
// run of the tests tries it again.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

type target struct{ pkg, name string }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	each := flag.Duration("each", time.Minute, "how long each target is fuzzed")
	flag.Parse()
	targets, err := list(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, t := range targets {
		out, err := exec.CommandContext(ctx, "go", "test", t.pkg, "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String()).CombinedOutput()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s in %s: %w\n%s", t.name, t.pkg, err, out))
		}
		fmt.Printf("%-20s %-28s %s\n", t.pkg, t.name, last(out))
	}
	return failed
}

// list asks the packages for their targets: a package's names come before the line that says that it is ok.
func list(ctx context.Context) (all []target, err error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the targets: %w", err)
	}
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		switch f := strings.Fields(s.Text()); {
		case len(f) == 1:
			names = append(names, f[0])
		case len(f) > 1:
			for _, name := range names {
				all = append(all, target{f[1], name})
			}
			names = nil
		}
	}
	return all, nil
}

// last is the newest count of executions in what go test printed.
func last(out []byte) (line string) {
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if _, counts, ok := strings.Cut(s.Text(), "execs: "); ok {
			line = counts
		}
	}
	return line
}
