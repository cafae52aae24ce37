package limit

import "math"

// question is a limit in force for a while, to be compared with base.
type question struct {
	kind   kind
	before tally  // at base
	during cohort // at the level in question
	after  cohort // at base again
	asked  int    // answers since it was put
	told   int    // calls sent that it can use
}

type kind uint8

const (
	nothing kind = iota
	more         // whether a higher limit buys throughput
	less         // whether a lower one costs any
	again        // whether base is as it was before that
)

const (
	// dip is the limit of a question downwards, as a share of the limit. With the headroom it is just below the concurrency that the
	// back-end can use: an eighth of the throughput is lost while it lasts, and what is seen there is the work itself, without waiting.
	dip = 0.7

	// growth is how far a question goes up while the limit is sought, as a multiple: from 8 to 50 takes four of them, and the last, which
	// does not pay, is no more above what does than that.
	growth = 1.6

	// apart is how far below another one a level must be, as a share, to be compared with it. Where a call takes many units it may not be.
	apart = 0.9

	// fading is how many times the limit of answers may pass without a call that a question can use, before it ends for want of demand.
	fading = 4

	// sparing is how many times the answers of a question pass before the next one, when it has changed next to nothing. At a loss of an
	// eighth during a question it costs less than half a per cent.
	sparing = 30

	// drift is by how much (as a logarithm), beyond the error, latency at base may differ before and after a question without making it
	// void.
	drift = 0.1
)

// sends takes note of a call that is sent at a level, and returns the mark of the cohort that it belongs to.
func (a *adaptive) sends(l *Limiter, level, cost int) uint32 {
	c := a.filling()
	if !c.open() || !a.fits(level, cost) {
		return 0
	}
	a.ask.told++
	id := c.send(l.seconds())
	if a.ask.kind == less && !c.open() {
		a.ask.kind = again
		a.put(l, whole(a.base), "back: to compare with before")
	}
	return id
}

// filling is the cohort that calls are gathered in.
func (a *adaptive) filling() *cohort {
	switch a.ask.kind {
	case more, less:
		return &a.ask.during
	case again:
		return &a.ask.after
	}
	return a.calm.filling()
}

// fits tells whether a call of a cost at a level is what is asked about.
func (a *adaptive) fits(level, cost int) bool {
	switch a.ask.kind {
	case more:
		return float64(level) > a.line()
	case less:
		return float64(level) <= far*a.line()+0.5
	case again:
		return a.fills(level, cost)
	}
	return true
}

// returns takes in an answer, which may be to a call of a cohort.
func (a *adaptive) returns(l *Limiter, s answer) {
	for _, c := range [...]*cohort{&a.calm.halves[0], &a.calm.halves[1], &a.ask.during, &a.ask.after} {
		if c.back(s.mark) {
			c.left -= l.seconds() - s.took
			a.sort(c, s)
		}
	}
}

// seek tries more, unless what was seen on the way up to the limit already says no.
func (a *adaptive) seek(l *Limiter, low, at tally) {
	if v := compare(low, at); min(low.n, at.n) >= few && v.chokes() {
		a.seeking, a.rest = false, 0
		a.stand(l, max(v.useful*headroom, a.base/plunge), "shrink: "+v.String())
		return
	}
	a.pose(l, more, min(max(whole(growth*a.base), whole(at.next())), reach*a.most()), at)
}

// inquire asks whether less would do; whether one call more would, where less is nothing, or as much; and whether a little more would,
// where there are no calls so far below.
func (a *adaptive) inquire(l *Limiter, at tally) {
	if a.crowded {
		a.crowded = false
		a.pose(l, more, max(l.limit+1, whole(headroom*a.base)), at)
		return
	}
	to := int(math.Round(dip * a.base))
	if to >= 1 && float64(to) <= min(far*float64(l.limit)+0.5, apart*at.mean()) && to < l.limit {
		a.pose(l, less, to, at)
		return
	}
	a.pose(l, more, max(l.limit+1, whole(at.next())), at)
}

// why tells why a question was put.
var why = [...]string{more: "try: more, as demand is held back", less: "try: less, to see what calls take without waiting"}

// pose puts a question.
func (a *adaptive) pose(l *Limiter, k kind, to int, before tally) {
	if to = l.s.bound(to); to == l.limit {
		a.rest = sparing * fewest
		a.turn(l)
		return
	}
	a.spread = before.spread()
	q := question{kind: k, before: before}
	if k == more {
		q.during = l.cohort(a.need(rough))
	} else {
		q.during = l.cohort(a.need(fine))
		q.after = l.cohort(max(fewest, a.need(fine)/2))
	}
	a.ask, a.calm = q, window{}
	a.put(l, to, why[k])
}

// pursue takes in an answer while a question is open.
func (a *adaptive) pursue(l *Limiter) {
	q := &a.ask
	q.asked++
	switch {
	case q.kind == more && a.answered(l):
		a.judgeMore(l)
	case q.kind == again && q.during.complete(1) && q.after.complete(1):
		a.judgeLess(l)
	case q.asked-q.told > fading*max(fewest, l.limit) && (q.during.open() || q.after.open()):
		a.lapse(l)
	}
}

// answered tells whether a question upwards has its answer: no, perhaps, before all are back.
func (a *adaptive) answered(l *Limiter) bool {
	during := &a.ask.during
	return during.complete(a.share()) || during.main.n >= some && compare(a.ask.before, during.total(l.seconds())).chokes()
}

// lapse ends a question for want of calls. What more there was to be had is kept as far as it was used, if calls were none the slower.
// Where demand is held back it is not demand that is missing: work that can not be refused, as the messages of streams are, leaves no calls
// so far below the limit.
func (a *adaptive) lapse(l *Limiter) {
	if a.ask.kind == more {
		a.lapseMore(l)
		return
	}
	a.crowded = l.held > 0
	a.stand(l, a.base, "back: no calls at the level in question")
	a.rest = sparing * fewest
}

func (a *adaptive) lapseMore(l *Limiter) {
	to, reason := a.base, "back: demand receded"
	during := a.ask.during.main
	if v := compare(a.ask.before, during); during.n >= some && v.elasticity >= flat {
		to, reason = min(float64(l.limit), max(a.base, float64(a.most()))), "grow: all demand is served; "+v.String()
	}
	a.stand(l, to, reason)
	a.rest = fewest
}
