package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// widths are back-ends of equal capacity, 400 calls a second: narrow and quick, wide and slow.
var widths = []backend{
	{workers: 2, mean: 5 * time.Millisecond},
	{workers: 8, mean: 20 * time.Millisecond},
	{workers: 32, mean: 80 * time.Millisecond},
}

const seeds = 5

// eachWidth runs test against every width, for each seed.
func eachWidth(t *testing.T, test func(t *testing.T, s *sim)) {
	t.Parallel()
	for _, b := range widths {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%d workers, seed %d", b.workers, seed), func(t *testing.T) { test(t, newSim(b, limit.Default(), seed)) })
		}
	}
}

// within fails the test unless got is from low to high.
func within[N int | float64](t *testing.T, what string, got, low, high N) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %v, want %v to %v", what, got, low, high)
	}
}

// Lesson: a back-end with 2 workers at 70 % load: nothing is refused. Limits with a floor of 20, or an estimate that starts from a few
// calls, break it.
func TestSeventyPercentLoad(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 0.7 * s.capacity()
		first := s.run(2 * time.Second) // a limit of 8 is too low for 32 workers, and there is no way to know
		v := s.run(30 * time.Second)
		within(t, "share refused", v.refusedShare(), 0, 0.0005)
		if s.workers == 2 {
			within(t, "refused", first.refused+v.refused, 0, 0)
		}
	})
}

func TestNinetyPercentLoad(t *testing.T) {
	t.Parallel()
	for _, b := range widths {
		t.Run(fmt.Sprint(b.workers, " workers"), func(t *testing.T) {
			var all second
			for seed := range uint64(seeds) {
				s := newSim(b, limit.Default(), seed)
				s.rate = 0.9 * s.capacity()
				s.run(5 * time.Second)
				all.add(s.run(40 * time.Second))
			}
			t.Logf("refused %.3f %% of %d calls", 100*all.refusedShare(), all.offered)
			within(t, "share refused", all.refusedShare(), 0, 0.005)
		})
	}
}

// Lesson: 30 minutes of three times the capacity: latency stays below twice, the limit does not drift. A baseline that is learned under
// overload drifts up with it. Time is stretched sixteenfold to keep the test short: 25 calls a second are the capacity.
func TestHalfAnHourOfThreeTimesTheCapacity(t *testing.T) {
	t.Parallel()
	for _, b := range widths {
		b.mean *= 16
		t.Run(fmt.Sprint(b.workers, " workers"), func(t *testing.T) {
			t.Parallel()
			s := newSim(b, limit.Default(), 1)
			s.rate, s.wait, s.timeout = 3*s.capacity(), 16*s.wait, 16*s.timeout
			s.run(time.Minute)
			for minute := 1; minute < 30; minute++ {
				w, limits := float64(s.workers), 0
				s.each = func(v *second) { limits += v.last }
				v := s.run(time.Minute)
				within(t, fmt.Sprint("mean limit in minute ", minute), float64(limits)/60, 0.85*w, 1.5*w)
				within(t, "latency in service times", v.meanLatency().Seconds()/s.mean.Seconds(), 0.9, 2)
				within(t, "goodput of capacity", float64(v.good)/60/s.capacity(), 0.9, 1.1)
			}
		})
	}
}

func TestTenTimesTheCapacityFromTheFirstSecond(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 10 * s.capacity()
		s.run(time.Second)
		v := s.run(5 * time.Second)
		// Lesson: once settled, at most 1.1 times the capacity is sent on.
		within(t, "goodput of capacity", float64(v.good)/5/s.capacity(), 0.9, 1.1)
		within(t, "late", v.late, 0, 0)
	})
}

func TestThreeTimesTheCapacityOfABackendThatChokes(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.crowd = 2 * s.workers
		s.rate = 3 * s.capacity()
		s.run(2 * time.Second)
		v := s.run(10 * time.Second)
		within(t, "goodput of capacity", float64(v.good)/10/s.capacity(), 0.9, 1.1)
	})
}

// Without a line before it, the limit sees demand only in its refusals.
func TestThreeTimesTheCapacityWithoutALine(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.wait = 0
		s.rate = 3 * s.capacity()
		s.run(5 * time.Second)
		v := s.run(10 * time.Second)
		within(t, "goodput of capacity", float64(v.good)/10/s.capacity(), 0.8, 1.1)
		within(t, "limit, most", v.high, 1, max(16, 3*s.workers))
	})
}

// Lesson: every call hits its deadline: the limit must fall. Limits whose samples drop time-outs stay where they are, or grow.
func TestEveryCallHitsItsDeadline(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.slow = func(time.Duration) float64 { return 1e6 }
		s.rate = s.capacity()
		v := s.run(20 * time.Second)
		within(t, "limit, most", v.high, 1, 8)
		within(t, "limit at the end", s.Limit(), 1, 1)
	})
}

// Lesson: every call fails within 1 ms: the limit must not rise. Fast failures look healthy to a limit that only measures latency.
func TestEveryCallFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSim(backend{workers: 1000, mean: time.Millisecond, answer: limit.Failure}, limit.Default(), 1)
	s.rate = 20_000
	v := s.run(3 * time.Second)
	within(t, "refused", float64(v.refused), 1, 1e9)
	within(t, "limit", v.high, 1, 8)
}

// A push-back of every call is overload, however fast.
func TestEveryCallIsPushedBack(t *testing.T) {
	t.Parallel()
	s := newSim(backend{workers: 1000, mean: time.Millisecond, answer: limit.Overload}, limit.Default(), 1)
	s.rate = 1_000
	s.run(time.Second)
	within(t, "limit", s.Limit(), 1, 1)
}

func TestIdleHourChangesNothing(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 3 * s.capacity()
		s.run(5 * time.Second)
		s.rate = 0
		s.run(2 * time.Second)
		before := s.Status()
		s.run(time.Hour)
		if after := s.Status(); after != before {
			t.Errorf("status is %+v, want %+v as before the hour", after, before)
		}
		s.rate = 0.7 * s.capacity()
		v := s.run(10 * time.Second)
		within(t, "share refused after the hour", v.refusedShare(), 0, 0.01)
	})
}

func TestCapacityStepsDownAndUp(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 0.8 * s.capacity()
		s.slow = func(at time.Duration) float64 {
			if at > 15*time.Second && at < 30*time.Second {
				return 2.5
			}
			return 1
		}
		s.run(18 * time.Second)
		v := s.run(12 * time.Second)
		within(t, "goodput of the lowered capacity", float64(v.good)/12/s.capacity()*2.5, 0.9, 1.1)
		s.run(2 * time.Second)
		v = s.run(10 * time.Second)
		within(t, "share refused afterwards", v.refusedShare(), 0, 0.05)
	})
}

// A limit by latency throttles a back-end that is slow because of something behind it, and so adds refusals to slowness.
func TestSlowForOtherReasonsIsNotThrottled(t *testing.T) {
	t.Parallel()
	var all second
	for seed := range uint64(2 * seeds) {
		s := newSim(backend{workers: 200, mean: 20 * time.Millisecond}, limit.Default(), seed)
		s.rate, s.timeout = 250, 2*time.Second
		s.slow = func(at time.Duration) float64 {
			if at > 10*time.Second {
				return 4
			}
			return 1
		}
		s.run(10 * time.Second)
		v := s.run(40 * time.Second)
		within(t, "share refused", v.refusedShare(), 0, 0.05)
		within(t, "limit at the end", s.Limit(), 20, 80)
		all.add(v)
	}
	t.Logf("refused %.2f %% of %d calls", 100*all.refusedShare(), all.offered)
	within(t, "share refused, all in all", all.refusedShare(), 0, 0.02)
}

func TestBlackHoleIsLeftBehind(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 0.75 * s.capacity()
		s.slow = func(at time.Duration) float64 {
			if at > 15*time.Second && at < 35*time.Second {
				return 60
			}
			return 1
		}
		s.run(25 * time.Second)
		v := s.run(10 * time.Second)
		within(t, "limit in the hole", v.high, 1, 16)
		s.run(6 * time.Second)
		v = s.run(10 * time.Second)
		within(t, "share refused afterwards", v.refusedShare(), 0, 0.05)
	})
}
