package limit

import (
	"fmt"
	"math"
)

// verdict is what two tallies at different levels tell about the back-end.
type verdict struct {
	low, high  float64 // mean levels
	slower     float64 // logarithm of the ratio of latencies, high to low
	elasticity float64 // of throughput: its relative change over that of the level
	useful     float64 // the concurrency that the back-end can use
	err        float64 // standard error of slower, and so of useful as a share
}

const (
	// flat is the elasticity from which on more concurrency is worth a try: half of it comes back as throughput.
	flat = 0.5

	// likely and surely are how many standard errors apart two latencies must be to be taken for different: where the next look will
	// correct a mistake, and where a mistake would cost what was gathered.
	likely, surely = 2, 2.5

	// choking is by how much slower (as a logarithm), beyond the error, calls must be to veto more concurrency before a question has ended.
	choking = 0.2
)

// compare asks whether concurrency buys throughput. By Little's law throughput is level over latency; so what of the higher level is of use
// is as much as would give the same throughput at the latency of the lower one, where calls wait less or not at all.
func compare(low, high tally) verdict {
	v := verdict{low: low.mean(), high: high.mean()}
	v.slower = math.Log(max(high.latency(), 1e-9) / max(low.latency(), 1e-9))
	v.elasticity = 1 - v.slower/math.Log(max(v.high/v.low, 1.01))
	v.useful = v.high * math.Exp(-v.slower)
	v.err = math.Hypot(low.err(), high.err())
	return v
}

// chokes tells whether calls at the higher level clearly wait for each other.
func (v verdict) chokes() bool { return v.slower > likely*v.err+choking }

// pays tells whether more concurrency pays, whatever the error.
func (v verdict) pays() bool { return v.slower+v.err < (1-flat)*math.Log(v.high/v.low) }

// String gives the figures behind it.
func (v verdict) String() string {
	percent := func(log float64) int { return int(math.Round(100 * (math.Exp(log) - 1))) }
	return fmt.Sprintf("concurrency %+d %% makes calls %+d %% slower; of %.0f in flight %.1f are of use",
		percent(math.Log(v.high/v.low)), percent(v.slower), v.high, v.useful)
}
