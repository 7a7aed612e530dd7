package farm

// View is one consistent state of the farm, as readers see it. It is valid inside the function that it was given
// to, and only there; byte slices that it hands out die with it and must not be changed.
type View interface {
	// Revision is the state that this View shows: the number of its last change.
	Revision() uint64
	// List calls fn with each object that matches, as it is sent, in order of creation, until fn returns an error,
	// which List returns. The position is where the object stands in that order, the revision that made it: it never
	// changes, so a list goes on after it whatever has come or gone in between.
	List(q Query, fn func(position uint64, object []byte) error) error
	// Count is how many objects List would visit without After and Limit.
	Count(q Query) (int, error)
	// Events calls fn with each change that matches, in order of revisions, until fn returns an error, which Events
	// returns. An event is the JSON that is sent (API.md, the change feed); that of a deletion has the object as it
	// was. Where changes after q.Since are not kept any more, the error is an *Error of kind Gone, and fn is not called.
	// Fewer events than q.Limit mean that there are no more up to Revision.
	Events(q EventQuery, fn func(revision uint64, event []byte) error) error
	// Oldest is the oldest revision whose event is kept; one that is yet to come where there is none. A reader that has
	// seen Oldest-1 misses nothing.
	Oldest() uint64
	// Answered finds what is kept under a key: the fingerprint of the request that it came with and, where that was
	// a call kept with RecordAnswer, its answer. For a command of the farm the answer's Status is 0.
	Answered(key string) (fingerprint [32]byte, a Answer, ok bool)
	// Summary is the farm in figures, for metrics; it costs no scan.
	Summary() Summary
}

// Query selects objects of one kind. An empty field selects all.
type Query struct {
	Kind Kind

	Company, Model string      // printers
	Type, Color    string      // filaments; Type in upper case
	Status         []JobStatus // jobs: any of these
	PrinterID      ID          // jobs
	FilamentID     ID          // jobs
	Labels         []Label     // all of these

	After uint64 // only objects at positions beyond it; 0: from the first on
	Limit int    // at most so many; 0: all
}

// EventQuery selects events. An empty field selects all.
type EventQuery struct {
	Since uint64 // only those of later revisions
	Kind  Kind
	ID    ID
	Limit int // at most so many; 0: all
}

// Label is one key with its value.
type Label struct{ Key, Value string }

// Summary is the farm in figures.
type Summary struct {
	Printers, Filaments int
	Jobs                map[JobStatus]int
	Remaining, Reserved Grams // over all spools
}

// ReadOptions says how fresh a View must be.
type ReadOptions struct {
	Stale       bool   // answer from this node's own state, without asking the cluster
	MinRevision uint64 // with Stale: wait until this node has reached it
}

// Result is what a decided command made.
type Result struct {
	Object   []byte // the object that the command was about, as it is sent (JSON); nil when it was deleted
	ID       ID
	Revision uint64 // of the state right after the command: that of its last change
	Replayed bool   // it is the result of an earlier command with the same Stamp.Key, and nothing was done now
}
