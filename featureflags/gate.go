package featureflags

import "math"

// Gate is a percentage in the form that is evaluated for every call: how many of 100,000 equal parts of the random numbers pass. It is a
// plain number without pointer or lock, so a reader can keep it in one atomic word. The zero Gate lets nothing pass; AllPass is for a
// feature that has no flag.
type Gate uint32

// AllPass is the gate of 100 percent.
const AllPass Gate = 100_000

// GateOf returns the gate of a percentage. What is below 0, or not a number, is 0; what is above 100 is 100.
func GateOf(percent float64) Gate {
	if !(percent > 0) {
		return 0
	}
	return Gate(math.Round(min(percent, 100) * 1000))
}

// Pass decides one call with a uniformly random number, such as rand.Uint32(). At 0 percent no number passes, at 100 percent every number
// does; in between the share that passes is off by less than 2 in 100,000 of one step. About a nanosecond, no allocation.
func (g Gate) Pass(random uint32) bool { return uint64(random)*uint64(AllPass)>>32 < uint64(g) }

// Percent returns the percentage of the gate.
func (g Gate) Percent() float64 { return float64(g) / 1000 }
