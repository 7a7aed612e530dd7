package raftnode

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Each seed that ever showed a bug is played again, besides those of TestNothingIsLostOrDoubledWhateverHappens. The story of a
// seed changes with what schedules are made of; where a bug must stay shown, a script tells it.
func TestSeedsThatOnceFailedPass(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "seeds.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	played := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		number, _, _ := strings.Cut(lines.Text(), " ")
		if number == "" || number == "#" {
			continue
		}
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatalf("testdata/seeds.txt: %v", err)
		}
		playSeed(t, seed, map[string]int{})
		played++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if played == 0 {
		t.Error("testdata/seeds.txt has no seed")
	}
}
