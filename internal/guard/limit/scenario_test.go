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

// slowFrom returns a factor on work that holds from one moment to another.
func slowFrom(from, to time.Duration, factor float64) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at > from && at < to {
			return factor
		}
		return 1
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

// Lesson: 10x demand: once settled, at most 1.1x of capacity is sent on.
func TestTenTimesTheCapacityFromTheFirstSecond(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 10 * s.capacity()
		s.run(time.Second)
		v := s.run(10 * time.Second)
		within(t, "goodput of capacity", float64(v.good)/10/s.capacity(), 0.85, 1.1)
		within(t, "late", v.late, 0, 0)
	})
}

// Lesson: 30 minutes of three times the capacity: latency stays below twice, the limit does not drift. A baseline that is learned under
// overload drifts up with it. Time is stretched sixteenfold to keep the test short: 25 calls a second are the capacity. Six minutes pass
// before it counts, the first 22 seconds of a back-end as quick as others: two workers without a line are the hardest to tell from eight.
func TestHalfAnHourOfThreeTimesTheCapacity(t *testing.T) {
	t.Parallel()
	for _, b := range widths {
		b.mean *= 16
		t.Run(fmt.Sprint(b.workers, " workers"), func(t *testing.T) {
			t.Parallel()
			s := newSim(b, limit.Default(), 1)
			s.wait, s.timeout = 16*s.wait, 16*s.timeout
			s.meanLimit(3, 6*time.Minute)
			w := float64(s.workers)
			for quarter := range 4 {
				v, mean := s.meanLimit(3, 6*time.Minute)
				within(t, fmt.Sprint("mean limit in quarter ", quarter), mean, 1.1*w, 2*w)
				within(t, "highest limit", float64(v.high), w, 4*w)
				within(t, "latency in service times", v.meanLatency().Seconds()/s.mean.Seconds(), 0.9, 2)
				within(t, "goodput of capacity", float64(v.good)/360/s.capacity(), 0.96, 1.04)
			}
		})
	}
}

// meanLimit runs at a load, as a share of the capacity.
func (s *sim) meanLimit(load float64, d time.Duration) (v second, mean float64) {
	s.rate = load * s.capacity()
	sum, n := 0, 0
	s.each = func(v *second) { sum, n = sum+v.last, n+1 }
	v = s.run(d)
	return v, float64(sum) / float64(n)
}

// Without a line before it, the limit sees demand only in its refusals.
func TestThreeTimesTheCapacityWithoutALine(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.wait = 0
		s.rate = 3 * s.capacity()
		s.run(5 * time.Second)
		v := s.run(10 * time.Second)
		within(t, "goodput of capacity", float64(v.good)/10/s.capacity(), 0.8, 1.1)
		within(t, "limit, most", v.high, 1, max(16, 4*s.workers))
	})
}

// Lesson: every call hits its deadline: the limit must fall. Limits whose samples drop time-outs stay where they are, or grow.
func TestEveryCallHitsItsDeadline(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.slow = slowFrom(0, time.Hour, 1e6)
		s.rate = s.capacity()
		v := s.run(20 * time.Second)
		within(t, "limit, most", v.high, 1, 8)
		within(t, "limit at the end", s.Limit(), 1, 1)
	})
}

// Lesson: every call fails within 1 ms: the limit must not rise. Fast failures look healthy to a limit that only measures latency.
func TestEveryCallFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSim(backend{workers: 1000, mean: time.Millisecond, answer: always(limit.Failure)}, limit.Default(), 1)
	s.rate = 20_000
	v := s.run(3 * time.Second)
	within(t, "refused", float64(v.refused), 1, 1e9)
	within(t, "limit", v.high, 1, 8)
}

// A push-back of every call is overload, however fast.
func TestEveryCallIsPushedBack(t *testing.T) {
	t.Parallel()
	s := newSim(backend{workers: 1000, mean: time.Millisecond, answer: always(limit.Overload)}, limit.Default(), 1)
	s.rate = 1_000
	s.run(time.Second)
	within(t, "limit", s.Limit(), 1, 1)
}

// A back-end that pushes back, at once, what it has no room for: neither are these quick answers a sign of room, nor is there need to choke
// it for them.
func TestPushBackIsNotSpeed(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.room = s.workers + s.workers/2
		_, _ = s.meanLimit(3, 10*time.Second)
		v, mean := s.meanLimit(3, 20*time.Second)
		within(t, "mean limit", mean, 0.8*float64(s.workers), 2.5*float64(s.workers))
		within(t, "goodput of capacity", float64(v.good)/20/s.capacity(), 0.9, 1.1)
	})
}

func always(r limit.Result) func(time.Duration) limit.Result {
	return func(time.Duration) limit.Result { return r }
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
		s.slow = slowFrom(15*time.Second, 30*time.Second, 2.5)
		s.run(18 * time.Second)
		v := s.run(12 * time.Second)
		within(t, "goodput of the lowered capacity", float64(v.good)/12/s.capacity()*2.5, 0.9, 1.1)
		s.run(2 * time.Second)
		v = s.run(10 * time.Second)
		within(t, "share refused afterwards", v.refusedShare(), 0, 0.05)
	})
}

func TestBlackHoleIsLeftBehind(t *testing.T) {
	eachWidth(t, func(t *testing.T, s *sim) {
		s.rate = 0.75 * s.capacity()
		s.slow = slowFrom(15*time.Second, 35*time.Second, 60)
		s.run(25 * time.Second)
		v := s.run(10 * time.Second)
		within(t, "limit in the hole", v.high, 1, 16)
		s.run(6 * time.Second)
		v = s.run(10 * time.Second)
		within(t, "share refused afterwards", v.refusedShare(), 0, 0.05)
	})
}
