package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"raft3d/farm"
)

// query is a request's parameters: only such as its route takes, each once but for label.
type query url.Values

// parseQuery refuses what the route does not take, naming it.
func parseQuery(raw string, takes []string) (query, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, malformed("", "the query string cannot be read: "+err.Error())
	}
	var faults []farm.FieldError
	for name, given := range values {
		switch {
		case !slices.Contains(takes, name):
			detail := "this call takes no parameter of that name; it takes none"
			if len(takes) > 0 {
				detail = "this call takes no parameter of that name; it takes " + strings.Join(takes, ", ")
			}
			faults = append(faults, farm.FieldError{Field: name, Detail: detail})
		case len(given) > 1 && name != paramLabel:
			faults = append(faults, farm.FieldError{Field: name, Detail: "may be given only once"})
		}
	}
	return query(values), collect(farm.Malformed, faults)
}

// maxFaults bounds how many faults of one request are named, and maxName how much of a name that nobody knows is
// repeated (in bytes), so that a small request cannot ask for a huge answer.
const (
	maxFaults = 20
	maxName   = 80
)

// collect makes one error of many faults, in the order of their fields; nil of none.
func collect(kind farm.ErrorKind, faults []farm.FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	slices.SortStableFunc(faults, func(a, b farm.FieldError) int { return strings.Compare(a.Field, b.Field) })
	faults = faults[:min(len(faults), maxFaults)]
	for i, fault := range faults {
		if len(fault.Field) > maxName {
			faults[i].Field = strings.ToValidUTF8(fault.Field[:maxName], "") + "..."
		}
	}
	return &farm.Error{Kind: kind, Field: faults[0].Field, Detail: faults[0].Detail, More: faults[1:]}
}

// get returns a parameter that must have a value where it is given.
func (q query) get(name string) (value string, given bool, err error) {
	values, given := q[name]
	if !given {
		return "", false, nil
	}
	if value = strings.TrimSpace(values[0]); value == "" {
		return "", true, malformed(name, "must have a value where it is given")
	}
	return value, true, nil
}

// flag returns a parameter that is true or false; given without a value it is true.
func (q query) flag(name string) (bool, error) {
	values, given := q[name]
	if !given {
		return false, nil
	}
	switch values[0] {
	case "", "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, malformed(name, "must be true or false")
}

// timeout returns how long the call may take.
func (q query) timeout() (time.Duration, error) {
	value, given, err := q.get(paramTimeout)
	if !given || err != nil {
		return defaultTimeout, err
	}
	timeout, err := time.ParseDuration(value)
	if err != nil {
		timeout, err = time.ParseDuration(value + "s")
	}
	if err != nil || timeout < minTimeout || timeout > maxTimeout {
		return 0, malformed(paramTimeout, "must be 1ms to 60s: a number of seconds, or a number with its unit such as 250ms")
	}
	return timeout, nil
}

// readOptions returns how fresh the answer must be.
func (q query) readOptions() (farm.ReadOptions, error) {
	var o farm.ReadOptions
	level, given, err := q.get(paramConsistency)
	if err != nil {
		return o, err
	}
	switch {
	case !given, level == "linearizable":
	case level == "stale":
		o.Stale = true
	default:
		return o, malformed(paramConsistency, "must be linearizable or stale")
	}
	o.MinRevision, given, err = q.revision(paramMinRevision)
	if given && err == nil && !o.Stale {
		err = malformed(paramMinRevision, "is for consistency=stale only; a linearizable read sees every change that was acknowledged")
	}
	return o, err
}

// revision returns a parameter that is one.
func (q query) revision(name string) (revision uint64, given bool, err error) {
	value, given, err := q.get(name)
	if !given || err != nil {
		return 0, given, err
	}
	if revision, err = strconv.ParseUint(value, 10, 64); err != nil {
		return 0, true, malformed(name, "must be a revision: a whole number of 0 or more")
	}
	return revision, true, nil
}

// id returns a parameter that names an object.
func (q query) id(name string) (farm.ID, error) {
	value, given, err := q.get(name)
	if given && err == nil && !farm.ValidID(farm.ID(value)) {
		err = malformed(name, "must be an id: "+idForm)
	}
	return farm.ID(value), err
}

// labels returns what the label parameters ask for, each key:value.
func (q query) labels() ([]farm.Label, error) {
	var labels []farm.Label
	for _, given := range q[paramLabel] {
		key, value, ok := strings.Cut(given, ":")
		if !ok || key == "" {
			return nil, malformed(paramLabel, fmt.Sprintf("must be key:value, not %.80q", given))
		}
		labels = append(labels, farm.Label{Key: key, Value: strings.TrimSpace(value)})
	}
	return labels, nil
}

const idForm = "1 to 64 characters of A-Z a-z 0-9 . _ ~ -"
