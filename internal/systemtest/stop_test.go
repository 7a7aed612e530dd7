//go:build unix

package systemtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestARollingRestartFailsNoWriteAndKeepsTheState(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := startLoad(t, 8, c.nodes...)
	for _, n := range c.nodes {
		if n == c.nodes[2] {
			c.lead(n) // one of them at least leads when it is stopped
		}
		others := c.without(n)
		l.moveTo(others...)
		l.await(50)
		n.stop()
		says(t, n.log(), "ended in good order")
		l.await(50)
		n.start()
		c.awaitVoters(c.nodes...)
		n.awaitLog("state_kept=true")
	}
	l.stopWithoutFailure()
	l.check(c.nodes...)
}

func TestANodeThatEndsAnswersWhatItHasTakenOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, leads := range []bool{false, true} {
		leader, others := c.leader()
		ending := others[0]
		if leads {
			ending = leader
		}
		rest := c.without(ending)
		for _, n := range rest {
			n.signal(syscall.SIGSTOP) // nothing is decided now, and nobody is dead
		}
		type answer struct {
			reply
			err error
		}
		answered := make(chan answer, 1)
		write := func() {
			r, err := ending.try("POST", "/api/v1/printers?timeout=20s", `{"company":"Prusa","model":"MK4"}`)
			answered <- answer{r, err}
		}
		go write()
		eventually(t, ending.name+" has taken a write on", func() error {
			select {
			case a := <-answered: // the others had not quite stopped
				go write()
				return fmt.Errorf("%v %v", a.reply, a.err)
			default:
			}
			if ending.metric("raft3d_proposals_pending") == 0 {
				return errors.New("nothing is pending")
			}
			return nil
		})
		ending.signal(syscall.SIGTERM)
		ending.awaitLog("ending: asked to")
		for _, n := range rest {
			n.signal(syscall.SIGCONT)
		}
		if a := <-answered; a.err != nil || a.status != 201 {
			t.Errorf("%s (leads: %v) ended and left a write with %v, %v; want 201", ending.name, leads, a.reply, a.err)
		}
		if status := ending.exit(); status != 0 {
			t.Errorf("%s ended with status %d, want 0", ending.name, status)
		}
		ending.start()
		c.awaitVoters(c.nodes...)
	}
	sameEverywhere(t, c.nodes...)
}

func TestAFlippedByteInACleanlyStoppedStateIsNoticedAndTheStateRebuilt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := startLoad(t, 4, c.nodes...)
	l.await(200)
	l.stopWithoutFailure()
	n := c.nodes[1]
	n.stop()
	state := filepath.Join(n.dir, "state.db")
	b, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x10
	if err := os.WriteFile(state, b, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	c.awaitVoters(c.nodes...)
	n.awaitLog("state_kept=false")
	l.check(c.nodes...)
}

// A follower that nobody asks is killed twice, without a write between: as by a machine that runs out of memory.
func TestANodeThatIsKilledTwiceGoesOnFromItsStateEachTime(t *testing.T) {
	t.Parallel()
	c := emptyCluster(t)
	n := c.add()
	n.start()
	n.awaitReady()
	n.create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
	n.get("/api/v1/printers/p") // it is in the file now, and the file is noted
	note := filepath.Join(n.dir, "state.db.alive")
	if _, err := os.Stat(note); errors.Is(err, fs.ErrNotExist) {
		t.Log("this kernel (before Linux 6.8) cannot tell that a state is as it was: nothing to see")
		return
	}
	for range 2 {
		n.kill()
		n.start()
		n.awaitLog("state_kept=true")
		eventually(t, "the state is noted again", func() error {
			_, err := os.Stat(note)
			return err
		})
	}
	n.get("/api/v1/printers/p")
}

func TestASecondSignalEndsANodeThatWaitsAtOnceAndCostsNothing(t *testing.T) {
	t.Parallel()
	c := emptyCluster(t)
	n := c.add()
	n.start()
	n.awaitReady()
	n.create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
	n.signal(syscall.SIGINT)
	if status := n.exit(); status != 0 {
		t.Errorf("Ctrl-C ended it with status %d, want 0", status)
	}
	n.start()
	n.awaitReady()
	n.get("/api/v1/printers/p")
	n.signal(syscall.SIGTERM)
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by then
	if status := n.exit(); status != 0 && !strings.Contains(n.log(), "second signal") {
		t.Errorf("two signals ended it with status %d and without a word about it", status)
	}
	n.start()
	n.awaitReady()
	n.get("/api/v1/printers/p")
}
