package raftnode

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"raft3d/raftnode/transport"
)

func drawHeader(t *rapid.T) header {
	sequence := rapid.Uint64().Draw(t, "sequence")
	return header{
		requestID{rapid.Uint64().Draw(t, "member"), rapid.Uint64().Draw(t, "incarnation"), sequence},
		rapid.Uint64Range(0, sequence).Draw(t, "low"),
	}
}

func TestAnEntryGivesBackItsRequestIDAndCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, cmd := drawHeader(t), rapid.SliceOf(rapid.Byte()).Draw(t, "cmd")
		data := encodeEntry(want, cmd)
		got, rest, err := decodeEntry(data)
		if err != nil || got != want || !bytes.Equal(rest, cmd) {
			t.Fatalf("%+v with command %x came back as %+v with %x (%v)", want, cmd, got, rest, err)
		}
	})
}

func TestAHeaderThatIsCutOffIsAnError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := encodeEntry(drawHeader(t), nil)
		n := rapid.IntRange(0, len(data)-1).Draw(t, "length")
		if h, _, err := decodeEntry(data[:n]); err == nil {
			t.Fatalf("%d of the %d bytes of a header were taken for %+v", n, len(data), h)
		}
	})
}

func TestArbitraryBytesAreAnErrorOrASoundHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")
		h, cmd, err := decodeEntry(data)
		if err != nil {
			return
		}
		if h.low > h.sequence || !bytes.HasSuffix(data, cmd) {
			t.Fatalf("%x was taken for %+v with command %x", data, h, cmd)
		}
		if again, _, err := decodeEntry(encodeEntry(h, cmd)); err != nil || again != h {
			t.Fatalf("%x was taken for %+v, which came back as %+v (%v)", data, h, again, err)
		}
	})
}

// naiveWindow is what a Window does, at the price of remembering everything.
type naiveWindow struct {
	incarnation, low uint64
	applied          map[uint64]bool
}

func (n *naiveWindow) admit(h header) admission {
	if h.incarnation < n.incarnation {
		return outdated
	}
	if h.incarnation > n.incarnation {
		*n = naiveWindow{incarnation: h.incarnation, applied: map[uint64]bool{}}
	}
	n.low = max(n.low, h.low)
	if h.sequence < n.low || n.applied[h.sequence] {
		return duplicate
	}
	n.applied[h.sequence] = true
	return admitted
}

// soundWindow says what is wrong with the form of a window.
func soundWindow(w *Window) string {
	if len(w.Ranges)%2 != 0 {
		return "a range without an end"
	}
	for i := 0; i < len(w.Ranges); i += 2 {
		switch {
		case w.Ranges[i] > w.Ranges[i+1]:
			return "a range that ends before it begins"
		case i == 0 && w.Ranges[0] <= w.Low:
			return "a range that low should have taken in"
		case i > 0 && w.Ranges[i] <= w.Ranges[i-1]+1:
			return "two ranges that should be one"
		}
	}
	return ""
}

func TestAWindowDecidesAsIfItRememberedEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, naive := &Window{}, &naiveWindow{applied: map[uint64]bool{}}
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			h := header{requestID: requestID{incarnation: 1, sequence: rapid.Uint64Range(0, 24).Draw(t, "sequence")}}
			if rapid.IntRange(0, 9).Draw(t, "of another incarnation") == 0 {
				h.incarnation = rapid.Uint64Range(0, 3).Draw(t, "incarnation")
			}
			if rapid.IntRange(0, 3).Draw(t, "low rises") == 0 {
				h.low = rapid.Uint64Range(0, h.sequence).Draw(t, "low")
			}
			before := proto.Clone(w)
			got, want := w.admit(h), naive.admit(h)
			if got != want {
				t.Fatalf("%+v after %v: admission %d, want %d", h, before, got, want)
			}
			asked := rapid.Uint64Range(0, 24).Draw(t, "asked")
			if w.has(naive.incarnation, asked) != (naive.applied[asked] || asked < naive.low) || w.has(naive.incarnation+1, asked) {
				t.Fatalf("asked for %d after %+v: %v", asked, h, w)
			}
			if wrong := soundWindow(w); wrong != "" {
				t.Fatalf("%+v after %v leaves %s: %v", h, before, wrong, w)
			}
		}
	})
}

// An honest proposer's requests may be lost, doubled and reordered on their way into the log; whatever it has not
// given up is applied once.
func TestARequestThatIsStillWantedIsAppliedExactlyOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &Window{}
		var copies []header            // in flight; any of them may come up again at any time
		waiting := map[uint64]header{} // sequences without a result
		applied, next := map[uint64]int{}, uint64(1)
		oldest := func() uint64 {
			low := next
			for s := range waiting {
				low = min(low, s)
			}
			return low
		}
		most := 0
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				h := header{requestID: requestID{incarnation: 1, sequence: next}}
				waiting[next] = h
				h.low = oldest()
				next++
				copies = append(copies, h)
				most = max(most, len(waiting))
			case 2, 3:
				if len(copies) == 0 {
					continue
				}
				h := copies[rapid.IntRange(0, len(copies)-1).Draw(t, "copy")]
				_, wanted := waiting[h.sequence]
				got := w.admit(h)
				if got == admitted {
					applied[h.sequence]++
				}
				if wanted && got != admitted {
					t.Fatalf("request %d is waited for, but was not applied (admission %d): %v", h.sequence, got, w)
				}
				if applied[h.sequence] > 1 {
					t.Fatalf("request %d was applied twice: %v", h.sequence, w)
				}
				delete(waiting, h.sequence)
			case 4: // its caller gives the oldest one up
				delete(waiting, oldest())
			}
			if len(w.Ranges) > 2*int(next) {
				t.Fatalf("%d ranges for %d requests", len(w.Ranges)/2, next)
			}
		}
	})
}

// What a window remembers is bounded by how many requests a member has under way, not by how many it ever made.
func TestAWindowStaysSmallHoweverManyRequestsComplete(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const underWay = 16
		w, next := &Window{}, uint64(1)
		var waiting []uint64
		for range 300 {
			for len(waiting) < underWay {
				waiting = append(waiting, next)
				next++
			}
			i := rapid.IntRange(0, len(waiting)-1).Draw(t, "completes")
			h := header{requestID{incarnation: 1, sequence: waiting[i]}, slices.Min(waiting)}
			if got := w.admit(h); got != admitted {
				t.Fatalf("%+v: admission %d: %v", h, got, w)
			}
			waiting = slices.Delete(waiting, i, i+1)
			// Between two ranges lies at least one request that is still waited for.
			if got := len(w.Ranges) / 2; got > len(waiting) {
				t.Fatalf("%d requests are under way, but the window has %d ranges: %v", len(waiting), got, w)
			}
		}
		for _, s := range waiting {
			w.admit(header{requestID{incarnation: 1, sequence: s}, slices.Min(waiting)})
		}
		if len(w.Ranges) != 0 || w.Low != next {
			t.Fatalf("all %d requests completed, the window is %v", next-1, w)
		}
	})
}

// A copy of a directory that was started beside the original has the same count in its incarnation. Only one of the
// two can be believed, whichever of their numbers is higher: the first one that got something applied.
func TestTheRequestsOfACopiedDirectoryAreNeverApplied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Uint64Range(1, 1<<20).Draw(t, "count")
		first, second := transport.Incarnation(count), transport.Incarnation(count)
		if first == second {
			return
		}
		w := &Window{}
		if got := w.admit(header{requestID: requestID{incarnation: first, sequence: 1}}); got != admitted {
			t.Fatalf("the first request of all: admission %d", got)
		}
		if got := w.admit(header{requestID: requestID{incarnation: second, sequence: 2}}); got != outdated {
			t.Fatalf("%x after %x: admission %d", second, first, got)
		}
		if got := w.admit(header{requestID: requestID{incarnation: first, sequence: 2}}); got != admitted {
			t.Fatalf("%x after its rival: admission %d", first, got)
		}
		if next := transport.Incarnation(count + 1); w.admit(header{requestID: requestID{incarnation: next, sequence: 1}}) != admitted {
			t.Fatalf("the next start, %x, is not let in after %x", next, first)
		}
	})
}

func TestTheOrderOfRequestsDoesNotMatterWhereNoneIsGivenUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sequences := rapid.SliceOfN(rapid.Uint64Range(0, 20), 1, 30).Draw(t, "sequences")
		admit := func(order []uint64) (*Window, int) {
			w, n := &Window{Incarnation: 1}, 0
			for _, s := range order {
				if w.admit(header{requestID: requestID{incarnation: 1, sequence: s}}) == admitted {
					n++
				}
			}
			return w, n
		}
		a, n := admit(sequences)
		b, m := admit(rapid.Permutation(sequences).Draw(t, "another order"))
		if !proto.Equal(a, b) || n != m {
			t.Fatalf("in one order %d are admitted and the window is %v, in another %d and %v", n, a, m, b)
		}
	})
}
