package netflix

import "time"

// Window gathers samples for a second and hands their mean on as one: the greatest number in flight, and dropped if any was.
type Window struct {
	Law

	next    time.Time
	sum     time.Duration
	n, most int
	dropped bool
}

// The published constants: how long a window lasts, how many samples it needs, and the least time that is one.
const (
	windowTime    = time.Second
	windowSamples = 10
	leastTime     = 100 * time.Microsecond
)

// Windowed returns a law behind a window.
func Windowed(l Law) *Window { return &Window{Law: l} }

// Sample implements Law.
func (w *Window) Sample(now time.Time, rtt time.Duration, inFlight int, dropped bool) {
	if rtt < leastTime {
		return
	}
	w.sum += rtt
	w.n++
	w.most = max(w.most, inFlight)
	w.dropped = w.dropped || dropped
	if !now.After(w.next) {
		return
	}
	if w.n >= windowSamples {
		w.Law.Sample(now, w.sum/time.Duration(w.n), w.most, w.dropped)
	}
	*w = Window{Law: w.Law, next: now.Add(windowTime)}
}
