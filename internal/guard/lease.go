package guard

import "github.com/capguard/capguard/internal/guard/breaker"

// Lease returns how much of the limit is due to a client that had demand calls in flight or in line lately, on average: its part of all
// that is in flight or in line now, this call included, of the limit as it is now. It is at most the limit, and none while the breaker is
// open.
//
// The guard keeps nothing of it. Over the calls of all clients the leases sum up to the limit: one that comes finds T others there, and if
// those come by chance the mean of 1/(T+1) is 1 over the mean of T. (docs/design/leases.md)
func (g *Guard) Lease(demand float64) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == breaker.Open || g.state == breaker.ForcedOpen {
		return 0
	}
	total := 1 + g.queuedLocked()
	for _, e := range g.all {
		total += max(e.limiter.InFlight(), e.unary+e.work)
	}
	return float64(g.limit) * min(demand/float64(total), 1)
}
