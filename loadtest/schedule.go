package loadtest

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// Schedule is a rate over time: straight lines between its points, constant before the first and after the last. Two points at the same
// time are a step. The empty Schedule is a rate of 0. A Schedule is never changed: Step and Ramp return new ones.
type Schedule []Point

// Point is the rate at one moment.
type Point struct {
	// At is the time since the begin of the run.
	At time.Duration
	// PerSecond is the rate from then on, 0 or more.
	PerSecond float64
}

// Steady returns a constant rate.
func Steady(perSecond float64) Schedule { return Schedule{{PerSecond: perSecond}} }

// Step returns s with a jump to a rate at a moment after its last point.
func (s Schedule) Step(at time.Duration, perSecond float64) Schedule {
	return append(s[:len(s):len(s)], Point{at, s.last()}, Point{at, perSecond})
}

// Ramp returns s with a straight line from its last point to a rate at a later moment.
func (s Schedule) Ramp(until time.Duration, perSecond float64) Schedule {
	return append(s[:len(s):len(s)], Point{until, perSecond})
}

// Times returns s with every rate multiplied.
func (s Schedule) Times(factor float64) Schedule {
	scaled := make(Schedule, len(s))
	for i, p := range s {
		scaled[i] = Point{p.At, p.PerSecond * factor}
	}
	return scaled
}

// last returns the rate after the last point.
func (s Schedule) last() float64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].PerSecond
}

// Validate returns the first fault of s.
func (s Schedule) Validate() error {
	for i, p := range s {
		if !(p.PerSecond >= 0) || math.IsInf(p.PerSecond, 1) {
			return fmt.Errorf("the rate at %v must be 0 or more, not %v", p.At, p.PerSecond)
		}
		if i > 0 && p.At < s[i-1].At {
			return fmt.Errorf("point %d at %v comes after one at %v: sort the points by time", i, p.At, s[i-1].At)
		}
	}
	return nil
}

// Arrivals yields the moments of calls since the begin of the run, in order: of a Poisson process with this rate if rng is given, else
// evenly spaced.
func (s Schedule) Arrivals(rng *rand.Rand) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for t := 0.0; ; {
			area := 1.0
			if rng != nil {
				area = rng.ExpFloat64()
			}
			next, ok := s.after(t, area)
			if !ok || next > math.MaxInt64/float64(time.Second) || !yield(time.Duration(math.Round(next*float64(time.Second)))) {
				return
			}
			t = next
		}
	}
}

// Calls returns how many calls are to be expected between two moments: the integral of the rate.
func (s Schedule) Calls(from, to time.Duration) float64 {
	t, end, sum := from.Seconds(), to.Seconds(), 0.0
	for i := range s {
		if until := min(s[i].At.Seconds(), end); t < until {
			a, b := s.rate(i, t), s.rate(i, until)
			sum += (a + b) / 2 * (until - t)
			t = until
		}
	}
	return sum + s.last()*max(0, end-t)
}

// after returns the moment, in seconds, at which the integral of the rate from t on reaches area; ok is false if it never does.
func (s Schedule) after(t, area float64) (u float64, ok bool) {
	for i := range s {
		end := s[i].At.Seconds()
		if t >= end {
			continue
		}
		from, to := s.rate(i, t), s[i].PerSecond
		whole := (from + to) / 2 * (end - t)
		if area <= whole {
			return t + climb(from, (to-from)/(end-t), area), true
		}
		t, area = end, area-whole
	}
	rate := s.last()
	return t + area/rate, rate > 0
}

// rate returns the rate at t seconds, which lies before point i and not before the one ahead of it.
func (s Schedule) rate(i int, t float64) float64 {
	if i == 0 {
		return s[0].PerSecond
	}
	a, b := s[i-1], s[i]
	part := (t - a.At.Seconds()) / (b.At.Seconds() - a.At.Seconds())
	return a.PerSecond + part*(b.PerSecond-a.PerSecond)
}

// climb solves rate*x + slope*x²/2 = area for x >= 0, in the form that loses no digits when slope is small.
func climb(rate, slope, area float64) float64 {
	return 2 * area / (rate + math.Sqrt(max(0, rate*rate+2*slope*area)))
}
