package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/url"
	"strconv"

	"raft3d/farm"
)

const (
	paramLimit  = "limit"
	paramCursor = "cursor"
	maxLimit    = 1000 // objects in a page

	cursorVersion = 1
	cursorBytes   = 1 + 8 + 4 // version, position, checksum
)

// A cursor is where a page of a list ended, for the client to hand back and not to read: the position of the page's
// last object, which stays its own also when it is deleted, and lies before those of all later ones. Its
// checksum covers the kind of object, so that neither damage nor a cursor of another list leads anywhere.

// cursor spells a position in the list of that kind.
func cursor(kind farm.Kind, position uint64) string {
	b := binary.BigEndian.AppendUint64([]byte{cursorVersion}, position)
	sum := crc32.Update(crc32.ChecksumIEEE([]byte(kind)), crc32.IEEETable, b)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, sum))
}

func parseCursor(kind farm.Kind, given string) (position uint64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(given)
	if err != nil || len(b) != cursorBytes {
		return 0, false
	}
	position = binary.BigEndian.Uint64(b[1:])
	return position, cursor(kind, position) == given // one spelling only: base64 itself takes line breaks and stray bits
}

// page puts on lq which part of the list is asked for.
func (q query) page(lq *farm.Query) error {
	limit, given, err := q.get(paramLimit)
	if err != nil {
		return err
	}
	if given {
		if lq.Limit, err = strconv.Atoi(limit); err != nil || lq.Limit < 1 || lq.Limit > maxLimit {
			return malformed(paramLimit, "must be a whole number of 1 to "+strconv.Itoa(maxLimit))
		}
	}
	spelled, given, err := q.get(paramCursor)
	if given && err == nil {
		ok := false
		if lq.After, ok = parseCursor(lq.Kind, spelled); !ok {
			err = malformed(paramCursor, `is none of this list; take it from the rel="next" of a Link header, as it is`)
		}
	}
	return err
}

// linkNext is the value of a Link header that leads to the page behind position, with all else that was asked for.
func (c *call) linkNext(kind farm.Kind, position uint64) string {
	asked := url.Values{}
	for name, values := range c.query {
		asked[name] = values
	}
	asked.Set(paramCursor, cursor(kind, position))
	return "<" + c.route.path + "?" + asked.Encode() + `>; rel="next"`
}

// nextPage is the position that the page behind q's begins after; more is false where q's is the last.
func nextPage(v farm.View, q farm.Query) (position uint64, more bool, err error) {
	seen, limit := 0, q.Limit
	q.Limit++
	err = v.List(q, func(p uint64, _ []byte) error {
		if seen++; seen <= limit {
			position = p
		}
		return nil
	})
	return position, seen > limit, err
}
