package guard

import "github.com/capguard/capguard/internal/guard/breaker"

// Lease returns how much of the limit is due to a client that had demand calls in flight or in line lately, on average: as much as they are
// of all that is in flight or in line. It is at most the limit, and none while the breaker is open. To be asked when a call comes, before
// the guard is asked to decide on it.
//
// The guard keeps nothing of it. The leases of all clients sum up to the limit, on average: while there is room the number in flight
// varies by chance, and one more, the call itself, makes up for that; while there is none it stands. (docs/design/leases.md)
func (g *Guard) Lease(demand float64) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == breaker.Open || g.state == breaker.ForcedOpen {
		return 0
	}
	total := g.queuedLocked()
	for _, e := range g.all {
		total += max(e.limiter.InFlight(), e.unary+e.work)
	}
	if total < g.limit {
		total++
	}
	return float64(g.limit) * min(demand/float64(max(total, 1)), 1)
}
