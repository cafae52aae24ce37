package limit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/internal/guard/stage"
)

// TestTexts plays the scenarios of testdata.
func TestTexts(t *testing.T) {
	stage.Play(t, func() stage.Step { return (&play{now: epoch}).step })
}

// play is a limiter on stage.
type play struct {
	*limit.Limiter
	now time.Time
}

// step runs one command and tells what came of it.
func (p *play) step(t *testing.T, line string) string {
	t.Helper()
	name, rest, _ := strings.Cut(line, " ")
	switch name {
	case "new":
		p.now = epoch
		p.Limiter = limit.New(p.settings(t, rest), p.now)
	case "configure":
		p.Configure(p.settings(t, rest), p.now)
	case "restart":
		p.Restart(p.now)
	case "wait":
		p.now = p.now.Add(parse[time.Duration](t, rest))
	case "acquire":
		return p.acquire(parse[int](t, rest)) + p.state()
	case "success", "overload", "failure", "ignored":
		p.release(t, name, rest)
	case "saturate":
		p.saturate(t, rest)
	default:
		t.Fatalf("unknown step %q", line)
	}
	return p.state()
}

// settings reads "law initial min max".
func (p *play) settings(t *testing.T, args string) (s limit.Settings) {
	t.Helper()
	if _, err := fmt.Sscan(args, &s.Law, &s.Initial, &s.Min, &s.Max); err != nil {
		t.Fatalf("read settings %q: %v", args, err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// acquire asks n times.
func (p *play) acquire(n int) string {
	admitted := 0
	for range n {
		if p.Acquire(p.now) {
			admitted++
		}
	}
	return fmt.Sprintf("%d admitted, %d refused\n", admitted, n-admitted)
}

// release reads "n took" and gives back n slots.
func (p *play) release(t *testing.T, result, args string) {
	t.Helper()
	n, took, _ := strings.Cut(args, " ")
	r := map[string]limit.Result{"success": limit.Success, "overload": limit.Overload, "failure": limit.Failure}[result]
	for range parse[int](t, n) {
		p.Release(r, parse[time.Duration](t, took), p.now)
	}
}

// saturate reads "workers work time": for so long, more calls want to be served than can be, by workers that need exactly so long for
// each, one call after the other.
func (p *play) saturate(t *testing.T, args string) {
	t.Helper()
	f := strings.Fields(args)
	workers, work, end := parse[int](t, f[0]), parse[time.Duration](t, f[1]), p.now.Add(parse[time.Duration](t, f[2]))
	for p.Acquire(p.now) {
	}
	for p.now.Before(end) {
		busy := min(workers, p.InFlight())
		p.now = p.now.Add(work / time.Duration(busy))
		p.Release(limit.Success, work*time.Duration(p.InFlight())/time.Duration(busy), p.now)
		for p.Acquire(p.now) {
		}
	}
	for p.InFlight() > 0 {
		p.Release(limit.Ignored, 0, p.now)
	}
}

// state tells the moves since the last step, and where they led.
func (p *play) state() string {
	var b strings.Builder
	for _, c := range p.Changes() {
		fmt.Fprintf(&b, "%8v  %d -> %d  %s\n", c.Time.Sub(epoch).Round(time.Millisecond), c.From, c.To, c.Reason)
	}
	fmt.Fprintf(&b, "limit %d, in flight %d: %s\n", p.Limit(), p.InFlight(), p.Status().Reason)
	return b.String()
}

// parse reads a whole number or a duration.
func parse[V int | time.Duration](t *testing.T, s string) (v V) {
	t.Helper()
	var err error
	switch v := any(&v).(type) {
	case *int:
		_, err = fmt.Sscan(s, v)
	case *time.Duration:
		*v, err = time.ParseDuration(s)
	}
	if err != nil {
		t.Fatalf("read %q: %v", s, err)
	}
	return v
}
