package guard

import "slices"

const (
	// heavyTimes is how many times as long as the mean of all calls those of a heavy method take.
	heavyTimes = 5

	// lightShare is the part of the slots of an endpoint that heavy methods leave to the others, at least one: an eighth. Each of them serves
	// more light calls than heavy ones would be lost, and none of those waits for a heavy one to end. Half as much leaves a limit of 8 no
	// slot in whole; twice as much would idle a quarter of the slots where heavy calls alone are asked for.
	lightShare = 8
)

// heavyLocked tells whether a method is heavy. By Little's law its calls occupy most slots when they are but a tenth of all.
func (g *Guard) heavyLocked(m *method) bool { return g.usual(m) > heavyTimes }

// weighLocked notes whether a call is heavy.
func (g *Guard) weighLocked(a *ask) { a.heavy = g.heavyLocked(a.method) }

// leaves tells whether a call that takes so many units leaves their part to light ones.
func (e *Endpoint) leaves(units int, heavy bool) bool {
	most := e.limiter.Limit()
	return !heavy || most < 2 || e.heavy == 0 || e.heavy+units <= most-max(most/lightShare, 1)
}

// passLocked serves the first light call in line, where the first of all is heavy and has to leave its place.
func (g *Guard) passLocked(a ask) bool {
	if !slices.ContainsFunc(g.pool, func(e *Endpoint) bool { return e.room(1, false, a.now) }) {
		return false
	}
	it, ok := g.line.NextFit(a.now, func(w *waiter) bool { return !g.heavyLocked(g.methods.known(w.call.Method)) })
	if !ok {
		return false
	}
	place := g.placeOfLocked(it.Value, a.at, a.now)
	if !g.slotLocked(&place, false) {
		return false
	}
	g.line.Take(it, a.now)
	g.grantLocked(it.Value, a.at, place)
	return true
}
