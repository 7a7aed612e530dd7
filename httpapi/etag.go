package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"raft3d/farm"
)

const (
	headerETag        = "Etag" // as net/http sends it
	headerIfMatch     = "If-Match"
	headerIfNoneMatch = "If-None-Match"
	maxTags           = 100 // in one header
)

// etag is the entity tag of what shows that revision: of an object its own, of a list that of the whole state.
func etag(revision uint64) string {
	quoted := make([]byte, 0, len(`"18446744073709551615"`))
	quoted = strconv.AppendUint(append(quoted, '"'), revision, 10)
	return string(append(quoted, '"'))
}

// tags is what an If-Match or If-None-Match header names (RFC 9110, 13.1), as far as it can ever match.
type tags struct {
	given  bool
	any    bool     // *
	strong []uint64 // revisions
	weak   []uint64 // W/"...": equal enough for a cache, never for a change
}

// parseTags reads one of the two headers. Tags of a right form that no answer ever had are taken, and match nothing.
func parseTags(h http.Header, name string) (t tags, err error) {
	lines := h[name]
	if len(lines) == 0 {
		return t, nil
	}
	t.given = true
	rest := strings.Trim(strings.Join(lines, ","), " \t")
	if rest == "*" {
		t.any = true
		return t, nil
	}
	refused := malformed(name, fmt.Sprintf(`must be * or a list of at most %d ETags, each in quotes, such as "42", "43"`, maxTags))
	count := 0
	for rest = strings.TrimLeft(rest, ", \t"); rest != ""; rest = strings.TrimLeft(rest, ", \t") {
		tagged, weak := strings.CutPrefix(rest, "W/")
		opaque, after, closed := strings.Cut(strings.TrimPrefix(tagged, `"`), `"`)
		after = strings.TrimLeft(after, " \t")
		if count++; count > maxTags || tagged[:min(1, len(tagged))] != `"` || !closed || after != "" && after[0] != ',' ||
			strings.ContainsFunc(opaque, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return t, refused
		}
		rest = after
		revision, err := strconv.ParseUint(opaque, 10, 64)
		switch {
		case err != nil || etag(revision) != `"`+opaque+`"`: // nobody was ever sent that one
		case weak:
			t.weak = append(t.weak, revision)
		default:
			t.strong = append(t.strong, revision)
		}
	}
	if count == 0 {
		return t, refused
	}
	return t, nil
}

// matches compares as a cache does, weakly: has says whether the answer shows that revision.
func (t tags) matches(revision uint64) bool {
	return t.any || slices.Contains(t.strong, revision) || slices.Contains(t.weak, revision)
}

// parsePreconditions reads the headers that make a call depend on a revision. A change that does not take one
// refuses it: passed over in silence, it would be made although its client said otherwise.
func (c *call) parsePreconditions() (err error) {
	refuse := func(name string) error {
		if len(c.r.Header[name]) > 0 {
			return malformed(name, "is not taken by this call")
		}
		return nil
	}
	switch c.route.kind {
	case read:
		c.ifNoneMatch, err = parseTags(c.r.Header, headerIfNoneMatch)
	case write:
		if err = refuse(headerIfNoneMatch); err == nil {
			c.ifMatch, err = parseTags(c.r.Header, headerIfMatch)
		}
	case create, manage:
		if err = refuse(headerIfNoneMatch); err == nil {
			err = refuse(headerIfMatch)
		}
	}
	return err
}

// stamp puts on s what the object's revision must be; farm.Decide's caller compares, as the log is applied.
func (t tags) stamp(s *farm.Stamp) {
	s.IfMatchAny = t.any
	if t.given && !t.any {
		s.IfMatch = t.strong
		if len(s.IfMatch) == 0 {
			s.IfMatch = []uint64{0} // no object's: a list that matches nothing is not the same as no list
		}
	}
}
