package main

import (
	"errors"
	"fmt"
	"testing"

	"raft3d/farm"
	"raft3d/raftnode"
)

func TestWhatRaftnodeRefusesReachesClientsAsTheFarmsRefusal(t *testing.T) {
	for from, want := range kinds {
		in := &raftnode.Error{Kind: from, Field: "id", Detail: "because", Outcome: raftnode.Unknown}
		var out *farm.Error
		if !errors.As(refusal(fmt.Errorf("propose: %w", in)), &out) || out.Kind != want || out.Field != "id" || out.Detail != "because" {
			t.Errorf("kind %d became %+v, want kind %d", from, out, want)
			continue
		}
		if outcome := out.Outcome; (want == farm.Unavailable) != (outcome == farm.Unknown) {
			t.Errorf("kind %d: outcome %q", from, outcome)
		}
	}
}

func TestEveryKindOfRefusalHasItsCounterpart(t *testing.T) {
	for k := raftnode.Invalid; k < raftnode.Internal; k++ {
		if _, ok := kinds[k]; !ok {
			t.Errorf("kind %d of raftnode has none", k)
		}
	}
}

func TestAFaultOfThisNodeStaysOne(t *testing.T) {
	for _, in := range []error{nil, errors.New("disk on fire"), &raftnode.Error{Kind: raftnode.Internal, Detail: "bug"}} {
		if out := refusal(in); out != in {
			t.Errorf("%v became %v", in, out)
		}
	}
}

func TestTheOutcomesAreSpelledAlike(t *testing.T) {
	if raftnode.Unknown != string(farm.Unknown) || raftnode.NotApplied != string(farm.NotApplied) {
		t.Errorf("raftnode says %q and %q, farm %q and %q", raftnode.Unknown, raftnode.NotApplied, farm.Unknown, farm.NotApplied)
	}
}
