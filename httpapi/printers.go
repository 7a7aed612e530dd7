package httpapi

import (
	"context"

	"raft3d/farm"
)

func (s *Server) listPrinters(ctx context.Context, c *call) (err error) {
	q := farm.Query{Kind: farm.KindPrinter}
	if q.Company, _, err = c.query.get("company"); err != nil {
		return err
	}
	if q.Model, _, err = c.query.get("model"); err != nil {
		return err
	}
	if q.Labels, err = c.query.labels(); err != nil {
		return err
	}
	return s.list(ctx, c, q)
}

func (s *Server) createPrinter(ctx context.Context, c *call) error {
	var p farm.CreatePrinter
	if err := decode(c.body, fields{
		{"id", identifier(&p.ID)}, {"name", text(&p.Name)}, {"notes", text(&p.Notes)}, {"labels", labels(&p.Labels)},
		{"company", text(&p.Company)},
		{"model", text(&p.Model)},
	}); err != nil {
		return err
	}
	return s.add(ctx, c, p, p.ID)
}

func (s *Server) patchPrinter(ctx context.Context, c *call) error {
	p := farm.PatchPrinter{Patch: farm.Patch{ID: farm.ID(c.id)}}
	if err := decode(c.body, patch(&p.Patch, fields{
		{"company", lasting(&p.Company, text)},
		{"model", lasting(&p.Model, text)},
	})); err != nil {
		return err
	}
	return s.change(ctx, c, p)
}
