package farm_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"raft3d/farm"
)

func TestStatusesComeInInAnyCase(t *testing.T) {
	for word, want := range map[string]farm.JobStatus{
		"Queued": farm.Queued, "running": farm.Running, "DONE": farm.Done, "canceled": farm.Canceled, "cAnCeLLeD": farm.Canceled,
	} {
		if got, err := farm.ParseStatus(word); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", word, got, err, want)
		}
	}
	for _, word := range []string{"", "Paused", " Done", "Cancellled"} {
		if got, err := farm.ParseStatus(word); err == nil || !strings.Contains(err.Error(), "Queued, Running, Done, Canceled") {
			t.Errorf("%q: %q, %v; want a refusal that names the states", word, got, err)
		}
	}
}

func TestFilamentTypesComeInInAnyCaseAndGoOutInUpperCase(t *testing.T) {
	for word, want := range map[string]string{"PLA": "PLA", "petg": "PETG", "Pa-Cf": "PA-CF"} {
		if got, err := farm.ParseFilamentType(word); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", word, got, err, want)
		}
	}
	for _, word := range []string{"", "wood", "PLA+", "aſa"} { // a long s is no s
		if got, err := farm.ParseFilamentType(word); err == nil {
			t.Errorf("%q was taken as %q", word, got)
		}
	}
}

func TestTimesHaveOneSpelling(t *testing.T) {
	at := farm.TimeOf(time.Date(2026, 1, 31, 13, 0, 0, 120_999_999, time.FixedZone("CET", 3600)))
	b, err := json.Marshal(at)
	if err != nil || string(b) != `"2026-01-31T12:00:00.120Z"` {
		t.Fatalf("%s, %v", b, err)
	}
	var back farm.Time
	if err := json.Unmarshal(b, &back); err != nil || back != at {
		t.Fatalf("%s came back as %v, %v", b, back, err)
	}
	for _, text := range []string{
		`"2026-01-31T12:00:00Z"`, `"2026-01-31T12:00:00.12Z"`, `"2026-01-31T12:00:00.1200Z"`, `"2026-01-31T12:00:00.120+00:00"`,
		`"2026-02-31T12:00:00.120Z"`, `"2026-01-31T12:00:00,120Z"`, `1769860800120`, `null`, `""`,
	} {
		if err := json.Unmarshal([]byte(text), &back); err == nil {
			t.Errorf("%s was taken as %v", text, back)
		}
	}
	if got := farm.MaxTime.String(); got != "9999-12-31T23:59:59.999Z" {
		t.Errorf("the last time is %s", got)
	}
}
