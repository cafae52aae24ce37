package limit

import (
	"fmt"
	"time"
)

// adaptive is what the adaptive law knows.
type adaptive struct {
	base int // the limit the law stands by; outside the bounds if they were narrowed

	settling int    // slots to come back until those in flight started under the limit in force
	now      window // since then
	ref      window // at base while demand was held back; empty if unknown
	past     window // at base, of late

	trying trial
	step   float64   // factor of the trial, or of the next one
	down   course    // trials of less
	up     course    // trials of more
	easing time.Time // no trial for overload's sake before

	successes, overloads int // in a row
	back                 int // a limit that was known to do, and that successes lead back to; 0 if there is none
}

// trial is a limit in force on trial, to be compared with ref at base.
type trial struct {
	on, up bool
	began  time.Time
	look   float64 // answers at which to look again
}

// course is when to try in one direction.
type course struct {
	next     time.Time     // not before
	patience time.Duration // a rest after a failure lasts so many times the trial
}

const (
	// worth is the least share of more concurrency that must come back as throughput. At one third, one more call at the back-end may cost
	// the others two thirds of its own time: room for uneven demand, and no standing queue.
	worth = 1.0 / 3

	// The factors of trials. One generation of calls at twice the limit harms no back-end for long, and doubling gets anywhere in a few;
	// a quarter more is about the least that can be told from noise within a few hundred answers.
	smallStep, bigStep = 1.25, 2.0

	// Answers: the fewest that allow a conclusion, a first impression where the limit may be far off, the usual one, and where a question
	// is dropped that is still open.
	fewest, firstLook, usualLook, lastLook = 10, 20, 50, 500

	// Rests, in trials. They double from the first to the longest as trials go on to fail. A trial of a fifth less costs a fifth of the
	// throughput at most, so one time in 33 costs well under 1 %; a trial of more costs only some latency.
	firstRest, longestRest = 4, 32

	// mostRest is the longest rest in time: a trial that demand left for hours must not put the next one off for days.
	mostRest = time.Minute

	evidence  = 3   // overloads in a row that mean something at any traffic
	suffering = 0.3 // share of overloads at which less is tried at once
	binding   = 0.8 // share of the slots taken on average from which on the limit is what holds demand back
)

// begin starts without knowledge.
func (a *adaptive) begin(base int) {
	*a = adaptive{base: base}
	a.forget(time.Time{})
}

// forget ends a trial and drops what was compared: the next trials come soon and in big steps.
func (a *adaptive) forget(now time.Time) {
	a.trying, a.ref, a.past, a.step = trial{}, window{}, window{}, bigStep
	a.up, a.down = course{now, firstRest}, course{now, firstRest}
}

// settle waits until n slots have come back, then looks afresh.
func (a *adaptive) settle(n int) {
	a.settling = n
	a.successes, a.overloads = 0, 0
	a.now = window{}
}

// settled takes note of a slot that came back with inFlight left, and reports whether what it tells was told under the limit in force.
func (a *adaptive) settled(inFlight, limit int) bool {
	if a.settling == 0 {
		return true
	}
	if a.settling > 1 || inFlight > limit {
		a.settling = max(a.settling-1, 1)
		return false
	}
	a.settle(0)
	a.now.peak = inFlight
	return false
}

// hear takes in what a call told.
func (a *adaptive) hear(r Result, took time.Duration) {
	switch r {
	case Success:
		a.now.good++
		a.now.sample(took)
		a.successes, a.overloads = a.successes+1, 0
	case Overload:
		a.now.over++
		a.now.sample(took)
		a.successes, a.overloads = 0, a.overloads+1
	}
}

// learn takes in what a call told and draws the conclusions.
func (l *Limiter) learn(r Result, took time.Duration) {
	a := &l.law
	if !a.settled(l.inFlight, l.limit) {
		return
	}
	a.hear(r, took)
	switch {
	case a.overloads >= max(evidence, a.now.peak):
		l.cut()
	case l.s.bound(a.back) > a.base:
		l.recover()
	case a.trying.on:
		l.judge()
	default:
		l.watch()
	}
}

// cut reacts to hard evidence: as many overloads in a row as calls were in flight. It halves the limit; one far above what was in flight
// protects nobody, so it falls to twice that at once.
func (l *Limiter) cut() {
	a := &l.law
	reason := fmt.Sprintf("cut: %d overloads in a row, %d in flight at most", a.overloads, a.now.peak)
	l.retreat(min(l.limit/2, 2*a.now.peak), reason)
}

// retreat lowers the limit and remembers where to come back to: after such a fall it is not searched for but doubled up to, so that a
// back-end that is well again gets its load in a ramp of a few round trips.
func (l *Limiter) retreat(to int, reason string) {
	a := &l.law
	a.back = max(a.back, a.base)
	a.forget(l.at)
	l.stand(to, reason)
}

// recover doubles the limit after a whole round of calls has succeeded, until it is back.
func (l *Limiter) recover() {
	a := &l.law
	if a.successes < max(evidence, l.limit) {
		return
	}
	back := l.s.bound(a.back)
	reason := fmt.Sprintf("recover: %d successes in a row, on the way back to %d", a.successes, back)
	l.stand(min(l.limit*2, back), reason)
	if a.base == a.back {
		a.back = 0
	}
}

// stand makes to, taken into the bounds, the limit that the law stands by. What was seen at another one is of no use there.
func (l *Limiter) stand(to int, reason string) {
	a := &l.law
	if to = l.s.bound(to); to != a.base {
		a.base, a.ref, a.past = to, window{}, window{}
	}
	l.reason = reason
	l.move(to, reason)
}
