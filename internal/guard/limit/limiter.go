package limit

import (
	"slices"
	"time"
)

// Result is what a call told about the back-end.
type Result uint8

// The results. The zero value tells nothing.
const (
	Ignored  Result = iota // no sample
	Success                // took so long and went well
	Overload               // took at least so long, or was pushed back
	Failure                // no latency sample, and no health either
)

// Limiter counts calls in flight and moves the limit. Not safe for concurrent use: its owner's lock guards it.
type Limiter struct {
	s        Settings
	inFlight int
	limit    int       // in force, within the bounds
	at       time.Time // the latest instant heard of
	law      adaptive

	reason  string
	changed time.Time
	changes []Change
}

// Status is the state at one moment.
type Status struct {
	Limit, Min, Max int
	Law             Law
	Reason          string // why it is what it is: a word and the figures behind it
	Changed         time.Time
}

// Change is one move of the limit.
type Change struct {
	Time     time.Time
	From, To int
	Reason   string
}

// kept is how many moves are kept for Changes: a second of the busiest search.
const kept = 32

// New returns a limiter. s must be valid.
func New(s Settings, now time.Time) *Limiter {
	l := &Limiter{s: s, at: now, changed: now}
	l.law.begin(s.bound(s.Initial))
	if s.Max == 0 {
		l.law.begin(s.Initial) // where to go once calls may pass
	}
	if l.hold(); l.adapts() {
		l.reason = "initial: nothing is known of the back-end"
	}
	l.changes = nil
	return l
}

// Configure swaps the settings; in-flight count and what was learned stay. A limit outside new bounds moves to the nearer one; what had
// been learned beyond it is come back to, with successes, once the bounds allow. Initial matters to the fixed law only: the adaptive one
// is past its beginning. s must be valid.
func (l *Limiter) Configure(s Settings, now time.Time) {
	l.pass(now)
	adapted := l.adapts()
	l.s = s
	switch {
	case !l.adapts():
		l.hold()
	case !adapted || s.bound(l.limit) != l.limit:
		l.retreat(min(l.limit, l.law.base), "configured: into the bounds, from there as successes allow")
	}
}

// Acquire takes a slot if one is free. A refusal is demand that the limit held back: ask for a call that has just come, or when InFlight
// is below Limit.
func (l *Limiter) Acquire(now time.Time) bool {
	l.pass(now)
	if l.inFlight >= l.limit {
		l.law.now.held++
		return false
	}
	l.inFlight++
	l.law.now.peak = max(l.law.now.peak, l.inFlight)
	return true
}

// Release gives a slot back with what the call told and how long it took. Without a slot taken it does nothing.
func (l *Limiter) Release(r Result, took time.Duration, now time.Time) {
	if l.inFlight == 0 {
		return
	}
	l.pass(now)
	l.inFlight--
	if l.adapts() {
		l.learn(r, took)
	}
}

// Restart begins again from the lowest limit: after the breaker closed, the load ramps. It doubles with each round of successes until it
// is where it was.
func (l *Limiter) Restart(now time.Time) {
	l.pass(now)
	if l.adapts() {
		l.retreat(l.s.Min, "restart: from the lowest limit, doubling with each round of successes")
	}
}

// Limit returns the limit now.
func (l *Limiter) Limit() int { return l.limit }

// InFlight returns the slots taken; more than Limit after the limit fell, until enough came back.
func (l *Limiter) InFlight() int { return l.inFlight }

// Status returns the state now.
func (l *Limiter) Status() Status {
	return Status{Limit: l.limit, Min: l.s.Min, Max: l.s.Max, Law: l.s.Law, Reason: l.reason, Changed: l.changed}
}

// Changes returns the moves since the last call, oldest first, at most the last few.
func (l *Limiter) Changes() []Change {
	out := l.changes
	l.changes = nil
	return out
}

// hold sets the limit that the settings name.
func (l *Limiter) hold() {
	l.reason = "fixed: by the settings"
	l.move(l.s.bound(l.s.Initial), l.reason)
}

// adapts reports whether the limit moves by itself.
func (l *Limiter) adapts() bool { return l.s.Law == Adaptive && l.s.Max > l.s.Min }

// pass lets the time go by until now. A clock that goes backwards stands still.
func (l *Limiter) pass(now time.Time) {
	if d := now.Sub(l.at); d > 0 {
		l.law.now.pass(d, l.inFlight, l.limit)
		l.at = now
	}
}

// move is the only place where the limit changes.
func (l *Limiter) move(to int, reason string) {
	l.law.settle(max(l.inFlight, min(to, 2*l.inFlight)))
	if to == l.limit {
		return
	}
	if len(l.changes) == kept {
		l.changes = slices.Delete(l.changes, 0, 1)
	}
	l.changes = append(l.changes, Change{Time: l.at, From: l.limit, To: to, Reason: reason})
	l.limit, l.reason, l.changed = to, reason, l.at
}
