//go:build unix

package systemtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"raft3d/internal/contract"
)

// patience bounds every wait here. Nothing is expected to take long; it is what a busy machine may need.
const patience = 30 * time.Second

// reply is the whole answer to a call.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) String() string { return fmt.Sprintf("%d: %.600s", r.status, r.body) }

// revision is the state that the answer shows.
func (r reply) revision(t testing.TB) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(r.header.Get("Raft3D-Revision"), 10, 64)
	if err != nil {
		t.Fatalf("Raft3D-Revision: %v in the answer %v", err, r)
	}
	return n
}

// decode reads the body of an answer, which must be JSON.
func decode[T any](t testing.TB, r reply) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%v in the answer %v", err, r)
	}
	return v
}

// newClient is an HTTP client as a program would have one. A redirect is an error: the contract knows none.
func newClient(t testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport,
		Timeout:   patience,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects")
		},
	}
}

// call makes one request, as curl -d would send it where there is a body. An answer that the OpenAPI document does not
// promise is an error.
func call(client *http.Client, method, url, body string) (reply, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r, err := send(client, req)
	if err != nil {
		return reply{}, err
	}
	return r, asDocumented(req, body, r)
}

// send makes one request and reads the whole answer.
func send(client *http.Client, req *http.Request) (reply, error) {
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: read the answer: %w", req.Method, req.URL, err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(answer)}, nil
}

// document is the OpenAPI document as the program serves it.
var document = sync.OnceValues(func() (*contract.Document, error) {
	text, err := os.ReadFile(filepath.Join("..", "..", "httpapi", "openapi.json"))
	if err != nil {
		return nil, err
	}
	return contract.Parse(text)
})

// asDocumented says where an answer of a real node is not one that the document promises. Answers for which it has no
// operation are left alone.
func asDocumented(req *http.Request, body string, r reply) error {
	d, err := document()
	if err != nil {
		return err
	}
	path := d.Operation(req.Method, req.URL.Path)
	if path == "" {
		return nil
	}
	sent := req.Header.Clone()
	sent.Del("Content-Type") // the form type of curl -d, which is taken as JSON
	return errors.Join(d.Violations(path, contract.Exchange{
		Method: req.Method, URL: req.URL, Sent: sent, Body: body,
		Status: r.status, Header: r.header, Answer: r.body,
	})...)
}

// eventually waits until check returns nil; the last error that it returned says what was still missing.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(15 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v; last seen: %v", what, patience, err)
		case <-again.C:
		}
	}
}

// The objects as they are sent, as far as tests look into them.
type (
	job struct {
		ID     string   `json:"id"`
		Status string   `json:"status"`
		Notes  string   `json:"notes"`
		Weight float64  `json:"print_weight_in_grams"`
		Used   *float64 `json:"used_weight_in_grams"`
	}
	spool struct {
		ID        string  `json:"id"`
		Total     float64 `json:"total_weight_in_grams"`
		Remaining float64 `json:"remaining_weight_in_grams"`
		Reserved  float64 `json:"reserved_weight_in_grams"`
		Available float64 `json:"available_weight_in_grams"`
		Revision  uint64  `json:"revision"`
	}
	problem struct {
		Detail    string   `json:"detail"`
		Outcome   string   `json:"outcome"`
		Available *float64 `json:"available_weight_in_grams"`
		Errors    []struct {
			Field  string `json:"field"`
			Detail string `json:"detail"`
		} `json:"errors"`
		Allowed []string `json:"allowed"`
	}
	clusterView struct {
		ClusterID string `json:"cluster_id"`
		Leader    string `json:"leader"` // empty: none is known
		Term      uint64 `json:"term"`
		Applied   uint64 `json:"applied_index"`
		Commit    uint64 `json:"commit_index"`
		Revision  uint64 `json:"revision"`
		Members   []struct {
			ID       string `json:"id"`
			MemberID string `json:"member_id"`
			Role     string `json:"role"`
			Raft     string `json:"raft"`
			HTTP     string `json:"http"`
		} `json:"members"`
	}
)

// identities is who the members are and where, whatever their roles.
func (v clusterView) identities() string {
	var b strings.Builder
	for _, m := range v.Members {
		fmt.Fprintf(&b, "%s is %s at %s and %s\n", m.ID, m.MemberID, m.Raft, m.HTTP)
	}
	return b.String()
}
