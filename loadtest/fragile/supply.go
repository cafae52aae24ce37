package fragile

import (
	"math"
	"time"
)

// grain is the step in which Supply is computed; slowness, pauses and deaths are far longer.
const grain = time.Millisecond

// Supply is what a back-end can do in a span of time at best: all workers busy, and never a job too many.
type Supply struct {
	Jobs   float64 // of weight 1, served
	Timely float64 // share of them that takes no longer than is wanted, 0 to 1, if none has to wait
}

// Supply returns what can be done in each of n spans of length d, from the start on, and which share of it takes no longer than limit.
// Slowness, pauses and deaths at the moments of kills are taken into account, a cold cache is not.
func (s Settings) Supply(d time.Duration, n int, limit time.Duration, kills ...time.Duration) []Supply {
	spans := make([]Supply, n)
	up := time.Duration(0)
	for i := range spans {
		slowness, grains := 0.0, 0
		for t := time.Duration(i) * d; t < time.Duration(i+1)*d; t += grain {
			for _, k := range kills {
				if t <= k && k < t+grain {
					up = k + s.Crash.Restart
				}
			}
			slow := s.slow(t)
			slowness, grains = slowness+slow, grains+1
			if t >= up && !s.Pause.stops(t) {
				spans[i].Jobs += s.Capacity() * grain.Seconds() / slow
			}
		}
		spans[i].Timely = s.within(limit.Seconds() * float64(grains) / slowness)
	}
	return spans
}

// within returns the probability that a service time is at most x seconds.
func (s Settings) within(x float64) float64 {
	v := math.Log1p(s.CV * s.CV)
	distance := math.Log(x/s.ServiceTime.Seconds()) + v/2
	if v == 0 {
		if distance >= 0 {
			return 1
		}
		return 0
	}
	return math.Erfc(-distance/math.Sqrt(2*v)) / 2
}

// stops tells whether a pause is under way at t.
func (p Pause) stops(t time.Duration) bool { return p.Length > 0 && p.next(t) <= t }
