package guard

import "time"

// windowLength is how many seconds a window remembers, the running one included.
const windowLength = 10

// window holds one T for each of the last ten seconds. Instants are given since the guard's start. What is older than ten seconds is
// forgotten by the next access, however long nobody called: figures right after an idle hour are right.
type window[T any] struct {
	buckets [windowLength]T
	second  int64         // the running one
	begin   time.Duration // of the running second
}

// runs tells whether an instant lies in the running second. It spares the common case a division.
func (w *window[T]) runs(at time.Duration) bool { return uint64(at-w.begin) < uint64(time.Second) }

// at returns the bucket of an instant, which is not older than the window.
func (w *window[T]) at(at time.Duration) *T {
	if !w.runs(at) {
		return w.turn(int64(at / time.Second))
	}
	return &w.buckets[w.second%windowLength]
}

// turn returns the bucket of a second, and begins that if it is new.
func (w *window[T]) turn(second int64) *T {
	for s := max(w.second+1, second-windowLength+1); s <= second; s++ {
		clear(w.buckets[s%windowLength : s%windowLength+1])
	}
	w.second = max(w.second, second)
	w.begin = time.Duration(w.second) * time.Second
	return &w.buckets[second%windowLength]
}

// all returns the buckets of the window that ends at an instant, in no order.
func (w *window[T]) all(at time.Duration) []T {
	w.at(at)
	return w.buckets[:]
}

// span returns how much time a window that ends at an instant covers: less than ten seconds, and never zero.
func span(at time.Duration) time.Duration {
	if at < (windowLength-1)*time.Second {
		return max(at, time.Nanosecond)
	}
	return (windowLength-1)*time.Second + at%time.Second
}

// load is what some calls cost in one second.
type load struct {
	admitted, refused uint32
	busy              time.Duration // time in flight, summed over calls
}

// cost follows what some calls do to the back-end: how many of them pass and how long they occupy it.
type cost struct {
	recent   window[load]
	inFlight int
	since    time.Duration // until when inFlight is accounted for
}

// change moves the number in flight by n at an instant.
func (c *cost) change(n int, at time.Duration) {
	c.elapse(at)
	c.inFlight += n
}

// elapse accounts for the time in flight up to an instant, calls that are still in flight included.
func (c *cost) elapse(at time.Duration) {
	switch {
	case c.inFlight == 0:
	case c.recent.runs(at) && c.recent.runs(c.since):
		c.recent.at(at).busy += time.Duration(c.inFlight) * (at - c.since)
	default:
		c.spread(at)
	}
	c.since = at
}

// spread gives each second since the last account its part. What is older than the window is forgotten anyway.
func (c *cost) spread(at time.Duration) {
	since := max(c.since, at-at%time.Second-(windowLength-1)*time.Second)
	for since < at {
		end := min(at, since-since%time.Second+time.Second)
		c.recent.at(since).busy += time.Duration(c.inFlight) * (end - since)
		since = end
	}
}

// total returns the sum of the window that ends at an instant.
func (c *cost) total(at time.Duration) load {
	c.elapse(at)
	var sum load
	for _, b := range c.recent.all(at) {
		sum.admitted += b.admitted
		sum.refused += b.refused
		sum.busy += b.busy
	}
	return sum
}

// perSecond returns what a figure of a window that ends at an instant makes in one second.
func perSecond(figure float64, at time.Duration) float64 { return figure / span(at).Seconds() }
