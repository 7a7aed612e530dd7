package front

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is the ResponseWriter of one call. It holds all that is written until its conn sends it, in one piece.
type answer struct {
	header http.Header
	status int // 0 until the header is written
	body   []byte
}

func (a *answer) Header() http.Header { return a.header }

// WriteHeader panics at what is not the status of an answer; 1xx is none, and is not for a front.
func (a *answer) WriteHeader(status int) {
	if status < 200 || status > 999 {
		panic(fmt.Sprintf("answer with status %d", status))
	}
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if !mayHaveBody(a.status) {
		return 0, http.ErrBodyNotAllowed
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *answer) reset() {
	clear(a.header)
	a.status, a.body = 0, a.body[:0]
}

func mayHaveBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// encoder writes answers as net/http does, with the header's lines in the order of their names.
type encoder struct {
	names []string
	date  []byte // of the second
	at    int64  // that second
}

// append adds the answer. last says that the connection ends with it.
func (e *encoder) append(to []byte, a *answer, now time.Time, last bool) []byte {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	to = strconv.AppendInt(append(to, "HTTP/1.1 "...), int64(a.status), 10)
	text := http.StatusText(a.status)
	if text == "" {
		text = "status code " + strconv.Itoa(a.status)
	}
	to = append(append(append(to, ' '), text...), "\r\n"...)
	e.names = e.names[:0]
	for name := range a.header {
		e.names = append(e.names, name)
	}
	slices.Sort(e.names)
	for _, name := range e.names {
		if name == "Connection" || name == "Content-Length" || name == "Date" {
			continue // they are the connection's to say
		}
		for _, value := range a.header[name] {
			to = append(append(to, name...), ": "...)
			to = append(append(to, oneLine(value)...), "\r\n"...)
		}
	}
	if mayHaveBody(a.status) {
		if len(a.body) > 0 && len(a.header["Content-Type"])+len(a.header["Content-Encoding"]) == 0 {
			to = append(append(append(to, "Content-Type: "...), http.DetectContentType(a.body)...), "\r\n"...)
		}
		to = strconv.AppendInt(append(to, "Content-Length: "...), int64(len(a.body)), 10)
		to = append(to, "\r\n"...)
	}
	if second := now.Unix(); second != e.at || e.date == nil {
		e.date, e.at = now.UTC().AppendFormat(e.date[:0], "Date: "+http.TimeFormat+"\r\n"), second
	}
	to = append(to, e.date...)
	if last {
		to = append(to, "Connection: close\r\n"...)
	}
	return append(append(to, "\r\n"...), a.body...)
}

var lineEnds = strings.NewReplacer("\n", " ", "\r", " ")

// oneLine is a header's value without what would end it.
func oneLine(value string) string {
	if strings.IndexByte(value, '\n') < 0 && strings.IndexByte(value, '\r') < 0 {
		return value
	}
	return lineEnds.Replace(value)
}
