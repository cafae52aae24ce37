package limit

import (
	"fmt"
	"math"
	"time"
)

// gradient compares the latency of the moment with that of the long run, and gives way in their proportion; a little room, the square root
// of the limit, lets it grow while they agree. (Gradient2 of Netflix's concurrency-limits, 2018.) Its long run drifts along with an
// overload that lasts, and it takes a back-end that is slow for other reasons for an overloaded one.
type gradient struct {
	standing
	long, short mean // of latencies, in seconds
}

const (
	longRun, shortRun = 600, 10 // answers
	tolerance         = 1.5     // latency may grow so far before the limit gives way
	steepest          = 0.5     // and no more than half of it gives way to one answer
	smoothing         = 0.2     // weight of a new limit
	relief            = 0.95    // of the long run is left with each answer, when an overload is over
)

func (g *gradient) learn(l *Limiter, s answer) {
	if !s.result.tells() {
		return
	}
	short, long := g.short.add(s.took, shortRun), g.long.add(s.took, longRun)
	if long > 2*short {
		long *= relief
		g.long.value = long
	}
	if 2*l.inFlight < l.limit {
		return
	}
	slope := min(max(tolerance*long/max(short, 1e-9), steepest), 1)
	want := g.limit*slope + math.Sqrt(g.limit)
	if g.set(l, g.limit+smoothing*(want-g.limit)) {
		l.move(int(g.limit), fmt.Sprintf("gradient: %.2f, latency %v now, %v in the long run", slope, seconds(short), seconds(long)))
	}
}

// mean is an exponential average that is plain at first.
type mean struct{ value, n float64 }

func (m *mean) add(v, window float64) float64 {
	m.n = min(m.n+1, window)
	m.value += (v - m.value) / m.n
	return m.value
}

// seconds rounds for a text.
func seconds(s float64) time.Duration { return time.Duration(s * 1e9).Round(10 * time.Microsecond) }
