package httpapi

import (
	"context"
	"encoding/json"
	"strings"

	"raft3d/farm"
)

func (s *Server) listJobs(ctx context.Context, c *call) error {
	q := farm.Query{Kind: farm.KindJob}
	words, given, err := c.query.get("status")
	if err != nil {
		return err
	}
	if given {
		for word := range strings.SplitSeq(words, ",") {
			status, err := jobStatus(word)
			if err != nil {
				return err
			}
			q.Status = append(q.Status, status)
		}
	}
	if q.PrinterID, err = c.query.id("printer_id"); err != nil {
		return err
	}
	if q.FilamentID, err = c.query.id("filament_id"); err != nil {
		return err
	}
	if q.Labels, err = c.query.labels(); err != nil {
		return err
	}
	return s.list(ctx, c, q)
}

func (s *Server) createJob(ctx context.Context, c *call) error {
	var j farm.CreateJob
	if err := c.decode(creation(&j.Text, fields{
		"printer_id":            text(&j.PrinterID),
		"filament_id":           text(&j.FilamentID),
		"filepath":              text(&j.Filepath),
		"print_weight_in_grams": grams(&j.Weight),
		"status":                rejected("cannot be chosen: a new job is Queued; POST /api/v1/print_jobs/{id}/status moves it on"),
	})); err != nil {
		return err
	}
	return s.add(ctx, c, j)
}

func (s *Server) patchJob(ctx context.Context, c *call) error {
	j := farm.PatchJob{Patch: farm.Patch{ID: farm.ID(c.id)}}
	if err := c.decode(patch(&j.Patch, fields{
		"printer_id":            lasting(&j.PrinterID, text),
		"filament_id":           lasting(&j.FilamentID, text),
		"filepath":              lasting(&j.Filepath, text),
		"print_weight_in_grams": lasting(&j.Weight, grams),
	})); err != nil {
		return err
	}
	return s.change(ctx, c, j)
}

// setJobStatus takes the new state from the query, as the seed does, or from the body, which may also say what was
// used; from both if they agree.
func (s *Server) setJobStatus(ctx context.Context, c *call) error {
	j := farm.SetJobStatus{ID: farm.ID(c.id)}
	body, err := c.readBody()
	if err != nil {
		return err
	}
	if body != nil {
		if err := decode(body, fields{
			"status":               statusWord(&j.Status),
			"used_weight_in_grams": optional(&j.Used, grams),
		}); err != nil {
			return err
		}
	}
	word, given, err := c.query.get("status")
	if err != nil {
		return err
	}
	if given {
		status, err := jobStatus(word)
		if err != nil {
			return err
		}
		if j.Status != "" && j.Status != status {
			return malformed("status", "the query says "+string(status)+" and the body "+string(j.Status)+"; give it once")
		}
		j.Status = status
	}
	if j.Status == "" {
		return &farm.Error{Kind: farm.Invalid, Field: "status", Detail: "is needed, as ?status= or in the body: " + statusWords}
	}
	return s.change(ctx, c, j)
}

const statusWords = "Queued, Running, Done or Canceled"

func parseStatus(word string) (farm.JobStatus, bool) {
	if strings.EqualFold(word, "Cancelled") {
		return farm.Canceled, true
	}
	for _, status := range farm.Statuses {
		if strings.EqualFold(word, string(status)) {
			return status, true
		}
	}
	return "", false
}

// jobStatus reads a state in a query.
func jobStatus(word string) (farm.JobStatus, error) {
	status, ok := parseStatus(strings.TrimSpace(word))
	if !ok {
		return "", malformed("status", "must be "+statusWords)
	}
	return status, nil
}

// statusWord takes a state in a body.
func statusWord(dst *farm.JobStatus) field {
	return func(value json.RawMessage) *farm.Error {
		var word string
		if fault := typed(value, "a string", &word); fault != nil {
			return fault
		}
		status, ok := parseStatus(strings.TrimSpace(word))
		if !ok {
			return &farm.Error{Kind: farm.Invalid, Detail: "must be " + statusWords}
		}
		*dst = status
		return nil
	}
}
