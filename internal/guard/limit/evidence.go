package limit

// evidence is what answers tell by themselves, at any traffic.
type evidence struct {
	successes int // in a row
	overloads int // in a row
	peak      int // most units in flight in the present round of calls
	before    int // and in the round before
	round     int // answers of the present round
}

// evident is how many overloads, or successes, in a row mean something even if calls come one at a time: with one call in ten going wrong
// by chance, a row of three is one in a thousand.
const evident = 3

// hear counts an answer. A round is twice as many answers as the limit: whoever is in flight now was sent in this one or the one before.
func (e *evidence) hear(s answer, l *Limiter) {
	e.peak = max(e.peak, s.level)
	if e.round++; e.round >= 2*l.limit {
		e.round, e.before, e.peak = 0, e.peak, l.inFlight
	}
	switch s.result {
	case Success:
		e.successes, e.overloads = e.successes+1, 0
	case Overload:
		e.successes, e.overloads = 0, e.overloads+1
	}
}

// most is the most units that were in flight of late.
func (e *evidence) most() int { return max(e.peak, e.before) }
