package farm

// ErrorKind says what a caller may do about an Error; httpapi maps each to one HTTP status, in one place.
type ErrorKind int

// The kinds of Error. Their numbers are stored in the replicated state: append, never reorder.
const (
	Invalid            ErrorKind = iota + 1 // a well-formed request that breaks a rule (422)
	NotFound                                // no such object (404)
	Conflict                                // it conflicts with the state as it is now (409)
	Malformed                               // not the form that the contract asks for (400)
	Unavailable                             // no quorum answered in time (503); see Outcome
	Overloaded                              // a bounded queue is full (429); nothing was done
	Full                                    // the disk is nearly full (507); nothing was done
	Timeout                                 // the state asked for was not reached in time (504); reads only
	PreconditionFailed                      // the object is not at a revision that Stamp.IfMatch names (412)
	Gone                                    // the history asked for is not kept any more (410); see Oldest
)

// Outcome says whether a change whose call failed may still take effect.
type Outcome string

// The outcomes of a failed change.
const (
	NotApplied Outcome = "not_applied" // it did not happen and never will
	Unknown    Outcome = "unknown"     // it may have happened, or may yet
)

// Error is a refusal: a value made where the rule is, carried as it is to the client, rendered in one place.
type Error struct {
	Kind    ErrorKind
	Field   string  // the request's field at fault, as the client spells it; may be empty
	Detail  string  // a sentence for a person: what is wrong and what would be accepted
	Outcome Outcome // for Unavailable only

	Available *Grams      // a refused reservation: what the spool had available
	Allowed   []JobStatus // a refused transition: the states that are allowed from here; may be empty, not nil then
	More      []FieldError

	Oldest   uint64 // for Gone only: the oldest revision that is kept
	Replayed bool   // it is the answer to an earlier command with the same Stamp.Key
}

// FieldError is one more fault of the same request.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}
