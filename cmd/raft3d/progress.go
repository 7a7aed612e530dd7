package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	progressEvery = 100 * time.Millisecond
	progressWidth = 30 // characters of the bar
)

// progress shows on a terminal how far something has come; anywhere else it shows nothing. It is an io.Writer that counts
// what is written to it. A nil one may be ended.
type progress struct {
	w     io.Writer
	what  string
	total int64 // what done will be; not over 0: not known
	done  int64

	shown bool // w is a terminal
	began time.Time
	mu    sync.Mutex
	last  time.Time // something was shown; guarded by mu
}

func newProgress(w io.Writer, what string, total int64) *progress {
	return &progress{w: w, what: what, total: total, shown: isTerminal(w), began: time.Now()}
}

func (p *progress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	p.show(p.line(time.Since(p.began)))
	return len(b), nil
}

// show shows a line in place of the last one, unless that is so new that nobody has read it.
func (p *progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.shown && now.Sub(p.last) >= progressEvery {
		p.last = now
		// What cannot be shown is no reason to stop what is going on.
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	}
}

// line is what is shown after some time.
func (p *progress) line(after time.Duration) string {
	rate := size(int64(float64(p.done)/max(after.Seconds(), 0.001))) + "/s"
	if p.total <= 0 {
		return fmt.Sprintf("%s  %s  %s", p.what, size(p.done), rate)
	}
	full := int(progressWidth * min(p.done, p.total) / p.total)
	return fmt.Sprintf("%s  [%s%s] %3d %%  %s  %s", p.what, strings.Repeat("#", full), strings.Repeat(".", progressWidth-full),
		100*min(p.done, p.total)/p.total, size(p.done), rate)
}

// end takes the line away again.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
		p.last = time.Time{}
	}
}

// size is a number of bytes as people read it.
func size(bytes int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if bytes >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(bytes)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", bytes)
}
