package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The paths of the collections.
const (
	PrintersPath  = "/api/v1/printers"
	FilamentsPath = "/api/v1/filaments"
	JobsPath      = "/api/v1/print_jobs"
)

// Collection is all objects of one kind: T as they are, N to create one, P to change one.
type Collection[T, N, P any] struct {
	client *Client
	path   string
}

// Printers are the printers of the farm. They list by company, model and label.
func (c *Client) Printers() Collection[Printer, NewPrinter, PrinterPatch] {
	return Collection[Printer, NewPrinter, PrinterPatch]{c, PrintersPath}
}

// Filaments are the spools of the farm. They list by type, color and label.
func (c *Client) Filaments() Collection[Filament, NewFilament, FilamentPatch] {
	return Collection[Filament, NewFilament, FilamentPatch]{c, FilamentsPath}
}

// Jobs are the print jobs. They list by status, printer_id, filament_id and label.
func (c *Client) Jobs() Jobs {
	return Jobs{Collection[Job, NewJob, JobPatch]{c, JobsPath}}
}

func (l Collection[T, N, P]) at(id string) string { return l.path + "/" + url.PathEscape(id) }

// Get returns the object with that id; an *Error with status 404 if there is none.
func (l Collection[T, N, P]) Get(ctx context.Context, id string) (T, error) {
	return fetch[T](ctx, l.client, Request{Method: http.MethodGet, Path: l.at(id)})
}

// Create makes a new object and returns it.
func (l Collection[T, N, P]) Create(ctx context.Context, n N) (T, error) {
	return fetch[T](ctx, l.client, Request{Method: http.MethodPost, Path: l.path, Body: n})
}

// Update changes what p names and returns the object. With a revision other than 0 the object must still have that
// revision: an *Error with status 412 if it has not.
func (l Collection[T, N, P]) Update(ctx context.Context, id string, p P, revision uint64) (T, error) {
	return fetch[T](ctx, l.client, Request{Method: http.MethodPatch, Path: l.at(id), Body: p, IfMatch: revision})
}

// Delete removes the object, if it has that revision or the revision is 0.
func (l Collection[T, N, P]) Delete(ctx context.Context, id string, revision uint64) error {
	_, err := l.client.Do(ctx, Request{Method: http.MethodDelete, Path: l.at(id), IfMatch: revision})
	return err
}

// List returns the objects that filter selects, in the order of their creation: see ListAt. A nil filter selects all.
func (l Collection[T, N, P]) List(ctx context.Context, filter url.Values) iter.Seq2[T, error] {
	return ListAt[T](ctx, l.client, l.path, filter)
}

// ListAt returns the objects of the list at a path, decoded into T (a json.RawMessage takes them as they are sent). They
// are fetched in pages while the loop goes on, each page from one consistent state: an object that is there throughout
// comes exactly once, one that is created or deleted meanwhile comes once or not at all. After an error there is nothing
// more.
func ListAt[T any](ctx context.Context, c *Client, path string, filter url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		for name, values := range filter {
			query[name] = values
		}
		for query != nil {
			response, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: query})
			if err != nil {
				yield(none, err)
				return
			}
			var page []T
			if err := json.Unmarshal(response.Body, &page); err != nil {
				yield(none, fmt.Errorf("decode a list from %s%s: %w", response.Server, path, err))
				return
			}
			for _, object := range page {
				if !yield(object, nil) {
					return
				}
			}
			if query, err = nextPage(response.Header); err != nil {
				yield(none, fmt.Errorf("list %s%s: %w", response.Server, path, err))
				return
			}
		}
	}
}

// nextPage returns the query that leads on in a list; nil at its end. Only the query of the link counts: the next page
// may be read from another node, which has another address.
func nextPage(header http.Header) (url.Values, error) {
	for _, line := range header.Values("Link") {
		for link := range strings.SplitSeq(line, ",") {
			target, params, _ := strings.Cut(strings.TrimSpace(link), ">")
			if !strings.Contains(params, `rel="next"`) || !strings.HasPrefix(target, "<") {
				continue
			}
			next, err := url.Parse(target[1:])
			if err != nil {
				return nil, fmt.Errorf("follow the link to the next page: %w", err)
			}
			return next.Query(), nil
		}
	}
	return nil, nil
}

// Jobs are the print jobs, with what moves them on.
type Jobs struct {
	Collection[Job, NewJob, JobPatch]
}

// Start has the job's printer print it: Queued to Running.
func (j Jobs) Start(ctx context.Context, id string) (Job, error) {
	return j.move(ctx, id, "Running", nil)
}

// Done ends the job well: Running to Done. used is what it really took; nil: its weight.
func (j Jobs) Done(ctx context.Context, id string, used *Grams) (Job, error) {
	return j.move(ctx, id, "Done", used)
}

// Cancel ends the job: Queued or Running to Canceled. used is what a Running one took until then; nil: nothing.
func (j Jobs) Cancel(ctx context.Context, id string, used *Grams) (Job, error) {
	return j.move(ctx, id, "Canceled", used)
}

func (j Jobs) move(ctx context.Context, id, status string, used *Grams) (Job, error) {
	return fetch[Job](ctx, j.client, MoveJob(id, status, used))
}

// MoveJob is the call that moves a job to another status.
func MoveJob(id, status string, used *Grams) Request {
	return Request{Method: http.MethodPost, Path: JobsPath + "/" + url.PathEscape(id) + "/status", Body: struct {
		Status string `json:"status"`
		Used   *Grams `json:"used_weight_in_grams,omitempty"`
	}{status, used}}
}
