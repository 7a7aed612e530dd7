package farm

// View is one consistent state of the farm, as readers see it. It is valid inside the function that it was given
// to, and only there; byte slices that it hands out die with it and must not be changed.
type View interface {
	// Revision is the state that this View shows: the number of its last change.
	Revision() uint64
	// Get returns the object as it is sent (JSON).
	Get(kind Kind, id ID) (object []byte, ok bool)
	// List calls fn with each object that matches, as it is sent, in order of creation, until fn returns an error,
	// which List returns.
	List(q Query, fn func(object []byte) error) error
	// Count is how many objects List would visit.
	Count(q Query) (int, error)
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
}
