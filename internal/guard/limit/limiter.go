package limit

import (
	"cmp"
	"time"
)

// Result is what a call told about the back-end.
type Result uint8

// The results. The zero value tells nothing.
const (
	Ignored   Result = iota // no sample
	Success                 // took so long and went well
	Overload                // was pushed back, or took at least so long
	Failure                 // no latency sample, and no health either
	TimedOut                // an Overload on which the back-end may still be working: its slot is charged for a while
	Abandoned               // no sample, as Ignored, but its caller left it to the back-end: its slot is charged for what is typical
)

// Slot is the place of one admitted call. The zero Slot is none.
type Slot struct {
	cost  int32 // units it takes
	level int32 // units taken when it was, its own included
	mark  uint32
}

// Limiter counts the units of cost that calls in flight take, and moves the limit by a Law. Not safe for concurrent use: its owner's lock
// guards it.
type Limiter struct {
	s        Settings
	law      law
	inFlight int
	charged  int      // of timed-out calls that may still be worked on
	charges  []charge // the first to end first
	limit    int      // in force, within the bounds
	began    time.Time
	at       time.Time // the latest instant heard of
	held     int       // calls that found no slot since the law last looked
	cohorts  uint32    // begun so far
	typical  float64   // time of a success, in seconds, the last ones counting most

	reason  string
	changed time.Time
	changes []Change
}

// New returns a limiter. s must be valid.
func New(s Settings, now time.Time) *Limiter {
	l := &Limiter{s: s, began: now, at: now, changed: now}
	first := s.bound(s.Initial)
	if s.Max == 0 {
		first = s.Initial // where to go once calls may pass
	}
	l.law = s.newLaw(first)
	if l.hold(); l.adapts() {
		l.reason = "initial: nothing is known of the back-end"
	}
	l.changes = nil
	return l
}

// Configure swaps the settings; in-flight count and what was learned stay, unless the law is another one. A limit outside new bounds moves
// to the nearer one; what had been learned beyond it is come back to, with successes, once the bounds allow. Initial matters to the fixed
// law only: the others are past their beginning. s must be valid.
func (l *Limiter) Configure(s Settings, now time.Time) {
	l.pass(now)
	adapted, same := l.adapts(), l.s.Law == s.Law
	l.s = s
	if !same {
		l.law = s.newLaw(max(l.limit, 1))
	}
	switch {
	case !l.adapts():
		l.hold()
	case !adapted || s.bound(l.limit) != l.limit:
		l.law.bounded(l)
	}
}

// Acquire takes a slot of so many units if they are free; a call that needs more than the limit passes alone.
func (l *Limiter) Acquire(cost int, now time.Time) (Slot, bool) {
	l.pass(now)
	if !l.free(cost) {
		return Slot{}, false
	}
	l.inFlight += cost
	return l.slot(cost), true
}

// Force takes a slot whether it is free or not: for work that cannot be refused any more.
func (l *Limiter) Force(cost int, now time.Time) Slot {
	l.pass(now)
	l.inFlight += cost
	return Slot{cost: int32(cost), level: int32(l.inFlight + l.charged)}
}

func (l *Limiter) slot(cost int) Slot {
	level := l.inFlight + l.charged
	return Slot{cost: int32(cost), level: int32(level), mark: l.law.sends(l, level, cost)}
}

// seconds is the time since the limiter began.
func (l *Limiter) seconds() float64 { return float64(l.at.Sub(l.began)) * 1e-9 }

// Free tells whether Acquire would find a slot.
func (l *Limiter) Free(cost int, now time.Time) bool {
	l.pass(now)
	return l.free(cost)
}

func (l *Limiter) free(cost int) bool {
	taken := l.inFlight + l.charged
	return taken+cost <= l.limit || taken == 0 && l.limit > 0
}

// Held tells that a call which has just come found no slot: demand that the limit holds back.
func (l *Limiter) Held() { l.held++ }

// Release gives a slot back with what the call told and how long it took; usual is how long calls of its kind take beside others, 1 or 0
// if that is not known. A slot that is none does nothing.
func (l *Limiter) Release(s Slot, r Result, took time.Duration, usual float64, now time.Time) {
	if s.cost == 0 {
		return
	}
	l.pass(now)
	l.inFlight -= int(s.cost)
	switch r {
	case TimedOut:
		l.charge(int(s.cost), min(took, chargeTimes*l.typicalTime()))
		r = Overload
	case Abandoned:
		l.charge(int(s.cost), l.typicalTime()-took)
		r = Ignored
	case Success:
		l.learnTypical(took)
	}
	if l.adapts() {
		l.law.learn(l, answer{
			result: r, took: float64(took) * 1e-9, usual: cmp.Or(usual, 1), cost: int(s.cost), level: int(s.level), mark: s.mark,
		})
	}
}

// Restart begins again from the lowest limit: after a back-end was given up, the load ramps. It doubles with each round of successes until
// it is where it was.
func (l *Limiter) Restart(now time.Time) {
	l.pass(now)
	if l.adapts() {
		l.law.restart(l)
	}
}

// Resume has a limiter that was just made begin at a limit that was known before, taken into the bounds: Known of its predecessor, from
// before the guard was started again. A limit below 1, or the fixed law, changes nothing.
func (l *Limiter) Resume(limit int, now time.Time) {
	l.pass(now)
	if limit >= 1 {
		l.law.resume(l, limit)
	}
}

// Known returns the limit that was learned, in units: what to Resume from. It may lie outside the bounds, and above Limit after hard
// evidence. 0 is nothing: the fixed law learns none.
func (l *Limiter) Known() int { return l.law.knows() }

// Limit returns the limit now, in units.
func (l *Limiter) Limit() int { return l.limit }

// InFlight returns the units that calls in flight take; more than Limit after the limit fell, until enough came back.
func (l *Limiter) InFlight() int { return l.inFlight }

// hold sets the limit that the settings name.
func (l *Limiter) hold() { l.move(l.s.bound(l.s.Initial), "fixed: by the settings") }

// adapts reports whether the limit moves by itself.
func (l *Limiter) adapts() bool { return l.s.Law != Fixed && l.s.Max > l.s.Min }

// pass lets the time go by until now. A clock that goes backwards stands still.
func (l *Limiter) pass(now time.Time) {
	if !now.After(l.at) {
		return
	}
	l.at = now
	if l.charged > 0 {
		l.discharge()
	}
}
