package limit

import "math"

// tally is what answers to calls that were sent at about the same level told.
type tally struct {
	n, good     float64
	level, cost float64 // sums, in units
	took, usual float64 // sums: how long they took, in seconds, and usually take beside others
	tt, tu, uu  float64 // sums of products of these
}

// add takes in an answer.
func (t *tally) add(s answer) {
	t.n++
	if s.result == Success {
		t.good++
	}
	t.level += float64(s.level)
	t.cost += float64(s.cost)
	t.took += s.took
	t.usual += s.usual
	t.tt += s.took * s.took
	t.tu += s.took * s.usual
	t.uu += s.usual * s.usual
}

// merge takes in another tally of the same kind.
func (t *tally) merge(u tally) {
	t.n += u.n
	t.good += u.good
	t.level += u.level
	t.cost += u.cost
	t.took += u.took
	t.usual += u.usual
	t.tt += u.tt
	t.tu += u.tu
	t.uu += u.uu
}

// with returns the tally with n more calls that all together took so long, alike to the others in all else.
func (t tally) with(n, took float64) tally {
	more := (t.n + n) / t.n
	t.n += n
	t.good += n
	t.level *= more
	t.cost *= more
	t.took += took
	t.usual *= more
	t.tt += took * took / n
	t.tu *= more
	t.uu *= more
	return t
}

// latency is how long an answer took, in terms of what is usual for calls of its kind: a mixture that changes does not change it. Calls
// that came to nothing are paid for by those that succeeded.
func (t *tally) latency() float64 { return t.took / max(t.usual, 1e-12) * t.n / max(t.good, 0.5) }

// seconds is the plain mean of how long answers took.
func (t *tally) seconds() float64 { return t.took / max(t.n, 1) }

// mean is the mean level.
func (t *tally) mean() float64 { return t.level / max(t.n, 1) }

// next is the level at which one more of these calls is in flight.
func (t *tally) next() float64 { return (t.level + t.cost) / max(t.n, 1) }

// spread is the coefficient of variation of latency. It is held to where it says something: a third at least, because a line at the
// back-end makes times look more even than work is, and more for a few answers, which look evener than many.
func (t *tally) spread() float64 {
	r := t.took / max(t.usual, 1e-12)
	rest := (t.tt - 2*r*t.tu + r*r*t.uu) / max(t.n, 1)
	return max(math.Sqrt(max(rest, 0))/max(t.seconds(), 1e-12), 1.0/3+2/max(t.n, 1))
}

// err is the standard error of latency, as a share.
func (t *tally) err() float64 { return t.spread() / math.Sqrt(max(t.n, 1)) }
