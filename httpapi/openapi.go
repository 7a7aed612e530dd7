package httpapi

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// The document of the API, and a page that shows it. openapi.json is written by hand; the tests hold it against the
// routes, both ways, and every answer that the package's tests get against it.

//go:embed openapi.json
var openAPI []byte

//go:embed docs.html
var docsPage []byte

// docsPolicy lets the page run its own script and style, which stand inside it, fetch the document, and nothing else.
var docsPolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
	"; script-src " + inlineHash(string(docsPage), "script") +
	"; style-src " + inlineHash(string(docsPage), "style")

// inlineHash is how a Content-Security-Policy names the one element of that name inside a page.
func inlineHash(page, element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	inside, _, _ := strings.Cut(rest, "</"+element+">")
	sum := sha256.Sum256([]byte(inside))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (s *Server) showOpenAPI(_ context.Context, c *call) error {
	send(c.w, http.StatusOK, contentJSON, openAPI)
	return nil
}

func (s *Server) showDocs(_ context.Context, c *call) error {
	c.w.Header().Set("Content-Security-Policy", docsPolicy)
	send(c.w, http.StatusOK, "text/html; charset=utf-8", docsPage)
	return nil
}
