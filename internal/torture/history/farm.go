package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is what a farm is at one moment. Values are compared with ==.
type state struct {
	jobs                string // one letter for each job, by number: ' ' where there is none, else that of its status
	remaining, reserved int64  // milligrams of the spool
	running             int    // the number of the job that runs; -1: none
	note                int    // the number of the newest Note
}

const (
	absent   = ' '
	queued   = 'Q'
	running  = 'R'
	done     = 'D'
	canceled = 'C'
)

func (s state) job(number int) byte {
	if number < len(s.jobs) {
		return s.jobs[number]
	}
	return absent
}

func (s state) with(number int, status byte) state {
	jobs := append([]byte(nil), s.jobs...)
	for len(jobs) <= number {
		jobs = append(jobs, absent)
	}
	jobs[number] = status
	s.jobs = string(jobs)
	return s
}

// decide is the rule of each change: the state after it, or false where the farm refuses it.
func (s state) decide(o *Op) (state, bool) {
	switch status := s.job(o.Number); o.Kind {
	case Create:
		if status != absent || s.remaining-s.reserved < o.Milligrams {
			return s, false
		}
		s = s.with(o.Number, queued)
		s.reserved += o.Milligrams
	case Start:
		if status != queued || s.running >= 0 {
			return s, false
		}
		s = s.with(o.Number, running)
		s.running = o.Number
	case Finish:
		if status != running {
			return s, false
		}
		s = s.with(o.Number, done)
		s.running = -1
		s.reserved -= o.Milligrams
		s.remaining -= o.Milligrams
	case Cancel:
		if status != queued && status != running {
			return s, false
		}
		if status == running {
			s.running = -1
		}
		s = s.with(o.Number, canceled)
		s.reserved -= o.Milligrams
	case Note:
		s.note = o.Number
	}
	return s, true
}

// seen is what the answer to a read says.
type seen struct {
	Remaining json.Number `json:"remaining_weight_in_grams"`
	Reserved  json.Number `json:"reserved_weight_in_grams"`
	Status    string      `json:"status"`
	Notes     string      `json:"notes"`
	CurrentID string      `json:"current_job_id"`
}

// judged is an Op as porcupine gets it: with its answer decoded once.
type judged struct {
	*Op
	seen
	remaining, reserved int64 // milligrams
	current             int   // the number of the job on the printer; -1: none; -2: one whose creation was never answered
	note                int
}

// Milligrams reads a weight in grams as nodes send it.
func Milligrams(grams json.Number) (int64, error) {
	f, err := grams.Float64()
	return int64(math.Round(f * 1000)), err // exact up to 2^53, which no spool is near
}

// step reports whether the answer is one that a farm in state s gives, and the state after it.
func step(s state, j *judged) (bool, state) {
	switch j.Kind {
	case Spool:
		return j.remaining == s.remaining && j.reserved == s.reserved, s
	case Job:
		have := s.job(j.Number)
		return have != absent && j.seen.Status != "" && j.seen.Status[0] == have, s
	case Printer:
		return (j.current == s.running || j.current == -2 && s.running >= 0) && j.note == s.note, s
	}
	next, legal := s.decide(j.Op)
	switch j.Outcome {
	case OK:
		return legal, next
	case Refused:
		return !legal, s
	default:
		return true, next // unknown: if it is decided at all it is decided by the rules
	}
}

// Verdict is what porcupine says of one farm.
type Verdict struct {
	Farm   int
	Ops    int
	Result porcupine.CheckResult // Unknown: not found out in time
}

// Linearizable judges each farm of ops by itself; all of them began with milligrams on the spool and nothing else. A
// call whose outcome is unknown may take effect at any time after it was made, also after the last answer; one that was
// not applied, or read nothing, is left out. Stale reads are the Order's business. budget is for each farm.
func Linearizable(ops []Op, milligrams int64, budget time.Duration) ([]Verdict, error) {
	farms := map[int][]porcupine.Operation{}
	numbers := map[string]int{} // of jobs, by id
	notes := map[string]int{"": 0}
	var last time.Duration
	for i := range ops {
		o := &ops[i]
		last = max(last, o.Return)
		if o.Kind == Create && o.Outcome == OK {
			numbers[o.JobID] = o.Number
		}
		if o.Kind == Note {
			notes[o.Token] = o.Number
		}
	}
	for i := range ops {
		o := &ops[i]
		if o.Outcome == NotApplied || o.Kind.Reads() && (o.Outcome != OK || o.Stale) {
			continue
		}
		j := &judged{Op: o, current: -1}
		if o.Kind.Reads() {
			if err := json.Unmarshal(o.Object, &j.seen); err != nil {
				return nil, fmt.Errorf("decode the answer to %v: %w", o, err)
			}
		}
		if o.Kind == Spool {
			var err1, err2 error
			j.remaining, err1 = Milligrams(j.Remaining)
			j.reserved, err2 = Milligrams(j.Reserved)
			if err := cmp.Or(err1, err2); err != nil {
				return nil, fmt.Errorf("decode the answer to %v: %w", o, err)
			}
		}
		if o.Kind == Printer {
			j.note = -1 // that of nobody
			if n, ok := notes[j.Notes]; ok {
				j.note = n
			}
			if j.CurrentID != "" {
				j.current = -2
				if n, ok := numbers[j.CurrentID]; ok {
					j.current = n
				}
			}
		}
		end := o.Return
		if o.Outcome == Unknown {
			end = last + 1
		}
		farms[o.Farm] = append(farms[o.Farm], porcupine.Operation{ClientId: o.Client, Input: j, Call: int64(o.Call), Return: int64(end)})
	}
	model := porcupine.Model{
		Init:  func() any { return state{remaining: milligrams, running: -1} },
		Step:  func(s, input, _ any) (bool, any) { return step(s.(state), input.(*judged)) },
		Equal: func(a, b any) bool { return a == b },
	}
	var verdicts []Verdict
	for farm, calls := range farms {
		verdicts = append(verdicts, Verdict{farm, len(calls), porcupine.CheckOperationsTimeout(model, calls, budget)})
	}
	slices.SortFunc(verdicts, func(a, b Verdict) int { return cmp.Compare(a.Farm, b.Farm) })
	return verdicts, nil
}
