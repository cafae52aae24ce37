package limit

import "math"

// window is what is seen at base while nothing is asked: two halves, to be compared with each other.
type window struct {
	halves [2]cohort
	half   int // which is filled now
}

const (
	// near and far tell the calls of a window that were sent at the limit, as far as chance allows, from those sent as far below it as a
	// dip; those between say little.
	near, far = 0.85, 0.72

	// some is how many answers at each level a half must have to be compared.
	some = fewest / 2
)

func (w *window) filling() *cohort { return &w.halves[w.half] }
func (w *window) other() *cohort   { return &w.halves[1-w.half] }

// watch looks at the back-end at base, and asks a question when it is time.
func (a *adaptive) watch(l *Limiter) {
	c := a.calm.filling()
	if c.id == 0 {
		a.gather(l)
		return
	}
	if !c.complete(a.share()) {
		return
	}
	c.held, l.held = l.held > 0, 0
	held := c.held && a.rest <= 0
	at := c.total(l.seconds())
	switch {
	case held && a.seeking && at.n >= some:
		a.seek(l, c.low, at)
	case held && at.n >= fewest && c.low.n < at.n/4: // else the two levels are there to compare without a question
		a.inquire(l, at)
	default:
		a.turn(l)
	}
}

// gather begins a cohort at base: a round of calls at least, not to take a burst for the rule.
func (a *adaptive) gather(l *Limiter) {
	want := max(2*fewest, 2*l.limit, a.need(fine))
	if a.seeking {
		want = max(fewest, l.limit)
	}
	*a.calm.filling() = l.cohort(want)
}

// sort puts an answer to a call of a cohort to those of its level; all calls of a question are of one.
func (a *adaptive) sort(c *cohort, s answer) {
	switch {
	case !s.result.tells():
	case a.ask.kind != nothing || a.fills(s.level, s.cost):
		c.main.add(s)
	case float64(s.level) <= far*a.line():
		c.low.add(s)
	}
}

// fills tells whether a call of a cost at a level is sent at the limit: near it, or with no room for another one like it.
func (a *adaptive) fills(level, cost int) bool {
	line := a.line()
	return float64(level) >= near*line || float64(level+cost) > line
}

// turn goes on to the other half of the window. Two halves that agree are as good as a question, and cost nothing.
func (a *adaptive) turn(l *Limiter) {
	one, two := *a.calm.other(), *a.calm.filling()
	a.calm.half = 1 - a.calm.half
	a.gather(l)
	if min(one.low.n, two.low.n, one.main.n, two.main.n) < some {
		return
	}
	v, w := compare(one.low, one.main), compare(two.low, two.main)
	if math.Abs(v.slower-w.slower) > surely*math.Hypot(v.err, w.err) {
		return // the back-end changed meanwhile
	}
	one.low.merge(two.low)
	one.main.merge(two.main)
	a.calm = window{}
	v = compare(one.low, one.main)
	if v.useful*headroom > a.base && !one.held && !two.held {
		return // what nobody asks for is not tried
	}
	a.conclude(l, v, false)
}
