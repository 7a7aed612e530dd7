package raftnode

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Every node compares its state with those of the voters, by sums over all that ever changed it (StateMachine's
// Checkpoint). A node that differs from a majority which agrees has applied something otherwise, or its state was
// altered behind its back. It stops; the others only say so (docs/decisions/0009).

// ErrDiverged is Node.Err of a member whose state is not that of the majority.
var ErrDiverged = errors.New("the state of this node is not that of the majority: something on this machine altered it," +
	" or a command had another effect here (bad memory, a bad disk, another version of raft3d). What is on its disk is as it" +
	" was; to look into it, copy the data directory now. Started again, the node builds its state from its snapshot and" +
	" its log. If that does not help: move its data directory away, remove this member from its cluster, and join again")

const (
	comparePath     = "/raft/compare"
	compareEvery    = time.Second // and only while something changes, or a voter has not answered
	compareAtLeast  = time.Minute // how long it may wait for a voter that does not answer
	compareWait     = 2 * time.Second
	compareInBytes  = 8      // the mark that is asked for
	compareOutBytes = 8 + 32 // the mark that is answered for, and its sum
)

// otherState is a voter whose state is not this node's.
type otherState struct {
	id   uint64
	name string
	mark uint64 // where that was seen
}

// runCompare compares after something has changed, until all voters were seen to agree.
func (n *Node) runCompare() {
	defer n.joined.Done()
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	compared, pause, waited := uint64(0), compareEvery, time.Duration(0)
	last := uint64(0) // mark of the comparison before
	for {
		select {
		case <-n.stop:
			return
		case <-ticker.C:
		}
		mark, _, ok := n.sm.Checkpoint(0)
		if !ok || mark == compared {
			continue
		}
		if mark != last {
			pause = compareEvery
		} else if waited += compareEvery; waited < pause { // nothing changed, but somebody has not answered
			continue
		}
		waited, last = 0, mark
		all, others := n.compare(mark)
		if all {
			compared = mark
		}
		pause = min(2*pause, compareAtLeast)
		if n.judge(mark, others) {
			n.fail(ErrDiverged)
			return
		}
	}
}

// compare asks the voters for their sums at mark, or where they are if they are not there yet. all says that each of them
// has the sum of this node at mark.
func (n *Node) compare(mark uint64) (all bool, others []otherState) {
	all = true
	for _, m := range n.table.Load().members {
		if !m.voter || m.id == n.id {
			continue
		}
		at, theirs, ok := n.askSum(m.id, mark)
		if !ok {
			all = false
			continue
		}
		_, ours, ok := n.sm.Checkpoint(at)
		all = all && ok && at == mark && ours == theirs
		if ok && ours != theirs {
			others = append(others, otherState{m.id, m.name, at})
		}
	}
	n.seen.compared.Add(1)
	n.seen.differing.Store(uint64(len(others)))
	return all, others
}

// judge says what a comparison has found, and whether this node must stop: more than half of the voters have one and
// the same sum, at one mark, and this node has another one there.
func (n *Node) judge(mark uint64, others []otherState) (diverged bool) {
	if len(others) == 0 {
		return false
	}
	voters := 0
	for _, m := range n.table.Load().members {
		if m.voter {
			voters++
		}
	}
	if len(others) > voters/2 {
		// Whoever has diverged stays so: what was seen at one mark holds at each later one. So the lowest that makes a
		// majority is looked at again, where all of them have been.
		slices.SortFunc(others, func(a, b otherState) int { return cmp.Compare(b.mark, a.mark) })
		common := others[voters/2].mark
		_, ours, ok := n.sm.Checkpoint(common)
		count := map[[32]byte]int{}
		for _, o := range others {
			if at, theirs, answered := n.askSum(o.id, common); ok && answered && at == common && theirs != ours {
				if count[theirs]++; count[theirs] > voters/2 {
					n.seen.diverged.Store(1)
					n.logger.Error("the state of this node is not that of the majority", "mark", common,
						"here", fmt.Sprintf("%x", ours[:8]), "there", fmt.Sprintf("%x", theirs[:8]), "voters", voters)
					return true
				}
			}
		}
	}
	names := make([]string, len(others))
	for i, o := range others {
		names[i] = o.name
	}
	slices.Sort(names)
	n.logger.Error("states differ: some node has applied something otherwise, or its state was altered", "mark", mark,
		"differ_from_here", strings.Join(names, ", "), "voters", voters)
	return false
}

// askSum asks a member for its sum at a mark, which must not be 0; it answers for the newest that it has if that is lower.
func (n *Node) askSum(id, mark uint64) (at uint64, sum [32]byte, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), compareWait)
	defer cancel()
	status, out, err := n.transport.Call(ctx, id, comparePath, binary.BigEndian.AppendUint64(nil, mark))
	if err != nil || status != http.StatusOK || len(out) != compareOutBytes {
		return 0, sum, false // it is away, or older than this question
	}
	at = binary.BigEndian.Uint64(out)
	return at, [32]byte(out[8:]), at != 0 && at <= mark
}

// answerSum is the other end of askSum.
func (n *Node) answerSum(_ context.Context, _ uint64, in []byte) (status int, out []byte) {
	if len(in) != compareInBytes {
		return http.StatusBadRequest, nil
	}
	mark := binary.BigEndian.Uint64(in)
	at, sum, ok := n.sm.Checkpoint(0)
	if ok && at > mark {
		at, sum, ok = n.sm.Checkpoint(mark)
	}
	if !ok || at == 0 {
		return http.StatusNotFound, nil
	}
	return http.StatusOK, append(binary.BigEndian.AppendUint64(nil, at), sum[:]...)
}
