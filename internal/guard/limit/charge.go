package limit

import (
	"slices"
	"time"
)

const (
	// typicalWeight is what a new success counts in the typical time.
	typicalWeight = 0.05

	// chargeTimes bounds a charge, in typical times. Time-outs free callers, not back-ends: what was being worked on is worked on to the
	// end. How long that takes nobody tells; two typical times cover what was still in a line before the workers and what was just begun.
	// Charges that are too long refuse calls without need while time-outs go on; too short ones let dead work pile up.
	chargeTimes = 2

	// mostCharges bounds the memory of charges; beyond it the oldest ends early. So many time-outs within two typical times are an outage,
	// and the limit falls in it.
	mostCharges = 1024
)

// charge is a slot that is kept for a call whose caller has gone.
type charge struct {
	until time.Time
	cost  int
}

func (l *Limiter) learnTypical(took time.Duration) {
	if s := took.Seconds(); l.typical == 0 {
		l.typical = s
	} else {
		l.typical += typicalWeight * (s - l.typical)
	}
}

// typicalTime is how long a success takes; 0 before the first.
func (l *Limiter) typicalTime() time.Duration { return time.Duration(l.typical * float64(time.Second)) }

// charge keeps a slot for d for a call whose work may go on. One that timed out keeps it for two typical times, and never longer than it
// took so far; one that was abandoned for what is left of one, as if it had stayed: its caller may have left for any reason.
func (l *Limiter) charge(cost int, d time.Duration) {
	if d <= 0 {
		return
	}
	if len(l.charges) == mostCharges {
		l.charged -= l.charges[0].cost
		l.charges = slices.Delete(l.charges, 0, 1)
	}
	c := charge{until: l.at.Add(d), cost: cost}
	i, _ := slices.BinarySearchFunc(l.charges, c.until, func(c charge, t time.Time) int { return c.until.Compare(t) })
	l.charges = slices.Insert(l.charges, i, c)
	l.charged += cost
}

// discharge ends the charges whose time is over.
func (l *Limiter) discharge() {
	n := 0
	for n < len(l.charges) && !l.charges[n].until.After(l.at) {
		l.charged -= l.charges[n].cost
		n++
	}
	l.charges = slices.Delete(l.charges, 0, n)
}

// Due tells when the next charge ends, and with it a slot comes free without any call: false if there is none.
func (l *Limiter) Due() (time.Time, bool) {
	if len(l.charges) == 0 {
		return time.Time{}, false
	}
	return l.charges[0].until, true
}
