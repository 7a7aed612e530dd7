package history

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func event(revision uint64, kind, id, action, fields string) Event {
	text := json.RawMessage(fmt.Sprintf(`{"id":%q,"revision":%d%s}`, id, revision, fields))
	return Event{revision, kind, id, action, text, text}
}

// told is the answer to a call: the object of an event.
func told(kind Kind, e Event, shown uint64) Op {
	o := Op{Kind: kind, Outcome: OK, Revision: e.Revision, Shown: shown, Object: e.Object, JobID: e.ID}
	var object struct{ Name, Notes string }
	_ = json.Unmarshal(e.Object, &object)
	o.Token = object.Name + object.Notes
	return o
}

// at says when a call was made and answered, in milliseconds.
func at(o Op, from, to int) Op {
	o.Call, o.Return = time.Duration(from)*ms, time.Duration(to)*ms
	return o
}

func TestAnAnswerMustStandInTheFeedOnceAndInItsTime(t *testing.T) {
	made := event(1, "print_job", "j", "created", `,"name":"a","status":"Queued"`)
	started := event(2, "print_job", "j", "updated", `,"name":"a","status":"Running"`)
	printer := event(3, "printer", "p", "created", `,"notes":""`)
	noted := event(4, "printer", "p", "updated", `,"notes":"x"`)
	other := event(5, "printer", "p", "updated", `,"notes":"y"`)
	again := event(6, "printer", "p", "updated", `,"notes":"x"`)
	all := []Event{made, started, printer, noted, other}
	answers := []Op{at(told(Create, made, 1), 0, 1), at(told(Start, started, 2), 2, 3), at(told(Note, noted, 4), 4, 5), at(told(Note, other, 5), 6, 7)}
	with := func(i int, change func(*Op)) []Op {
		ops := append([]Op(nil), answers...)
		change(&ops[i])
		return ops
	}
	for name, c := range map[string]struct {
		events []Event
		ops    []Op
		want   string // in what is found; empty: nothing is
	}{
		"all is well":                            {all, answers, ""},
		"a read of the newest state":             {all, append(answers, at(told(Printer, other, 5), 8, 9)), ""},
		"a stale read":                           {all, append(answers, at(func() Op { o := told(Printer, noted, 4); o.Stale = true; return o }(), 8, 9)), ""},
		"a read of an older state":               {all, append(answers, at(told(Printer, noted, 4), 8, 9)), "shows an older state"},
		"a read of what was not then":            {all, append(answers, at(told(Printer, noted, 5), 8, 9)), "was something else"},
		"an acknowledged change that is missing": {all[:4], answers, "it was acknowledged and is lost"},
		"an effect twice":                        {append(all[:5:5], again), answers, "more than once"},
		"an effect of nobody":                    {all, answers[:3], "nobody asked for it"},
		"an effect that was denied":              {all, with(3, func(o *Op) { o.Outcome = NotApplied }), "told that it has no effect"},
		"an effect that was refused":             {all, with(3, func(o *Op) { o.Outcome = Refused }), "told that it has no effect"},
		"an unknown call with its effect":        {all, with(3, func(o *Op) { o.Outcome = Unknown }), ""},
		"an answer with another revision":        {all, with(2, func(o *Op) { o.Revision = 5 }), "acknowledged with another revision"},
		"an answer with another object":          {all, with(1, func(o *Op) { o.Object = json.RawMessage(`{"id":"j","revision":2}`) }), "something else at revision 2"},
		"a change with too low a revision":       {all, with(3, func(o *Op) { o.Call, o.Return = 100*ms, 101*ms; o.Revision = 4 }), "before this change was even asked for"},
		"two answers to one key":                 {all, with(0, func(o *Op) { o.Fault = "one key got two answers" }), "one key"},
	} {
		r := NewOrder()
		for _, e := range c.events {
			if err := r.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		wrong := strings.Join(r.Check(c.ops), "\n")
		if c.want == "" && wrong != "" || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: found %q, want %q", name, wrong, c.want)
		}
	}
}

func TestAnEffectThatComesAgainInALaterCycleIsFound(t *testing.T) {
	r := NewOrder()
	for revision, notes := range []string{"", "x", "y"} {
		action := "updated"
		if revision == 0 {
			action = "created"
		}
		e := event(uint64(revision+1), "printer", "p", action, fmt.Sprintf(`,"notes":%q`, notes))
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
		if notes != "" {
			if wrong := r.Check([]Op{at(told(Note, e, e.Revision), revision, revision)}); len(wrong) > 0 {
				t.Fatal(wrong)
			}
		}
	}
	if err := r.Add(event(4, "printer", "p", "updated", `,"notes":"x"`)); err != nil {
		t.Fatal(err)
	}
	if wrong := r.Check(nil); len(wrong) != 1 || !strings.Contains(wrong[0], "more than once") {
		t.Errorf("found %q", wrong)
	}
}

func TestAFeedWithAGapOrARepeatIsRefused(t *testing.T) {
	first := event(1, "printer", "p", "created", "")
	for name, second := range map[string]Event{
		"gap":             event(3, "printer", "q", "created", ""),
		"repeat":          first,
		"created again":   event(2, "printer", "p", "created", ""),
		"of what is gone": event(2, "printer", "q", "updated", ""),
	} {
		r := NewOrder()
		if err := r.Add(first); err != nil {
			t.Fatal(err)
		}
		if err := r.Add(second); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestLiveIsWhatWasNotDeletedInOrderOfCreation(t *testing.T) {
	r := NewOrder()
	for _, e := range []Event{
		event(1, "printer", "b", "created", ""), event(2, "printer", "a", "created", ""), event(3, "printer", "c", "created", ""),
		event(4, "printer", "a", "deleted", ""), event(5, "printer", "b", "updated", ""),
	} {
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	r.Forget()
	if got := fmt.Sprintf("%s", r.Live("printer")); got != `[{"id":"b","revision":5} {"id":"c","revision":3}]` {
		t.Errorf("live: %s", got)
	}
}
