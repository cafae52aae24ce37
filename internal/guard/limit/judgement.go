package limit

import "math"

const (
	// trust is the spread of the estimates that the limit stands by, as a share. A new one counts the more the more precise it is beside
	// it.
	trust = 0.12

	// doubt is the room that is left where nobody asked. What varies by itself varies for a reason: many calls are in flight just when they
	// take long, and so a window makes the limit look lower than it is by a quarter or so.
	doubt = 1.33

	// idle is the elasticity below which what lies between the two levels is of no use at all: the limit is too high by an unknown amount.
	// Then the step goes half way to the lower level, and is not the last: the next question comes sooner, by the factor hurry. With the
	// headroom elasticity is 0.37 where the limit is right, and rarely so low by chance.
	idle, hurry = 0.075, 5

	// still is the step (as a logarithm) that is none: less than the chance in the figures.
	still = 0.07

	// least is how far down, and farthest how far up, one judgement moves the limit, so that none is fatal; plunge divides it while it is
	// sought, and may be anywhere.
	least, farthest = 0.6, 1.5
	plunge          = 8

	// few is how many answers at a level are enough for that, as the next look corrects it.
	few = 3

	// often is how many questions in a row must find that more may pay before it is sought, and how many ways back must be lost before the
	// limit that they led to is given up.
	often = 2
)

// judgeMore draws the conclusion from a question upwards.
func (a *adaptive) judgeMore(l *Limiter) {
	q, during := a.ask, a.ask.during.total(l.seconds())
	a.way, a.lost = way{}, 0
	if during.n < some { // the back-end may be failing fast, which is neither fast nor slow
		a.stand(l, a.base, "back: too few answers to tell")
		a.rest = fewest
		return
	}
	v := compare(q.before, during)
	if v.elasticity >= flat {
		a.stand(l, float64(l.limit), "grow: "+v.String())
		if a.seeking {
			a.seek(l, tally{}, during)
		}
		a.seeking = true
		return
	}
	if a.rest = 0; !a.seeking {
		a.rest = sparing * float64(q.asked)
	}
	a.seeking = false
	a.stand(l, min(max(v.useful*headroom, least*a.base), float64(l.limit)), "back: "+v.String())
}

// judgeLess draws the conclusion from a question downwards, if the back-end is still what it was.
func (a *adaptive) judgeLess(l *Limiter) {
	q := &a.ask
	change := math.Abs(math.Log(q.after.main.latency() / q.before.latency()))
	if change > surely*math.Hypot(q.after.main.err(), q.before.err())+drift {
		a.stand(l, a.base, "back: the back-end changed meanwhile")
		return
	}
	high := q.before
	high.merge(q.after.main)
	a.effort = float64(q.asked)
	a.conclude(l, compare(q.during.main, high), true)
}

// conclude moves base towards the concurrency that is of use, and the headroom, as far as the figures can carry it. asked tells that they
// come from a question, not from a window.
func (a *adaptive) conclude(l *Limiter, v verdict, asked bool) {
	want := v.useful * headroom
	a.way, a.lost = way{}, 0
	switch {
	case !asked && want < a.base:
		want = min(want*doubt, a.base)
	case asked && v.elasticity < idle:
		want = min(want, math.Sqrt(want*v.low))
	}
	step := trust * trust / (trust*trust + v.err*v.err) * math.Log(want/a.base)
	a.rest = fewest
	word := "grow"
	to := a.base * math.Exp(min(max(step, math.Log(least)), math.Log(farthest)))
	switch {
	case math.Abs(step) < still && (!asked || v.elasticity < flat):
		word = "stay"
		a.rest = sparing * max(a.effort, fewest)
		if v.elasticity < idle {
			a.rest /= hurry
		}
	case to < a.base:
		word = "shrink"
	}
	if asked {
		a.reconsider(v)
	}
	a.stand(l, to, word+": "+v.String())
}

// reconsider begins to seek again when questions say that more may pay: one that is rather sure of it, or two in a row.
func (a *adaptive) reconsider(v verdict) {
	switch {
	case v.pays():
		a.flats = often
	case v.elasticity >= flat:
		a.flats++
	default:
		a.flats = 0
	}
	a.seeking = a.flats >= often
}
