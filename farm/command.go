package farm

// Command asks for one change to the farm. The set is closed: the types of this file.
//
// A command arrives at Decide as the client meant it, already of the right form (types, lengths, characters: see
// Check), but nothing in it is believed about the state of the farm.
type Command interface{ command() }

// Text is what a client may give with every creation.
type Text struct {
	ID     ID // empty: Stamp.NewID is taken
	Name   string
	Notes  string
	Labels map[string]string
}

// CreatePrinter adds a printer.
type CreatePrinter struct {
	Text
	Company, Model string
}

// CreateFilament adds a spool.
type CreateFilament struct {
	Text
	Type, Color string
	Total       Grams
	Remaining   *Grams // nil: Total
}

// CreateJob queues a print and reserves its grams.
type CreateJob struct {
	Text
	PrinterID, FilamentID ID
	Filepath              string
	Weight                Grams
}

// Patch changes what every object has (JSON merge patch, RFC 7396). A nil field stays as it is.
type Patch struct {
	ID     ID
	Name   *string
	Notes  *string
	Labels *LabelPatch
}

// LabelPatch merges into the labels: a nil value removes its key. With Clear, all keys go first (the patch said
// "labels": null).
type LabelPatch struct {
	Clear bool
	Set   map[string]*string
}

// PatchPrinter changes a printer.
type PatchPrinter struct {
	Patch
	Company, Model *string
}

// PatchFilament changes a spool. Remaining or Total that would leave Remaining under what is reserved, or over
// Total, is a Conflict.
type PatchFilament struct {
	Patch
	Type, Color      *string
	Total, Remaining *Grams
}

// PatchJob changes a job. All but the Patch is allowed only while it is Queued, and reserved anew, all or nothing.
type PatchJob struct {
	Patch
	PrinterID, FilamentID *ID
	Filepath              *string
	Weight                *Grams
}

// SetJobStatus moves a job to its next state. Used is what was really used, for Done and for Canceled from
// Running; nil takes the planned weight for Done and nothing for Canceled.
type SetJobStatus struct {
	ID     ID
	Status JobStatus
	Used   *Grams
}

// Delete removes the object of that kind and id.
type Delete struct {
	Kind Kind
	ID   ID
}

// RecordAnswer keeps the answer to a call that is no command of the farm, under the Key of its Stamp, so that a
// repeat of the call can be given it again. It changes no object.
type RecordAnswer struct{ Answer }

// Answer is what a call over HTTP was answered with.
type Answer struct {
	Status int               // 200 to 499
	Header map[string]string // those that matter, by canonical name
	Body   []byte
}

func (CreatePrinter) command()  {}
func (CreateFilament) command() {}
func (CreateJob) command()      {}
func (PatchPrinter) command()   {}
func (PatchFilament) command()  {}
func (PatchJob) command()       {}
func (SetJobStatus) command()   {}
func (Delete) command()         {}
func (RecordAnswer) command()   {}
