package httpapi

import (
	"context"
	"fmt"
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
			status, err := farm.ParseStatus(strings.TrimSpace(word))
			if err != nil {
				return malformed("status", err.Error()+", or several of them with commas between")
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
	if err := decode(c.body, fields{
		{"id", identifier(&j.ID)}, {"name", text(&j.Name)}, {"notes", text(&j.Notes)}, {"labels", labels(&j.Labels)},
		{"printer_id", text(&j.PrinterID)},
		{"filament_id", text(&j.FilamentID)},
		{"filepath", text(&j.Filepath)},
		{"print_weight_in_grams", grams(&j.Weight)},
		{"status", rejected("cannot be chosen: a new job is Queued; POST /api/v1/print_jobs/{id}/status moves it on")},
	}); err != nil {
		return err
	}
	return s.add(ctx, c, j, j.ID)
}

func (s *Server) patchJob(ctx context.Context, c *call) error {
	j := farm.PatchJob{Patch: farm.Patch{ID: farm.ID(c.id)}}
	if err := decode(c.body, patch(&j.Patch, fields{
		{"printer_id", lasting(&j.PrinterID, text)},
		{"filament_id", lasting(&j.FilamentID, text)},
		{"filepath", lasting(&j.Filepath, text)},
		{"print_weight_in_grams", lasting(&j.Weight, grams)},
	})); err != nil {
		return err
	}
	return s.change(ctx, c, j)
}

// setJobStatus takes the new state from the query, as the seed does, or from the body, which may also say what was
// used; from both if they agree.
func (s *Server) setJobStatus(ctx context.Context, c *call) error {
	j := farm.SetJobStatus{ID: farm.ID(c.id)}
	if c.body != nil {
		if err := decode(c.body, fields{
			{"status", text(&j.Status)},
			{"used_weight_in_grams", optional(&j.Used, grams)},
		}); err != nil {
			return err
		}
	}
	word, given, err := c.query.get("status")
	if err != nil {
		return err
	}
	if given {
		status, err := farm.ParseStatus(word)
		if err != nil {
			return malformed("status", err.Error())
		}
		if j.Status != "" {
			if inBody, err := farm.ParseStatus(string(j.Status)); err != nil || inBody != status {
				return malformed("status", fmt.Sprintf("the query says %q and the body %.80q; give it once", status, j.Status))
			}
		}
		j.Status = status
	}
	return s.change(ctx, c, j)
}
