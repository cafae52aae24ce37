package limit

import (
	"fmt"
	"math"
)

// adaptive is what the adaptive law knows.
type adaptive struct {
	base float64 // the limit it stands by; its fraction is kept, so that small steps add up
	back float64 // a limit that was known to do, and that successes lead back to; 0 if there is none
	way          // back to it
	lost int     // ways back that overloads ended, since a question was answered
	evidence

	seeking bool    // nothing says yet where concurrency stops to pay
	flats   int     // questions in a row that found that more may pay
	spread  float64 // of latencies, as last seen; 0 is not known
	rest    float64 // answers to come before the next question
	effort  float64 // answers that the last question downwards took
	crowded bool    // that one found no calls at its level

	calm window
	ask  question
}

const (
	// headroom is how far the limit stands above the concurrency that the back-end can use. One call in five then waits at the back-end, so
	// that no worker waits for the guard: that covers the way to the guard and back, and estimates that are a tenth too low. The price is a
	// quarter more latency while the limit binds.
	headroom = 1.25

	// reach is how far above what was in flight of late, as a multiple, the limit may grow: what was never tried is not known to do.
	reach = 2
)

// learn takes in an answer and draws the conclusions.
func (a *adaptive) learn(l *Limiter, s answer) {
	a.rest--
	a.hear(s, l)
	a.returns(l, s)
	switch {
	case !s.result.tells():
	case a.overloads >= max(evident, a.most()):
		a.cut(l)
	case a.back > a.base:
		a.recover(l, s)
	case a.ask.kind != nothing:
		a.pursue(l)
	default:
		a.watch(l)
	}
}

// cut reacts to hard evidence: as many overloads in a row as calls were in flight. It halves the limit; one far above what was in flight
// protects nobody, so it falls to twice that at once.
func (a *adaptive) cut(l *Limiter) {
	reason := fmt.Sprintf("cut: %d overloads in a row, %d in flight at most", a.overloads, a.most())
	to := min(a.base/2, float64(reach*a.most()))
	if a.climbed {
		a.lost++
	}
	if a.lost >= often { // What it was on the way back to does not do any more; once may be what is left of the trouble.
		a.back, a.base, a.seeking, a.lost = to, to, true, 0
	}
	a.retreat(l, to, reason)
	a.peak, a.before = 0, 0
}

// retreat lowers the limit and remembers where to come back to: after such a fall it is not searched for but doubled up to, so that a
// back-end that is well again gets its load in a ramp of a few round trips.
func (a *adaptive) retreat(l *Limiter, to float64, reason string) {
	a.back, a.way = max(a.back, a.base), way{}
	a.stand(l, to, reason)
}

// way is the way back to a limit that was known to do.
type way struct {
	climbed     bool  // it has doubled since it fell, and no question was answered since
	below, here tally // the round of calls before the last doubling, and the one since
}

// recover doubles the limit after a whole round of calls has succeeded, until it is back, or calls begin to wait for each other: the
// back-end may have become another one meanwhile.
func (a *adaptive) recover(l *Limiter, s answer) {
	if s.result == Success && a.fills(s.level, s.cost) {
		a.here.add(s)
	}
	if a.successes < max(evident, l.limit) {
		return
	}
	if v := compare(a.below, a.here); min(a.below.n, a.here.n) >= few && v.chokes() {
		a.back, a.seeking, a.rest, a.way = 0, false, fewest, way{}
		a.stand(l, min(max(v.useful*headroom, a.base/2), a.base), "stop: on the way back "+v.String())
		return
	}
	back := min(a.back, float64(l.s.Max))
	a.way = way{climbed: true, below: a.here}
	a.stand(l, min(a.base*2, back), fmt.Sprintf("recover: %d successes in a row, on the way back to %.0f", a.successes, back))
	if a.base >= a.back {
		a.back, a.seeking, a.rest = 0, false, sparing*fewest // what still drains at the back-end makes calls quicker by itself
	}
}

// stand makes to, taken into the bounds, the limit that the law stands by. What was seen at another one is of no use there.
func (a *adaptive) stand(l *Limiter, to float64, reason string) {
	a.base = min(max(to, float64(l.s.Min)), float64(l.s.Max))
	a.successes, a.overloads = 0, 0
	a.ask, a.calm = question{}, window{}
	a.put(l, whole(a.base), reason)
}

// put makes to the limit in force; demand that it holds back is counted anew.
func (a *adaptive) put(l *Limiter, to int, reason string) {
	l.held = 0
	l.move(l.s.bound(to), reason)
}

// whole is a limit in whole units: rounded up unless next to nothing is missing, for one unit more is a little latency, one less a worker
// that idles.
func whole(x float64) int { return max(1, int(math.Ceil(x-0.25))) }

// line is base as it is in force, to compare levels with.
func (a *adaptive) line() float64 { return float64(whole(a.base)) }

// restart begins again from the lowest limit. A limit that is there already, on its way up, goes on from where it is: first an endpoint
// comes back, and then the breaker closes.
func (a *adaptive) restart(l *Limiter) {
	if least := float64(l.s.Min); a.back <= a.base || a.base > 2*least {
		a.retreat(l, least, "restart: from the lowest limit, doubling with each round of successes")
	}
}

// resume begins at what was known before. It seeks on from there: to look whether more would do costs next to nothing where it does not,
// and to stand by a limit that has become too low costs seconds.
func (a *adaptive) resume(l *Limiter, limit int) {
	*a = adaptive{base: float64(limit), seeking: true}
	if l.adapts() {
		a.stand(l, a.base, resumed(limit))
	}
}

// bounded moves into the bounds.
func (a *adaptive) bounded(l *Limiter) {
	a.retreat(l, min(float64(l.limit), a.base), "configured: into the bounds, from there as successes allow")
}

// knows is where successes lead back to, or where it stands.
func (a *adaptive) knows() int { return whole(max(a.base, a.back)) }
