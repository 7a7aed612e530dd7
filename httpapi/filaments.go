package httpapi

import (
	"context"

	"raft3d/farm"
)

func (s *Server) listFilaments(ctx context.Context, c *call) error {
	q := farm.Query{Kind: farm.KindFilament}
	kind, given, err := c.query.get("type")
	if err != nil {
		return err
	}
	if given {
		if q.Type, err = farm.ParseFilamentType(kind); err != nil {
			return malformed("type", err.Error())
		}
	}
	if q.Color, _, err = c.query.get("color"); err != nil {
		return err
	}
	if q.Labels, err = c.query.labels(); err != nil {
		return err
	}
	return s.list(ctx, c, q)
}

func (s *Server) createFilament(ctx context.Context, c *call) error {
	var f farm.CreateFilament
	if err := decode(c.body, fields{
		{"id", identifier(&f.ID)}, {"name", text(&f.Name)}, {"notes", text(&f.Notes)}, {"labels", labels(&f.Labels)},
		{"type", text(&f.Type)},
		{"color", text(&f.Color)},
		{"total_weight_in_grams", grams(&f.Total)},
		{"remaining_weight_in_grams", optional(&f.Remaining, grams)},
	}); err != nil {
		return err
	}
	return s.add(ctx, c, f, f.ID)
}

func (s *Server) patchFilament(ctx context.Context, c *call) error {
	f := farm.PatchFilament{Patch: farm.Patch{ID: farm.ID(c.id)}}
	if err := decode(c.body, patch(&f.Patch, fields{
		{"type", lasting(&f.Type, text)},
		{"color", lasting(&f.Color, text)},
		{"total_weight_in_grams", lasting(&f.Total, grams)},
		{"remaining_weight_in_grams", lasting(&f.Remaining, grams)},
	})); err != nil {
		return err
	}
	return s.change(ctx, c, f)
}
