package history

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const ms = time.Millisecond

// call is one about job number 0 of farm 0.
func call(kind Kind, from, to time.Duration, outcome Outcome, milligrams int64) Op {
	return Op{Kind: kind, Call: from, Return: to, Outcome: outcome, Milligrams: milligrams, JobID: "id"}
}

func spoolRead(from, to time.Duration, remaining, reserved int) Op {
	o := call(Spool, from, to, OK, 0)
	o.Object = json.RawMessage(fmt.Sprintf(`{"id":"s","remaining_weight_in_grams":%d,"reserved_weight_in_grams":%d}`, remaining, reserved))
	return o
}

func printerRead(from, to time.Duration, running, notes string) Op {
	o := call(Printer, from, to, OK, 0)
	o.Object = json.RawMessage(fmt.Sprintf(`{"id":"p","current_job_id":%s,"notes":%q}`, running, notes))
	return o
}

func note(number int, from, to time.Duration, outcome Outcome) Op {
	o := call(Note, from, to, outcome, 0)
	o.Number, o.Token = number, fmt.Sprint("n", number)
	return o
}

func TestAFarmIsLinearizableWhereSomeOrderOfItsCallsExplainsAllAnswers(t *testing.T) {
	second := func(o Op) Op { o.Number, o.JobID = 1, "id1"; return o }
	for name, c := range map[string]struct {
		ops  []Op
		want porcupine.CheckResult
	}{
		"one after the other": {[]Op{
			call(Create, 0, 1*ms, OK, 60_000), spoolRead(2*ms, 3*ms, 100, 60), call(Start, 4*ms, 5*ms, OK, 60_000), printerRead(6*ms, 7*ms, `"id"`, ""),
			call(Finish, 8*ms, 9*ms, OK, 60_000), spoolRead(10*ms, 11*ms, 40, 0), printerRead(12*ms, 13*ms, "null", ""),
		}, porcupine.Ok},
		"a read that shows no acknowledged job": {[]Op{call(Create, 0, 1*ms, OK, 60_000), spoolRead(2*ms, 3*ms, 100, 0)}, porcupine.Illegal},
		"a read at the same time may":           {[]Op{call(Create, 0, 3*ms, OK, 60_000), spoolRead(1*ms, 2*ms, 100, 0)}, porcupine.Ok},
		"a spool promised twice":                {[]Op{call(Create, 0, 1*ms, OK, 60_000), second(call(Create, 0, 1*ms, OK, 60_000))}, porcupine.Illegal},
		"a refusal without a reason":            {[]Op{call(Create, 0, 1*ms, Refused, 60_000)}, porcupine.Illegal},
		"a refusal with one":                    {[]Op{call(Create, 0, 1*ms, OK, 60_000), second(call(Create, 2*ms, 3*ms, Refused, 60_000))}, porcupine.Ok},
		"an unknown call that came late":        {[]Op{call(Create, 0, 1*ms, Unknown, 60_000), spoolRead(5*ms, 6*ms, 100, 0), spoolRead(7*ms, 8*ms, 100, 60)}, porcupine.Ok},
		"an unknown call that was undone": {[]Op{call(Create, 0, 1*ms, Unknown, 60_000), spoolRead(5*ms, 6*ms, 100, 60),
			spoolRead(7*ms, 8*ms, 100, 0)}, porcupine.Illegal},
		"a call that was not applied and was": {[]Op{call(Create, 0, 1*ms, NotApplied, 60_000), spoolRead(5*ms, 6*ms, 100, 60)}, porcupine.Illegal},
		"a job canceled twice":                {[]Op{call(Create, 0, 1*ms, OK, 1), call(Cancel, 2*ms, 3*ms, OK, 1), call(Cancel, 4*ms, 5*ms, OK, 1)}, porcupine.Illegal},
		"two jobs on one printer": {[]Op{call(Create, 0, 1*ms, OK, 1), second(call(Create, 0, 1*ms, OK, 1)), call(Start, 2*ms, 3*ms, OK, 1),
			second(call(Start, 4*ms, 5*ms, OK, 1))}, porcupine.Illegal},
		"a note that came back": {[]Op{note(1, 0, 1*ms, OK), note(2, 2*ms, 3*ms, OK), printerRead(4*ms, 5*ms, "null", "n1")}, porcupine.Illegal},
		"a note of nobody":      {[]Op{printerRead(4*ms, 5*ms, "null", "x")}, porcupine.Illegal},
	} {
		verdicts, err := Linearizable(c.ops, 100_000, time.Minute)
		if err != nil || len(verdicts) != 1 || verdicts[0].Result != c.want {
			t.Errorf("%s: %v, %v; want %s", name, verdicts, err, c.want)
		}
	}
}

func TestFarmsAreJudgedApartAndStaleReadsAreNot(t *testing.T) {
	good, bad, stale := spoolRead(0, 1*ms, 100, 0), spoolRead(0, 1*ms, 99, 0), spoolRead(0, 1*ms, 98, 0)
	bad.Farm, stale.Stale = 1, true
	verdicts, err := Linearizable([]Op{bad, good, stale}, 100_000, time.Minute)
	if err != nil || len(verdicts) != 2 || verdicts[0].Result != porcupine.Ok || verdicts[1].Result != porcupine.Illegal {
		t.Errorf("%v, %v; want one farm linearizable and one not", verdicts, err)
	}
}
