package wal

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func TestEtcdsLoggerSpeaksThroughOurs(t *testing.T) {
	var out bytes.Buffer
	l := zapLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Info("created a new WAL segment")
	l.With(zap.String("path", "x.wal")).Warn("slow fdatasync", zap.Int("took", 7))
	l.Error("failed", zap.Error(errors.New("why")))
	got := out.String()
	for _, part := range []string{"level=WARN", `msg="write-ahead log: slow fdatasync" path=x.wal took=7`, "level=ERROR", "err=why"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in\n%s", part, got)
		}
	}
	if strings.Contains(got, "segment") {
		t.Errorf("a detail is told to the operator:\n%s", got)
	}
}
