package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	// barEvery is the shortest time between two drawings of the bar.
	barEvery = 100 * time.Millisecond
	// lineEvery is the time between two lines in the log if there is no terminal. Twelve lines a minute show
	// that the work goes on.
	lineEvery = 5 * time.Second
)

// progress shows how far a long piece of work is, its rate and the time left: as a bar on a terminal,
// otherwise as a line in the log every few seconds. Its methods may be called from several goroutines.
type progress struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil: not on a terminal
	log  *slog.Logger
	what string
	now  func() time.Time

	mu          sync.Mutex
	done, total int64
	start, told time.Time
}

// newProgress starts to show the progress of total things. what is their name in the plural, such as "users".
// A total of 0 or less means unknown: no time left is shown until SetTotal is called.
func newProgress(w io.Writer, isTerminal bool, log *slog.Logger, total int64, what string) *progress {
	p := &progress{w: w, log: log, what: what, now: time.Now, total: total}
	p.start = p.now()
	p.told = p.start
	if !isTerminal {
		return p
	}
	if total <= 0 {
		total = -1
	}
	p.bar = progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString(what),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(barEvery),
		progressbar.OptionSetSpinnerChangeInterval(0), // otherwise a goroutine draws too, and disturbs Line
	)
	return p
}

// SetTotal corrects a total that was only roughly known.
func (p *progress) SetTotal(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total = total
	if p.bar != nil {
		p.bar.ChangeMax64(max(total, p.done+1)) // never full: a full bar ends, and Done does that
	}
}

// Set sets how many are done.
func (p *progress) Set(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(done)
}

// Add adds n to those that are done.
func (p *progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(p.done + n)
}

func (p *progress) set(done int64) {
	p.done = done
	if p.bar != nil {
		if p.total > 0 && done >= p.bar.GetMax64() {
			p.bar.ChangeMax64(done + 1)
		}
		_ = p.bar.Set64(done) // the work goes on even if the bar cannot be drawn
		return
	}
	if now := p.now(); now.Sub(p.told) >= lineEvery {
		p.told = now
		p.tell(now)
	}
}

func (p *progress) tell(now time.Time) {
	rate := float64(p.done) / now.Sub(p.start).Seconds()
	attrs := []any{slog.String("what", p.what), slog.Int64("done", p.done), slog.Int64("per_second", int64(rate))}
	if p.total > p.done && rate > 0 {
		left := time.Duration(float64(p.total-p.done) / rate * float64(time.Second))
		attrs = append(attrs, slog.Int64("total", p.total), slog.String("left", left.Round(time.Second).String()))
	}
	p.log.Info("progress", attrs...)
}

// Line writes a line of text above the bar.
func (p *progress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	_, _ = fmt.Fprintln(p.w, text)
}

// Done ends the display, whether or not all is done. The bar stays visible.
func (p *progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	if p.total > 0 {
		p.bar.ChangeMax64(max(p.total, p.done))
	}
	_ = p.bar.Exit()
	_, _ = fmt.Fprintln(p.w)
}

// isTerminal reports whether w is a terminal. The mode of the file does not show it: /dev/null is a device too.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
