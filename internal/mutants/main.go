// Command mutants proves that the simulation finds bugs: it puts each bug of its list (list.go) into the program, by
// go's -overlay, so that no file is changed, and plays schedules until one of them fails.
//
//	go run ./internal/mutants              all of them
//	go run ./internal/mutants -only dedup  those with that in their name
//
// It ends with status 1 where a bug was not found within -seeds, or where one of the list does not fit the code any
// more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// mutant is one bug.
type mutant struct {
	name     string
	file     string // from the root of the module
	old, new string // a text that is there once, and what stands in its place
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	seeds := flag.Int("seeds", 20_000, "how many seeds a bug may need")
	only := flag.String("only", "", "only those with this in their name")
	workers := flag.Int("workers", runtime.NumCPU(), "how many at once; they are told as they are found")
	flag.Parse()
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return fmt.Errorf("run it in the root of the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("| %-58s | %5s | %s\n| --- | --- | ---\n", "bug", "seeds", "what showed it")
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		failed  error // guarded by mu, as what is printed
		list    = make(chan mutant)
	)
	for worker := range *workers {
		running.Go(func() {
			own := filepath.Join(dir, fmt.Sprint(worker))
			err := os.Mkdir(own, 0o700)
			for m := range list {
				var needed int
				var why string
				if err == nil && ctx.Err() == nil {
					needed, why, err = m.hunt(ctx, root, own, *seeds)
				}
				mu.Lock()
				switch {
				case ctx.Err() != nil:
					failed = ctx.Err()
				case err != nil:
					failed = errors.Join(failed, fmt.Errorf("%s: %w", m.name, err))
				case needed == 0:
					failed = errors.Join(failed, fmt.Errorf("%s: not found within %d seeds", m.name, *seeds))
					fmt.Printf("| %-58s | %5s | NOT FOUND\n", m.name, "-")
				default:
					fmt.Printf("| %-58s | %5d | %s\n", m.name, needed, why)
				}
				mu.Unlock()
				err = nil
			}
		})
	}
	for _, m := range mutants {
		if strings.Contains(m.name, *only) {
			list <- m
		}
	}
	close(list)
	running.Wait()
	return failed
}

// hunt builds the program with the bug in it and returns the number of the first schedule that fails.
func (m *mutant) hunt(ctx context.Context, root, dir string, seeds int) (needed int, why string, err error) {
	original := filepath.Join(root, m.file)
	source, err := os.ReadFile(original)
	if err != nil {
		return 0, "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return 0, "", fmt.Errorf("what it replaces is %d times in %s", n, m.file)
	}
	mutated, overlay, binary := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return 0, "", err
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: mutated}})
	if err != nil {
		return 0, "", err
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		return 0, "", err
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlay, "-o", binary, "raft3d/raftnode")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, "", fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	const most = 10 * time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("it neither ends nor fails within %v", most))
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "-test.run=^TestNothingIsLostOrDoubledWhateverHappens$",
		"-schedule.seeds="+fmt.Sprint(seeds), fmt.Sprint("-test.timeout=", most)).CombinedOutput()
	if err == nil {
		return 0, "", nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, "", err
	}
	seed := regexp.MustCompile(`--- FAIL: \w+/(\d+) `).FindSubmatch(out)
	first := regexp.MustCompile(`(?m)^(?:\s+\w+_test\.go:\d+: |(panic: ))(.*)$`).FindSubmatch(out)
	if seed == nil || first == nil {
		return 0, "", fmt.Errorf("its run ends in another way: %.2000s", out)
	}
	if _, err := fmt.Sscan(string(seed[1]), &needed); err != nil {
		return 0, "", err
	}
	return needed, shortened(string(first[1]) + string(first[2])), nil
}

// shortened is the beginning of what failed, without the values.
func shortened(s string) string {
	s = strings.ReplaceAll(s, "|", "/")
	return s[:min(len(s), 100)]
}
