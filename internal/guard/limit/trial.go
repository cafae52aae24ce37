package limit

import (
	"fmt"
	"math"
	"time"
)

// watch looks at the back-end at the limit the law stands by, and begins a trial when it is time.
func (l *Limiter) watch() {
	a := &l.law
	n := a.now.answers()
	if n < a.glance() && a.now.span < time.Second {
		return
	}
	w := a.now
	a.now = window{peak: l.inFlight}
	if w.differs(a.past) {
		a.forget(l.at)
		a.settle(l.inFlight) // w is of both kinds
		return
	}
	a.past.learn(w)
	switch {
	case n >= fewest && w.overloads() > suffering && !l.at.Before(a.easing):
		l.ease(w)
		return
	case !w.binds(l.limit):
		a.ref = window{} // nothing can be learned from a limit that nobody feels
		return
	}
	a.ref.learn(w)
	if a.ref.answers() >= a.glance() {
		l.try()
	}
}

// glance is how many answers a look takes: few while the limit may be far off.
func (a *adaptive) glance() float64 {
	if a.step == bigStep {
		return firstLook
	}
	return usualLook
}

// ease tries less at once because too many answers are overloads.
func (l *Limiter) ease(w window) {
	a := &l.law
	a.ref, a.step = w, 1/0.7
	to := l.s.bound(int(float64(min(l.limit, w.peak)) / a.step))
	if to < l.limit {
		l.start(false, to, fmt.Sprintf("ease: %.0f %% of %.0f answers were overloads", 100*w.overloads(), w.answers()))
	}
}

// try begins a trial if it is time for one.
func (l *Limiter) try() {
	a := &l.law
	if to := l.more(); to > a.base && !l.at.Before(a.up.next) {
		l.start(true, to, "try: more, as demand is held back")
	} else if to := l.less(); to < a.base && !l.at.Before(a.down.next) && a.ref.answers() >= 2*usualLook {
		l.start(false, to, "try: less, as demand is far above")
	}
}

// more is the limit that a trial of more would have; base if there can be none. Never more than twice what was in flight of late.
func (l *Limiter) more() int {
	a := &l.law
	to := max(a.base+1, int(math.Round(float64(a.base)*a.step)))
	return max(a.base, l.s.bound(min(to, 2*a.ref.peak)))
}

// less is the limit that a trial of less would have; base if there can be none. Only while far more is asked for than let through: else
// less could only do harm.
func (l *Limiter) less() int {
	a := &l.law
	if !a.ref.overrun() {
		return a.base
	}
	to := min(a.base-1, int(math.Round(float64(a.base)/a.step)))
	return min(a.base, l.s.bound(to))
}

// next is more or less.
func (l *Limiter) next(up bool) int {
	if up {
		return l.more()
	}
	return l.less()
}

// start begins a trial.
func (l *Limiter) start(up bool, to int, reason string) {
	l.law.trying = trial{on: true, up: up, began: l.at, look: fewest}
	l.move(to, reason)
}

// judge compares the trial with what was before, as soon as the figures can carry it: at least two rounds of calls.
func (l *Limiter) judge() {
	a := &l.law
	n := a.now.answers()
	late := a.now.span > max(2*time.Second, time.Duration(20*a.ref.latency()*float64(time.Second)))
	if n < max(a.trying.look, float64(2*a.now.peak)) && !late {
		return
	}
	a.trying.look = n + 5
	v := compare(a.ref, a.now, math.Log(float64(l.limit)/float64(a.base)))
	closing := late || n >= min(lastLook, 4*a.ref.answers()) // beyond that the error is all in ref
	switch {
	case v.sure, closing && v.likely, closing && v.worth && a.trying.up: // in doubt, more
		l.conclude(v)
	case a.trying.up && a.now.inFlight() < binding*float64(a.base):
		l.goBack("back: demand receded")
	case !closing:
	case a.trying.up && a.now.serves() && v.concurrency >= 1 && !v.slower:
		l.suffice()
	default:
		l.fail(v)
	}
}

// conclude acts upon a verdict.
func (l *Limiter) conclude(v verdict) {
	if v.worth == l.law.trying.up {
		l.adopt(v)
	} else {
		l.fail(v)
	}
}

// adopt stands by the trial and goes on in its direction, faster.
func (l *Limiter) adopt(v verdict) {
	a := &l.law
	up, word := a.trying.up, "shrink"
	if up {
		word = "grow"
	}
	l.reason = word + ": " + v.String()
	seen, step := a.now, min(a.step*a.step, bigStep)
	a.forget(l.at)
	a.base, a.back, a.ref, a.step = l.limit, 0, seen, step
	a.now = window{peak: l.inFlight}
	if !up && v.throughput > 1.1 {
		a.ref = window{} // it choked on more, or became quicker by itself; look again before going further down
		return
	}
	if to := l.next(up); to != a.base && seen.binds(l.limit) {
		l.start(up, to, l.reason)
	}
}

// suffice stands by as much of a trial of more as was used: all demand was served, and answers took no longer.
func (l *Limiter) suffice() {
	a := &l.law
	to := max(a.base, min(l.limit, a.now.peak))
	a.forget(l.at)
	l.stand(to, fmt.Sprintf("grow: all demand is served with at most %d in flight", to))
}

// fail goes on with a smaller step if a part of the larger one paid; else goes back and rests.
func (l *Limiter) fail(v verdict) {
	a := &l.law
	up, reason := a.trying.up, "back: "+v.String()
	if a.step > smallStep {
		a.step = smallStep
		if to := l.next(up); v.partly(up) && to != l.limit && to != a.base {
			l.start(up, to, reason)
			return
		}
	}
	l.goBack(reason)
}

// goBack ends a trial, returns to where it began and rests.
func (l *Limiter) goBack(reason string) {
	a := &l.law
	took := l.at.Sub(a.trying.began)
	if a.trying.up {
		a.up.rest(l.at, took)
	} else {
		a.down.rest(l.at, took)
		a.easing = a.down.next
	}
	a.trying = trial{}
	l.stand(a.base, reason)
}

// rest waits in proportion to what the trial took, longer each time.
func (c *course) rest(now time.Time, took time.Duration) {
	c.next = now.Add(min(c.patience*took, mostRest))
	c.patience = min(2*c.patience, longestRest)
}
