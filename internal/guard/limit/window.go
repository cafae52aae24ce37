package limit

import (
	"math"
	"time"
)

// window is what was seen over some time. Windows add up: none holds an instant.
type window struct {
	span    time.Duration // how long it was looked at
	full    time.Duration // of it, with every slot taken
	area    float64       // in-flight calls, summed over time, in call-nanoseconds
	good    float64       // successes
	over    float64       // overloads
	held    float64       // refusals
	sum, sq float64       // of the times that successes and overloads took, in seconds and seconds squared
	peak    int           // most in flight
}

// pass lets d go by with n in flight.
func (w *window) pass(d time.Duration, n, limit int) {
	w.span += d
	w.area += float64(n) * float64(d)
	if n >= limit {
		w.full += d
	}
}

// sample takes in how long an answer took.
func (w *window) sample(took time.Duration) {
	s := float64(took) * 1e-9 // cheaper than took.Seconds, which splits whole seconds off
	w.sum += s
	w.sq += s * s
}

// add takes in another window.
func (w *window) add(v window) {
	w.span += v.span
	w.full += v.full
	w.area += v.area
	w.good += v.good
	w.over += v.over
	w.held += v.held
	w.sum += v.sum
	w.sq += v.sq
	w.peak = max(w.peak, v.peak)
}

// learn takes in another window of the same kind and lets old ones fade.
func (w *window) learn(v window) {
	if w.add(v); w.answers() > lastLook {
		w.fade()
	}
}

// fade halves what is remembered.
func (w *window) fade() {
	w.span /= 2
	w.full /= 2
	w.area /= 2
	w.good /= 2
	w.over /= 2
	w.held /= 2
	w.sum /= 2
	w.sq /= 2
}

// answers is how many calls told something.
func (w *window) answers() float64 { return w.good + w.over }

// inFlight is the mean number in flight.
func (w *window) inFlight() float64 { return w.area / max(float64(w.span), 1) }

// throughput is successes per second: by Little's law in-flight over latency. Counting successes comes to the same in the long run, but is
// far less steady in a short one, because calls that were sent together come back together.
func (w *window) throughput() float64 {
	return max(w.good, 0.5) / max(w.answers(), 1) * w.inFlight() / max(w.latency(), 1e-9)
}

// latency is the mean time of an answer, in seconds.
func (w *window) latency() float64 { return w.sum / max(w.answers(), 1) }

// spread is the coefficient of variation of the answers' times. It is held to where it says something: half as it is for most services
// at least, because a queue at the back-end makes times look more even than its work is; and at most that of very mixed methods.
func (w *window) spread() float64 {
	m := w.latency()
	if m == 0 {
		return 1
	}
	v := w.sq/w.answers() - m*m
	return min(max(math.Sqrt(max(v, 0))/m, 0.5), 3)
}

// overloads is the share of answers that were overloads.
func (w *window) overloads() float64 { return w.over / max(w.answers(), 1) }
