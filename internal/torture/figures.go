//go:build unix

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"raft3d/internal/torture/history"
	"raft3d/internal/torture/link"
)

// figures are what a run did and saw.
type figures struct {
	cycles   map[string]*figure // by harm
	troubles map[string]int
	kills    int // processes ended by kill -9
	verdicts map[porcupine.CheckResult]int
	outcomes map[history.Outcome]int
	network  link.Counts
	refused  map[int]int // answers by their status of HTTP, successes left out
	untested []string
	disks    []string
}

// figure is of one kind of harm.
type figure struct {
	times   int
	longest time.Duration
	gaps    []time.Duration // of each cycle, the longest time without an acknowledged change
}

func newFigures() *figures {
	return &figures{cycles: map[string]*figure{}, troubles: map[string]int{}, verdicts: map[porcupine.CheckResult]int{},
		outcomes: map[history.Outcome]int{}, refused: map[int]int{}}
}

func (f *figures) add(harm string, took time.Duration, ops []history.Op) {
	c := f.cycles[harm]
	if c == nil {
		c = &figure{}
		f.cycles[harm] = c
	}
	c.times++
	c.longest = max(c.longest, took)
	var changed []time.Duration
	for _, o := range ops {
		f.outcomes[o.Outcome]++
		if o.Outcome != history.OK && o.Status != 0 {
			f.refused[o.Status]++
		}
		if !o.Kind.Reads() && o.Outcome == history.OK {
			changed = append(changed, o.Return)
		}
	}
	slices.Sort(changed)
	gap := time.Duration(0)
	for i := 1; i < len(changed); i++ {
		gap = max(gap, changed[i]-changed[i-1])
	}
	c.gaps = append(c.gaps, gap)
}

// answered is how many calls were answered with success or with the farm's no.
func (f *figures) answered() int { return f.outcomes[history.OK] + f.outcomes[history.Refused] }

func (f *figures) count() (cycles int) {
	for _, c := range f.cycles {
		cycles += c.times
	}
	return cycles
}

func (f *figures) print(w io.Writer, took time.Duration, revision uint64) {
	fmt.Fprintf(w, "%d cycles in %v, %d processes killed\n", f.count(), took.Round(time.Second), f.kills)
	fmt.Fprintf(w, "calls: %d answered (%d with success, %d refused by the farm), %d unknown, %d not applied; %d revisions\n", f.answered(),
		f.outcomes[history.OK], f.outcomes[history.Refused], f.outcomes[history.Unknown], f.outcomes[history.NotApplied], revision)
	fmt.Fprintf(w, "answers that were no success, by status: %v\n", f.refused)
	fmt.Fprintf(w, "farms judged by porcupine: %d linearizable, %d not, %d not found out in time\n", f.verdicts[porcupine.Ok],
		f.verdicts[porcupine.Illegal], f.verdicts[porcupine.Unknown])
	fmt.Fprintf(w, "%-44s %6s %12s %12s %12s %12s\n", "harm", "cycles", "gap median", "gap p90", "gap longest", "longest cycle")
	for _, name := range slices.SortedFunc(maps.Keys(f.cycles), func(a, b string) int { return cmp.Compare(a, b) }) {
		c := f.cycles[name]
		slices.Sort(c.gaps)
		at := func(part int) time.Duration { return c.gaps[(len(c.gaps)-1)*part/100].Round(time.Millisecond) }
		fmt.Fprintf(w, "%-44s %6d %12v %12v %12v %12v\n", name, c.times, at(50), at(90), at(100), c.longest.Round(time.Millisecond))
	}
	for _, name := range slices.Sorted(maps.Keys(f.troubles)) {
		fmt.Fprintf(w, "together with %-40s %6d cycles\n", name, f.troubles[name])
	}
	n := f.network
	fmt.Fprintf(w, "between nodes: %d connections, %d frames; %d lost, %d doubled, %d with a bit flipped, %d broken off, %d times held up by a cut\n",
		n.Connections, n.Frames, n.Lost, n.Doubled, n.Flipped, n.Broken, n.HeldUp)
	for _, d := range f.disks {
		fmt.Fprintln(w, "disk:", d)
	}
	for _, u := range f.untested {
		fmt.Fprintln(w, "NOT TESTED:", u)
	}
}
