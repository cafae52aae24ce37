package breaker

import (
	"fmt"
	"time"
)

// buckets is into how many parts a window is cut: it covers nine to ten tenths of its length.
const buckets = 10

// tally counts calls.
type tally struct {
	calls, failures, slow int
}

func (t *tally) add(o tally) {
	t.calls += o.calls
	t.failures += o.failures
	t.slow += o.slow
}

func (t *tally) subtract(o tally) {
	t.calls -= o.calls
	t.failures -= o.failures
	t.slow -= o.slow
}

// verdict returns why these calls open a breaker, or nothing.
func (t tally) verdict(s Settings) string {
	if t.calls < s.MinCalls {
		return ""
	}
	if v := share(t.failures, t.calls); v >= s.FailureRatio {
		return fmt.Sprintf("failure_ratio: %d of %d calls in %v failed, %.2f >= %v", t.failures, t.calls, s.Window, v, s.FailureRatio)
	}
	if v := share(t.slow, t.calls); s.SlowAfter > 0 && v >= s.SlowRatio {
		return fmt.Sprintf("slow_ratio: %d of %d calls in %v took %v or more, %.2f >= %v",
			t.slow, t.calls, s.Window, s.SlowAfter, v, s.SlowRatio)
	}
	return ""
}

// share divides, because 3 of 30 is then exactly 0.1, while 0.1 times 30 is more than 3.
func share(part, whole int) float64 { return float64(part) / float64(whole) }

// window is a ring of tallies that rolls with time. total is their sum.
type window struct {
	start  time.Time     // of bucket number 0
	width  time.Duration // of a bucket
	newest int64         // number of the newest bucket; it lies at newest modulo buckets
	ring   [buckets]tally
	total  tally
}

func newWindow(length time.Duration, now time.Time) window {
	return window{start: now, width: length / buckets}
}

// add counts one call.
func (w *window) add(failure, slow bool, now time.Time) {
	t := tally{calls: 1}
	if failure {
		t.failures = 1
	}
	if slow {
		t.slow = 1
	}
	w.put(t, now)
}

func (w *window) put(t tally, now time.Time) {
	w.roll(now)
	w.ring[w.newest%buckets].add(t)
	w.total.add(t)
}

// roll empties the buckets that time has left behind. A now before the newest bucket belongs to it.
func (w *window) roll(now time.Time) {
	number := int64(now.Sub(w.start) / w.width)
	if number-w.newest >= buckets {
		w.ring, w.total = [buckets]tally{}, tally{}
		w.newest = number
	}
	for w.newest < number {
		w.newest++
		oldest := &w.ring[w.newest%buckets]
		w.total.subtract(*oldest)
		*oldest = tally{}
	}
}

// resized returns a window of another length with what w remembers at now; a bucket's calls count as of its start.
func (w *window) resized(length time.Duration, now time.Time) window {
	w.roll(now)
	oldest := max(w.newest-buckets+1, 0)
	r := newWindow(length, w.start.Add(time.Duration(oldest)*w.width))
	for number := oldest; number <= w.newest; number++ {
		r.put(w.ring[number%buckets], w.start.Add(time.Duration(number)*w.width))
	}
	return r
}
