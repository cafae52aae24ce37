package limit

import (
	"slices"
	"time"
)

// Status is the state at one moment.
type Status struct {
	Limit, Min, Max int // in units of cost
	Charged         int // units kept for timed-out calls that the back-end may still be working on
	Law             Law
	Reason          string // why it is what it is: a word and the figures behind it
	Changed         time.Time
}

// Change is one move of the limit.
type Change struct {
	Time     time.Time
	From, To int
	Reason   string
}

// kept is how many moves are kept for Changes: a second of the busiest search.
const kept = 32

// Status returns the state now.
func (l *Limiter) Status() Status {
	return Status{
		Limit: l.limit, Min: l.s.Min, Max: l.s.Max, Charged: l.charged, Law: l.s.Law, Reason: l.reason, Changed: l.changed,
	}
}

// Changes returns the moves since the last call, oldest first, at most the last few.
func (l *Limiter) Changes() []Change {
	out := l.changes
	l.changes = nil
	return out
}

// move is the only place where the limit changes.
func (l *Limiter) move(to int, reason string) {
	l.reason = reason
	if to == l.limit {
		return
	}
	if len(l.changes) == kept {
		l.changes = slices.Delete(l.changes, 0, 1)
	}
	l.changes = append(l.changes, Change{Time: l.at, From: l.limit, To: to, Reason: reason})
	l.limit, l.changed = to, l.at
}
