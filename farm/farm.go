// Package farm holds the rules of a print farm: what printers, filaments (spools) and print jobs are, which
// commands exist, and what each command does to the farm as it stands.
//
// There are three nouns: an object (Printer, Filament or Job), a Command that asks for something, and the
// Changes that Decide answers with. Everything here is a pure value or a pure function: no input or output, no
// clock, no randomness, no goroutine, no floating point. What varies from node to node (the time, a fresh id, who
// asked) comes in a Stamp that was made before the command entered the log, so that every node decides alike.
//
// kvstore calls Decide while it applies the log and stores the Changes; httpapi makes Commands and renders Errors.
// Nothing else may change an object.
package farm

// ID names one object within its kind: 1 to 64 characters of A-Z a-z 0-9 . _ ~ -.
type ID string

// Kind is a kind of object, spelled as the change feed spells it.
type Kind string

// The kinds of object.
const (
	KindPrinter  Kind = "printer"
	KindFilament Kind = "filament"
	KindJob      Kind = "print_job"
)

// Kinds lists every kind, in the order in which documents name them.
var Kinds = []Kind{KindPrinter, KindFilament, KindJob}

// Common is what every object carries. Its JSON form is part of the contract (API.md).
type Common struct {
	ID     ID                `json:"id"`
	Name   string            `json:"name"`
	Notes  string            `json:"notes"`
	Labels map[string]string `json:"labels"` // never nil in a stored object: it is sent as {}
}

// Times is when an object was made and last changed, and the revision of that change. Revision is set by kvstore
// as it stores a change; Decide leaves it as it found it.
type Times struct {
	CreatedAt Time   `json:"created_at"`
	UpdatedAt Time   `json:"updated_at"`
	Revision  uint64 `json:"revision"`
}

// Printer is one machine.
type Printer struct {
	Common
	Company      string `json:"company"`
	Model        string `json:"model"`
	CurrentJobID *ID    `json:"current_job_id"` // the Running job; nil: none
	Times
}

// Filament is one physical spool.
type Filament struct {
	Common
	Type      string `json:"type"` // one of FilamentTypes
	Color     string `json:"color"`
	Total     Grams  `json:"total_weight_in_grams"`
	Remaining Grams  `json:"remaining_weight_in_grams"`
	Reserved  Grams  `json:"reserved_weight_in_grams"`  // derived: the sum of its Queued and Running jobs
	Available Grams  `json:"available_weight_in_grams"` // derived: Remaining - Reserved, never negative
	Times
}

// Job is one print.
type Job struct {
	Common
	PrinterID  ID        `json:"printer_id"`
	FilamentID ID        `json:"filament_id"`
	Filepath   string    `json:"filepath"`
	Weight     Grams     `json:"print_weight_in_grams"`
	Status     JobStatus `json:"status"`
	Used       *Grams    `json:"used_weight_in_grams"` // nil until the job ends
	StartedAt  *Time     `json:"started_at"`           // nil until it runs
	FinishedAt *Time     `json:"finished_at"`          // nil until it is Done or Canceled
	Times
}

// JobStatus is where a job stands: Queued, Running, Done or Canceled.
type JobStatus string

// The states of a job. Queued → Running → Done; Queued → Canceled; Running → Canceled; nothing else.
const (
	Queued   JobStatus = "Queued"
	Running  JobStatus = "Running"
	Done     JobStatus = "Done"
	Canceled JobStatus = "Canceled"
)

// Statuses lists the states of a job in the order in which it goes through them.
var Statuses = []JobStatus{Queued, Running, Done, Canceled}

// FilamentTypes lists what a spool can be made of.
var FilamentTypes = []string{"PLA", "PETG", "ABS", "TPU", "ASA", "PC", "PA", "PVA", "HIPS", "PP", "PLA-CF", "PETG-CF", "PA-CF"}

// Stamp is what goes with a command: what varies between nodes, decided once, before the command enters the log, and
// what its caller wants held while it is decided.
type Stamp struct {
	At    Time   // when the command was proposed; kvstore raises it so that time never runs backwards in the log
	Actor string // who asked: the name of the access token, or empty
	NewID ID     // the id of an object that is created without one

	// Key is the caller's own name for this call (Idempotency-Key): of all commands with one key only the first is
	// decided, and the others get its answer. Empty: none. See ValidKey.
	Key string
	// Fingerprint is a hash of the request that the key came with. The same key with another is refused.
	Fingerprint [32]byte

	// IfMatch, where it is not nil, has the command refused unless its object is at one of these revisions.
	IfMatch []uint64
	// IfMatchAny has it refused unless its object exists; IfMatch then does not matter.
	IfMatchAny bool
}

// Reader is the farm as it stands, as Decide sees it. It is implemented by kvstore inside its transaction.
type Reader interface {
	// Printer, Filament and Job are the object of that id; nil: there is none. It is the Reader's, and must not be written to.
	Printer(ID) *Printer
	Filament(ID) *Filament
	Job(ID) *Job
	// RunningJob names the job that runs on the printer.
	RunningJob(printer ID) (ID, bool)
	// ActiveJobs counts the Queued and Running jobs of the printer.
	ActiveJobs(printer ID) int
}

// Change is one object's step from one revision to the next. Exactly one pair of pointers is in use, by Kind:
// before is nil for a creation, after is nil for a deletion. What is before is the Reader's, and must not be written to.
type Change struct {
	Kind                          Kind
	ID                            ID
	PrinterBefore, PrinterAfter   *Printer
	FilamentBefore, FilamentAfter *Filament
	JobBefore, JobAfter           *Job
}
