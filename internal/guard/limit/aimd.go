package limit

// aimd is additive increase, multiplicative decrease, as TCP does it (Chiu and Jain 1989): one more with each round of successes while the
// limit binds, a tenth less with an overload, once a round. It does not look at latency: a back-end that neither pushes back nor lets calls
// time out is not protected.
type aimd struct {
	standing
	rest int // answers of the round in which it has decreased
}

// backoff is what is left after a decrease.
const backoff = 0.9

func (a *aimd) learn(l *Limiter, s answer) {
	a.rest = max(0, a.rest-1)
	switch {
	case s.result == Success && 2*l.inFlight >= l.limit:
		a.stand(l, a.limit+1/max(a.limit, 1), "increase: by one a round, as calls succeed at the limit")
	case s.result == Overload && a.rest == 0:
		a.rest = l.limit
		a.stand(l, a.limit*backoff, "decrease: a call was an overload")
	}
}
