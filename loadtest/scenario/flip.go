package scenario

import (
	"math"
	"slices"
	"time"
)

// Flip is a command of an operator, given at the admin port and repeated until the guard has heard it.
type Flip struct {
	At      time.Duration
	Feature string
	Off     bool // else on
}

// Outage is a time in which the guard is gone: killed at its begin, without any grace, and started again at its end on the same ports. It
// has its flags still, and knows nothing else.
type Outage struct {
	Window
	Admin bool // the guard is there, but nobody reaches its admin port
}

// Command is a Flip that the guard has heard.
type Command struct {
	Flip
	Issued   time.Duration   // when the operator gave it; of several times the last
	Answered time.Duration   // when the guard's answer was there
	Clients  []time.Duration // when each client's library last knew the old value, not before the command
}

// until returns when the next command about the same feature is given; a moment after all if there is none.
func (r *Record) until(command int) time.Duration {
	for _, next := range r.Commands[command+1:] {
		if next.Feature == r.Commands[command].Feature {
			return next.Issued
		}
	}
	return 1<<63 - 1
}

// obeyed returns the last moment at which a call was treated by the old value, though a command had been given: it reached a back-end while
// the feature was off, or was refused for that while it was on.
func (r *Record) obeyed(command int) time.Duration {
	c := r.Commands[command]
	last, in := c.Issued, Window{c.Issued, r.until(command)}
	for _, a := range r.Attempts {
		switch {
		case r.Scenario.Classes[a.Class].Feature != c.Feature:
		case c.Off && a.Sent >= 0 && in.holds(a.Sent):
			last = max(last, a.Sent)
		case !c.Off && a.Fate == Off && in.holds(a.Ended):
			last = max(last, a.Ended)
		}
	}
	return last
}

func flipAtGuard(m *measurement, w Window, _ Want) float64 { return m.slowest(w, m.record.obeyed) }

func flipAtClients(m *measurement, w Window, _ Want) float64 {
	return m.slowest(w, func(command int) time.Duration { return slices.Max(m.record.Commands[command].Clients) })
}

// slowest returns the longest time from a command of a window to a moment that belongs to it, in seconds; infinite if the guard has not
// heard all.
func (m *measurement) slowest(w Window, moment func(command int) time.Duration) (longest float64) {
	if len(m.record.Commands) < len(m.record.Scenario.Flips) {
		return math.Inf(1)
	}
	for i, c := range m.record.Commands {
		if w.holds(c.Issued) {
			longest = max(longest, (moment(i) - c.Issued).Seconds())
		}
	}
	return longest
}

func flipCut(m *measurement, _ Window, _ Want) (n float64) {
	for _, c := range m.record.Commands {
		for _, a := range m.record.Attempts {
			inFlight := a.Sent >= 0 && a.Sent < c.Issued && a.Ended > c.Issued
			if inFlight && a.Fate != Served && m.record.Scenario.Classes[a.Class].Feature == c.Feature {
				n++
			}
		}
	}
	return n
}

func addedP50(m *measurement, w Window, _ Want) float64 { return m.added(w, 50) }

func addedP99(m *measurement, w Window, _ Want) float64 { return m.added(w, 99) }

// added returns by how much a percentile of the calls that were served is above that of the direct ones.
func (m *measurement) added(w Window, percent int) float64 {
	var guarded, direct []time.Duration
	for _, a := range m.record.Attempts {
		switch {
		case a.Fate != Served || !w.holds(a.Made):
		case m.record.Scenario.Classes[a.Class].Direct:
			direct = append(direct, a.Ended-a.Made)
		default:
			guarded = append(guarded, a.Ended-a.Made)
		}
	}
	return quantile(guarded, percent) - quantile(direct, percent)
}
