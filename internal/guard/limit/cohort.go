package limit

import "cmp"

// cohort is some calls that were sent one after the other, to be judged when all of them are back: those that come back first are the quick
// ones, and whoever judges by them takes a back-end for quicker than it is.
type cohort struct {
	id   uint32 // the mark of its calls' slots; 0 is none
	want int    // how many calls
	sent int
	out  int     // of those, still to come back
	left float64 // sum of the instants at which those were sent, in seconds
	late int     // answers of others since the last one was sent
	held bool    // demand was held back meanwhile; in a window only
	most int     // of those, before the rest of its calls is given up
	main tally   // those sent at the level that it is about
	low  tally   // those sent far below it; in a window only
}

const (
	// fewest is the least number of answers that allow a conclusion: below it the spread that they show says little about their error.
	fewest = 12

	// mostly is the most calls of a cohort, however uneven they are: a question must end.
	mostly = 200

	// rough and fine are the errors, as shares, that a look at the back-end should have: calls are sent until the error of their mean is
	// down to that. While the limit may be far off a rough one will do. Fine is a third of the effect of a dip on a back-end that is full.
	rough, fine = 0.17, 0.08

	// unknown is the spread of latencies that is assumed before any was seen.
	unknown = 0.5

	// hasty is how much of a cohort must be back while a rough look will do; the others are taken for as long as they must have been by
	// now.
	hasty = 0.8

	// patience is how many rounds of calls, and how many times its own number of other answers, a cohort waits for the last of its calls:
	// one that hangs must not hold up all.
	patience = 10
)

// need is how many answers bring the error of their mean down to precision.
func (a *adaptive) need(precision float64) int {
	ratio := cmp.Or(a.spread, unknown) / precision
	return min(max(int(ratio*ratio), fewest), mostly)
}

// share is how much of a cohort must be back.
func (a *adaptive) share() float64 {
	if a.seeking {
		return hasty
	}
	return 1
}

// cohort returns a new one. Its mark is unlike that of any before, so that no call of an earlier law is taken for one of its own.
func (l *Limiter) cohort(want int) cohort {
	l.cohorts = max(l.cohorts+1, 1)
	return cohort{id: l.cohorts, want: want, most: patience * max(want, l.limit)}
}

// open tells whether one more call can be sent.
func (c *cohort) open() bool { return c.id != 0 && c.sent < c.want }

// send takes in a call that is sent at an instant.
func (c *cohort) send(at float64) uint32 {
	c.sent++
	c.out++
	c.left += at
	return c.id
}

// back takes in an answer to a call with a mark, and tells whether that is one of its own.
func (c *cohort) back(mark uint32) bool {
	if c.id == mark && mark != 0 {
		c.out--
		return true
	}
	if c.sent == c.want {
		c.late++
	}
	return false
}

// complete tells whether such a share of it is back that it can be judged.
func (c *cohort) complete(share float64) bool {
	return c.id != 0 && c.sent == c.want && (float64(c.out) <= (1-share)*float64(c.sent) || c.tired())
}

// tired tells whether it has waited long enough.
func (c *cohort) tired() bool { return c.late > c.most }

// total is the main tally with those that are not back: they have been away for so long, and are taken to need half a latency more.
func (c *cohort) total(now float64) tally {
	if c.out == 0 || c.main.n == 0 || c.tired() {
		return c.main
	}
	out := float64(c.out)
	return c.main.with(out, out*now-c.left+out*c.main.seconds()/2)
}
