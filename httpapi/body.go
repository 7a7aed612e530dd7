package httpapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
)

// body says whether a route's calls carry one.
type body int

const (
	noBody       body = iota // one is refused, so that nothing a client says is passed over in silence
	optionalBody             // a JSON object, or none
	neededBody               // a JSON object
)

// readBody returns the request's body, whole, as its route takes it: at most maxBodyBytes of a media type that is
// taken as JSON. An absent body is nil, whatever its type.
func (c *call) readBody() ([]byte, error) {
	body, err := c.receive()
	switch {
	case err != nil:
		return nil, err
	case len(body) == 0 && c.route.body == neededBody:
		return nil, malformed("", "a body is needed: a JSON object")
	case len(body) == 0:
		return nil, nil
	case c.route.body == noBody:
		return nil, malformed("", "this call takes no body")
	}
	return body, c.checkMediaType()
}

// receive reads what the client sends, within readTimeout.
func (c *call) receive() ([]byte, error) {
	if c.r.ContentLength == 0 {
		return nil, nil
	}
	if c.r.ContentLength > maxBodyBytes {
		return nil, errTooLarge
	}
	if n := c.r.ContentLength; n > 0 { // net/http gives no more than that
		body := make([]byte, n)
		if _, err := io.ReadFull(c.r.Body, body); err != nil {
			return nil, bodyError(err)
		}
		return body, nil
	}
	// MaxBytesReader closes the connection behind a body that is too large; it must see net/http's own writer.
	body, err := io.ReadAll(http.MaxBytesReader(c.w.ResponseWriter, c.r.Body, maxBodyBytes))
	if err != nil {
		return nil, bodyError(err)
	}
	return body, nil
}

var errTooLarge = &refusal{status: http.StatusRequestEntityTooLarge, detail: "the body is larger than 1 MiB"}

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, detail: "the request did not arrive within " + readTimeout.String()}
	default:
		return malformed("", "the body could not be read: "+err.Error())
	}
}

// checkMediaType refuses what is not taken as JSON: 415. curl sends its -d as a form, so that type is taken too.
func (c *call) checkMediaType() error {
	given, codings := c.r.Header["Content-Type"], c.r.Header["Content-Encoding"]
	if len(codings) == 0 && (len(given) == 0 || len(given) == 1 && given[0] == contentJSON) {
		return nil // as nearly all say it
	}
	takes := []string{contentJSON, "application/x-www-form-urlencoded"}
	if c.r.Method == http.MethodPatch {
		takes = append(takes, "application/merge-patch+json")
	}
	refused := &refusal{status: http.StatusUnsupportedMediaType, detail: "the body must be JSON: Content-Type " + contentJSON + ", in UTF-8, not compressed"}
	if coding := c.r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return refused
	}
	if len(given) == 0 {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(given[0])
	if err != nil || len(given) > 1 || !slices.Contains(takes, mediaType) {
		return refused
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return refused
	}
	return nil
}
