package netflix

import (
	"math"
	"math/rand/v2"
	"time"
)

// Vegas estimates the queue at the back-end from the least round-trip time it saw since its last probe, and keeps it between two bounds.
type Vegas struct {
	// Initial and Max bound the limit: 20 and 1,000 by default. The least is 1.
	Initial, Max int

	random *rand.Rand
	limit  float64
	least  time.Duration
	probes int
	jitter float64
}

// probeMultiplier times the limit is after how many samples the least time is taken anew, times a jitter from 0.5 to 1.
const probeMultiplier = 30

// NewVegas returns it at its defaults; random spreads its probes.
func NewVegas(random *rand.Rand) *Vegas {
	v := &Vegas{Initial: 20, Max: 1000, random: random}
	v.spread()
	return v
}

func (v *Vegas) spread() { v.probes, v.jitter = 0, 0.5+v.random.Float64()/2 }

// Limit implements Law.
func (v *Vegas) Limit() int {
	if v.limit == 0 {
		v.limit = float64(v.Initial)
	}
	return int(v.limit)
}

// Sample implements Law.
func (v *Vegas) Sample(_ time.Time, rtt time.Duration, inFlight int, dropped bool) {
	limit := v.Limit()
	v.probes++
	switch {
	case v.jitter*probeMultiplier*v.limit <= float64(v.probes):
		v.spread()
		v.least = rtt
	case v.least == 0 || rtt < v.least:
		v.least = rtt
	default:
		next := v.next(logarithm(limit), rtt, inFlight, dropped)
		v.limit = min(max(next, 1), float64(v.Max))
	}
}

// next returns the limit that follows; step is the logarithm of the present one.
func (v *Vegas) next(step float64, rtt time.Duration, inFlight int, dropped bool) float64 {
	queue := math.Ceil(v.limit * (1 - float64(v.least)/float64(rtt)))
	alpha, beta := 3*step, 6*step
	switch {
	case dropped:
		return v.limit - step
	case float64(2*inFlight) < v.limit: // the callers are the limit
		return v.limit
	case queue <= step:
		return v.limit + beta
	case queue < alpha:
		return v.limit + step
	case queue > beta:
		return v.limit - step
	}
	return v.limit
}

// logarithm is to the base of ten, whole, and at least 1.
func logarithm(limit int) float64 { return max(1, math.Floor(math.Log10(float64(limit)))) }
