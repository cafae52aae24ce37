package netflix

import (
	"math"
	"time"
)

// Gradient2 compares the present round-trip time with a long average of it, and shrinks the limit by their ratio. Use it behind a Window.
type Gradient2 struct {
	// Initial, Min and Max bound the limit: 20, 20 and 200 by default.
	Initial, Min, Max int
	// QueueSize is what the limit grows by while times are good: 4 by default.
	QueueSize func(limit int) int

	limit float64
	long  average
}

// The published constants: the weight of a new limit, the samples of the long average and those of its plain beginning.
const (
	gradientSmoothing = 0.2
	longSamples       = 600
	longWarmup        = 10
)

// NewGradient2 returns it at its defaults.
func NewGradient2() *Gradient2 {
	return &Gradient2{Initial: 20, Min: 20, Max: 200, QueueSize: func(int) int { return 4 }}
}

// Limit implements Law.
func (g *Gradient2) Limit() int {
	if g.limit == 0 {
		g.limit = float64(g.Initial)
	}
	return int(g.limit)
}

// Sample implements Law. It knows no drops: what was dropped counts by its time.
func (g *Gradient2) Sample(_ time.Time, rtt time.Duration, inFlight int, _ bool) {
	limit := g.Limit()
	short, long := float64(rtt), g.long.add(float64(rtt))
	if long > 2*short {
		g.long.value *= 0.9 // back from a long overload
	}
	if float64(inFlight) < g.limit/2 {
		return // the callers are the limit
	}
	gradient := min(max(long/short, 0.5), 1)
	next := g.limit*gradient + float64(g.QueueSize(limit))
	next = g.limit*(1-gradientSmoothing) + next*gradientSmoothing
	g.limit = min(max(next, float64(g.Min)), float64(g.Max))
}

// SquareRoot is the queue that the first Gradient allowed, and which Gradient2's QueueSize takes.
func SquareRoot(limit int) int { return int(math.Sqrt(float64(limit))) }

// average is plain over the first samples and exponential after them.
type average struct {
	value, sum float64
	n          int
}

func (a *average) add(v float64) float64 {
	if a.n < longWarmup {
		a.n++
		a.sum += v
		a.value = a.sum / float64(a.n)
		return a.value
	}
	const weight = 2.0 / (longSamples + 1)
	a.value += (v - a.value) * weight
	return a.value
}
