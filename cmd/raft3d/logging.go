package main

import (
	"io"
	"log/slog"
)

// newLogger returns the program's one logger, which every package gets from here; w is stderr. format is text or json.
func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
