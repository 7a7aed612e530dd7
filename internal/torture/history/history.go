// Package history judges what clients of a cluster were told while it was being broken.
//
// There are three nouns: an Op (one call, when it was made, when it was answered, and with what), a farm (one spool, one
// printer, and the jobs of both: the partition that porcupine judges by itself), and an Order (the change feed of the
// whole run, against which every Op of every farm is held).
//
// The two look at the same calls with different eyes. Linearizable knows the rules of a farm and nothing of revisions:
// it looks for any order of the calls that explains all answers. Order knows the order that the cluster claims, and
// nothing of the rules: it looks for an effect that is missing, doubled, of nobody, or out of its time.
//
// Nothing here is safe for several goroutines at once, starts one that outlives a call, or reads a clock.
package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kind is what a call asked for.
type Kind string

// The kinds of calls: five that change something, three that read.
const (
	Create  Kind = "create"  // a job of Milligrams, named Token
	Start   Kind = "start"   // the job
	Finish  Kind = "finish"  // the job, with all its filament used
	Cancel  Kind = "cancel"  // the job
	Note    Kind = "note"    // write Token into the printer's notes
	Spool   Kind = "spool"   // read it
	Job     Kind = "job"     // read it
	Printer Kind = "printer" // read it
)

// Reads reports whether a call of this kind changes nothing.
func (k Kind) Reads() bool { return k == Spool || k == Job || k == Printer }

// Outcome is what a client knows of its call.
type Outcome string

// The outcomes of a call.
const (
	OK         Outcome = "ok"          // answered with success
	Refused    Outcome = "refused"     // answered with the farm's no: it has no effect, for a reason
	NotApplied Outcome = "not_applied" // it was not decided, and never will be
	Unknown    Outcome = "unknown"     // it may have had its effect, or may have it yet
)

// Op is one call as its client saw it.
type Op struct {
	Client  int
	Nodes   []string // that it was sent to
	Kind    Kind
	Farm    int    // its partition
	Number  int    // of the job in its farm, from 0; of a Note, the value; else 0
	Token   string // names the effect: of a Create the job's name, of a Note the notes; of other changes made by Effect
	JobID   string
	Stale   bool // a read that may show an older state
	Call    time.Duration
	Return  time.Duration // both since the run began
	Outcome Outcome
	Status  int // of HTTP; 0: none

	Milligrams int64  // of the job
	Revision   uint64 // of the object in the answer
	Shown      uint64 // the state that the answer shows; 0: it doesn't say
	Object     json.RawMessage
	Fault      string // what is wrong with the answers by themselves, such as two to one key
}

func (o Op) String() string {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Sprintf("%#v", o)
	}
	return string(text)
}

// Effect is the name of what o does, the same for each time that it is done and for nothing else.
func (o Op) Effect() string {
	switch o.Kind {
	case Create:
		return "create " + o.Token
	case Note:
		return "note " + o.Token
	case Start:
		return statusEffect(o.JobID, "Running")
	case Finish:
		return statusEffect(o.JobID, "Done")
	case Cancel:
		return statusEffect(o.JobID, "Canceled")
	}
	return ""
}

func statusEffect(job, status string) string { return "job " + job + " becomes " + status }
