package limit_test

import (
	"fmt"
	"slices"
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
	*account
	now  time.Time
	free []time.Time // when each worker of the back-end is, the first first
	ends []time.Time // of the calls in work there
}

// step runs one command and tells what came of it.
func (p *play) step(t *testing.T, line string) string {
	t.Helper()
	name, rest, _ := strings.Cut(line, " ")
	if name != "saturate" {
		p.finish()
	}
	switch name {
	case "new":
		p.now, p.free = epoch, nil
		p.account = newAccount(p.settings(t, rest))
	case "configure":
		p.Configure(p.settings(t, rest), p.now)
	case "restart":
		p.Restart(p.now)
	case "resume":
		p.Resume(parse[int](t, rest), p.now)
	case "wait":
		p.now = p.now.Add(parse[time.Duration](t, rest))
	case "acquire":
		return p.acquire(t, rest) + p.state()
	case "rounds":
		p.rounds(t, rest)
	case "saturate":
		p.saturate(t, rest)
	default:
		p.release(t, name, rest)
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

// acquire reads "n", or "n of cost", and asks n times.
func (p *play) acquire(t *testing.T, args string) string {
	t.Helper()
	n, cost, costs := strings.Cut(args, " of ")
	units := 1
	if costs {
		units = parse[int](t, cost)
	}
	admitted, refused := 0, 0
	for range parse[int](t, n) {
		if p.account.acquire(units, p.now) {
			admitted++
		} else {
			refused++
		}
	}
	return fmt.Sprintf("%d admitted, %d refused\n", admitted, refused)
}

// results are the words for what calls told.
var results = map[string]limit.Result{
	"success": limit.Success, "overload": limit.Overload, "failure": limit.Failure, "ignored": limit.Ignored, "timeout": limit.TimedOut,
	"abandoned": limit.Abandoned,
}

// release reads "n took" and gives back n slots.
func (p *play) release(t *testing.T, result, args string) {
	t.Helper()
	r, ok := results[result]
	if !ok {
		t.Fatalf("unknown step %q", result)
	}
	n, took, _ := strings.Cut(args, " ")
	for range parse[int](t, n) {
		p.account.release(r, parse[time.Duration](t, took), p.now)
	}
}

// rounds reads "n of calls took": n times so many calls come, take so long and succeed.
func (p *play) rounds(t *testing.T, args string) {
	t.Helper()
	n, calls, took := 0, 0, ""
	if _, err := fmt.Sscanf(args, "%d of %d %s", &n, &calls, &took); err != nil {
		t.Fatalf("read rounds %q: %v", args, err)
	}
	for range n {
		for range calls {
			p.account.acquire(1, p.now)
		}
		p.now = p.now.Add(parse[time.Duration](t, took))
		for p.InFlight() > 0 {
			p.answer(limit.Success, p.now)
		}
	}
}

// saturate reads "workers work time", or "workers work time of cost": for so long, three times as many calls come as can be served by
// workers that need exactly so long for each, first come, first served. A call of a cost takes as many workers. What is in flight at the
// end stays so while the next step goes on with as many workers, and comes to its end otherwise.
func (p *play) saturate(t *testing.T, args string) {
	t.Helper()
	args, cost, costs := strings.Cut(args, " of ")
	units := 1
	if costs {
		units = parse[int](t, cost)
	}
	f := strings.Fields(args)
	workers, work, end := parse[int](t, f[0]), parse[time.Duration](t, f[1]), p.now.Add(parse[time.Duration](t, f[2]))
	if workers != len(p.free) {
		p.finish()
		p.free = make([]time.Time, workers)
	}
	for at := p.now; at.Before(end); at = at.Add(work * time.Duration(units) / time.Duration(3*workers)) {
		for len(p.ends) > 0 && !p.ends[0].After(at) {
			p.finishFirst()
		}
		p.now = at
		if p.account.acquire(units, at) {
			done := later(at, p.free[units-1]).Add(work)
			p.free = append(p.free[units:], slices.Repeat([]time.Time{done}, units)...)
			p.ends = append(p.ends, done)
		}
	}
}

// finish lets the calls end that are in work; none is sent meanwhile.
func (p *play) finish() {
	for len(p.ends) > 0 {
		p.finishFirst()
	}
}

func (p *play) finishFirst() {
	p.now, p.ends = later(p.now, p.ends[0]), p.ends[1:]
	p.answer(limit.Success, p.now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// state tells the moves since the last step, and where they led.
func (p *play) state() string {
	var b strings.Builder
	moves := p.Changes()
	if len(moves) > 25 {
		fmt.Fprintln(&b, "   ... so it went on, until")
		moves = moves[len(moves)-3:]
	}
	for _, c := range moves {
		fmt.Fprintf(&b, "%8v  %d -> %d  %s\n", c.Time.Sub(epoch).Round(time.Millisecond), c.From, c.To, c.Reason)
	}
	s := p.Status()
	fmt.Fprintf(&b, "limit %d, in flight %d", s.Limit, p.InFlight())
	if s.Charged > 0 {
		fmt.Fprintf(&b, " and %d charged", s.Charged)
	}
	fmt.Fprintf(&b, ": %s\n", s.Reason)
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
