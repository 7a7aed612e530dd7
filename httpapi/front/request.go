package front

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// reading says what is in a buffer.
type reading int

const (
	partial reading = iota // the beginning of what may be a plain request
	plain                  // a plain request, and perhaps the next one behind it
	other                  // what is net/http's to read
)

// maxBodyDigits is more than a body has that fits into a buffer.
const maxBodyDigits = 4

// parse reads the request that b begins with into r, and says how many bytes it has. What it takes for plain, it
// takes as http.ReadRequest does (FuzzParse), and net/http's server would too. The body is a part of b.
func parse(b []byte, r *http.Request) (size int, is reading) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, partial
	}
	head := string(b[:end]) // the strings of the request are parts of it
	line, rest, _ := strings.Cut(head, "\r\n")
	method, line, _ := strings.Cut(line, " ")
	target, protocol, _ := strings.Cut(line, " ")
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete:
	default:
		return 0, other
	}
	if protocol != "HTTP/1.1" || target == "" || target[0] != '/' || !printable(target) {
		return 0, other
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return 0, other
	}
	length := int64(-1)
	header := make(http.Header, 8)
	values := make([]string, 0, 8)
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) || !printable(value) {
			return 0, other
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " ")
		switch name {
		case "Host":
			if r.Host != "" || !isHost(value) {
				return 0, other
			}
			r.Host = value
			continue
		case "Content-Length":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil || length >= 0 || len(value) > maxBodyDigits {
				return 0, other
			}
			length = int64(n)
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return 0, other
			}
		case "Transfer-Encoding", "Trailer", "Te", "Expect", "Upgrade", "Http2-Settings", "Pragma":
			return 0, other
		}
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	if r.Host == "" || length > 0 && method == http.MethodGet {
		return 0, other
	}
	length = max(length, 0)
	size = end + len("\r\n\r\n") + int(length)
	if size > len(b) {
		return size, partial
	}
	r.Method, r.URL, r.RequestURI, r.Header, r.ContentLength = method, u, target, header, length
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Body = http.NoBody
	if length > 0 {
		r.Body = io.NopCloser(bytes.NewReader(b[size-int(length) : size]))
	}
	return size, plain
}

// printable reports whether s has nothing but what can be seen in ASCII, and blanks.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isToken reports whether s is a header's name of the usual kind. There are others, which net/http knows.
func isToken(s string) bool { return s != "" && onlyOf(s, "-_") }

// isHost reports whether s is a host, with a port or without, in the form of a name or an address.
func isHost(s string) bool { return s != "" && onlyOf(s, "-._:[]") }

// onlyOf reports whether s has nothing but ASCII letters, digits and the characters of also.
func onlyOf(s, also string) bool {
	for i := range len(s) {
		b := s[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', strings.IndexByte(also, b) >= 0:
		default:
			return false
		}
	}
	return true
}
