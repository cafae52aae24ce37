package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// Lesson: a back-end with 2 workers at 70 % load: nothing is refused, nothing queues at the back-end (default floors of 20 break it). Two
// workers that choke when more than four calls are inside show it: one second of more, long ago, has filled the back-end up to the floor,
// and the queue there keeps itself alive. The same law with a floor of 20 is there to prove that the test can fail.
func TestTwoWorkersThatChoke(t *testing.T) {
	for seed := range uint64(seeds) {
		v := afterBurst(limit.Default(), seed)
		within(t, "refused", v.refused+v.late, 0, 0)
		within(t, "latency in ms", v.meanLatency().Seconds()*1000, 5, 10) // of which 5 are work

		floor := limit.Default()
		floor.Min, floor.Initial = 20, 20
		v = afterBurst(floor, seed)
		within(t, "latency in ms with a floor of 20", v.meanLatency().Seconds()*1000, 20, 1000)
	}
}

// afterBurst returns what happens at 70 % load, from 14 s after a burst.
func afterBurst(settings limit.Settings, seed uint64) second {
	s := newSim(backend{workers: 2, mean: 5 * time.Millisecond, crowd: 4}, settings, seed)
	s.rate = 3 * 0.7 * s.capacity()
	s.run(time.Second)
	s.rate = 0.7 * s.capacity()
	s.run(14 * time.Second)
	return s.run(5 * time.Second)
}

// Lesson: the baseline after one hour of three times the capacity, and after the overload has ended: the limit stays in a band above the
// number of workers, and comes back to it, and nothing is refused that could be served. Time is stretched sixteenfold, as in the half hour
// of the scenarios.
func TestLimitAfterAnHourOfOverload(t *testing.T) {
	t.Parallel()
	for _, b := range widths {
		b.mean *= 16
		t.Run(fmt.Sprint(b.workers, " workers"), func(t *testing.T) {
			t.Parallel()
			s := newSim(b, limit.Default(), 2)
			s.wait, s.timeout = 16*s.wait, 16*s.timeout
			band := func(what string, load float64) {
				v, mean := s.meanLimit(load, 8*time.Minute)
				within(t, "mean limit "+what, mean/float64(s.workers), 1, 1.8)
				if load < 1 {
					within(t, "refused "+what, v.refused+v.late, 0, 0)
				}
			}
			s.meanLimit(3, 6*time.Minute)
			band("at first", 3)
			s.meanLimit(3, 42*time.Minute)
			band("after an hour", 3)
			s.meanLimit(0.5, time.Minute)
			band("when it is over", 0.5)
			s.meanLimit(3, 2*time.Minute)
			band("when it comes again", 3)
		})
	}
}
