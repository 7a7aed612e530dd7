package wal

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger has etcd's writer log to l. What it tells at its Info (a new segment) is of use only to who debugs it.
func zapLogger(l *slog.Logger) *zap.Logger { return zap.New(zapBridge{l}) }

type zapBridge struct{ to *slog.Logger }

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level <= zapcore.InfoLevel:
		return slog.LevelDebug
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

func (b zapBridge) Enabled(level zapcore.Level) bool {
	return b.to.Enabled(context.Background(), slogLevel(level))
}

func (b zapBridge) With(fields []zapcore.Field) zapcore.Core {
	return zapBridge{slog.New(b.to.Handler().WithAttrs(attrs(fields)))}
}

func (b zapBridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return checked.AddCore(e, b)
	}
	return checked
}

func (b zapBridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	b.to.LogAttrs(context.Background(), slogLevel(e.Level), "write-ahead log: "+e.Message, attrs(fields)...)
	return nil
}

func (zapBridge) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	out := make([]slog.Attr, 0, len(m.Fields))
	for key, value := range m.Fields {
		if key == "error" {
			key = "err"
		}
		out = append(out, slog.Any(key, value))
	}
	slices.SortFunc(out, func(a, b slog.Attr) int { return cmp.Compare(a.Key, b.Key) })
	return out
}
