package limit_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// The limit grew without end where service times vary widely. The first answers after it had risen were judged, and the first to come back
// are the quick ones: whoever survives the race looks fast. Now a question is about a cohort, and waits for all of it.
func TestQuickAnswersComeFirst(t *testing.T) {
	t.Parallel()
	for _, b := range widths[1:] {
		for seed := range uint64(seeds) {
			b.cv = 2
			s := newSim(b, limit.Default(), seed)
			s.rate = 3 * s.capacity()
			v := s.run(30 * time.Second)
			within(t, fmt.Sprint("highest limit for ", b.workers), v.high, b.workers, 8*b.workers)
			within(t, fmt.Sprint("limit at last for ", b.workers), v.last, b.workers*6/10, 3*b.workers)
		}
	}
}

// A limit that was full from the first moment never asked for more again, and stuck at 8 of 32 workers: what was seen on the way up to it
// looked, with latencies as uneven as these, as if calls waited for each other.
func TestFullFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	sum := 0.0
	for seed := range uint64(2 * seeds) {
		s := newSim(backend{workers: 32, mean: 20 * time.Millisecond, cv: 2}, limit.Default(), seed)
		s.rate = 3 * s.capacity()
		s.run(10 * time.Second)
		_, mean := s.meanLimit(3, 10*time.Second)
		within(t, "mean limit", mean, 8, 80)
		sum += mean / (2 * seeds)
	}
	within(t, "mean limit of all", sum, 28, 60)
}

// A limit at which more concurrency pays, but whose step was small because the figures were not worth much, was told to stay, with a long
// rest before the next question. Where more pays it asks again at once.
func TestMorePaysIsNoReasonToStay(t *testing.T) {
	t.Parallel()
	for seed := range uint64(seeds) {
		low := limit.Settings{Law: limit.Adaptive, Initial: 3, Min: 1, Max: 3}
		s := newSim(backend{workers: 4, mean: 20 * time.Millisecond, cv: 1}, low, seed)
		s.rate = 3 * s.capacity()
		s.run(10 * time.Second)
		s.Configure(limit.Default(), s.clock())
		s.run(10 * time.Second)
		_, mean := s.meanLimit(3, 10*time.Second)
		within(t, "mean limit", mean, 4, 12)
	}
}

// A cohort gave the rest of its calls up after ten times its own number of other answers. Where more calls than that are in flight none of
// its own is back by then; nothing was compared with something, and nothing is infinitely fast: the limit of 200 workers ran up to its
// bound.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s := newSim(backend{workers: 200, mean: 20 * time.Millisecond, crowd: 400}, limit.Default(), seed)
		s.rate = 1.5 * s.capacity()
		s.run(3 * time.Second)
		v := s.run(3 * time.Second)
		within(t, "highest limit", v.high, 200, 900)
		within(t, "limit at last", v.last, 200, 400)
		within(t, "goodput of capacity", float64(v.good)/3/s.capacity(), 0.95, 1.05)
	}
}

// A back-end that begins to fail at once in the middle of a question was compared by the few calls that told something, or by none: fast
// failures looked like health.
func TestFailuresAnswerNoQuestion(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2 * seeds) {
		s := failing(100, 40*time.Millisecond, seed) // while more is asked
		v := s.run(5 * time.Second)
		within(t, "highest limit", v.high, 8, 16)

		s = failing(8, 5*time.Second, seed) // while less is
		s.run(5 * time.Second)
		before := s.Known()
		v = s.run(20 * time.Second)
		within(t, "lowest limit", v.low, before/2, before)
		within(t, "highest limit", v.high, before, 2*before)
	}
}

// failing fails nineteen of twenty calls from a moment on.
func failing(workers int, from time.Duration, seed uint64) *sim {
	s := newSim(backend{workers: workers, mean: 20 * time.Millisecond}, limit.Default(), seed)
	s.answer = func(at time.Duration) limit.Result {
		if at > from && s.rand.IntN(20) > 0 {
			return limit.Failure
		}
		return limit.Success
	}
	s.rate = 3 * s.capacity()
	return s
}

// Where a call takes many units, none was ever sent near the limit: eight of them leave no room for a third call of three. So nothing was
// compared, nothing was asked, and the limit stayed where it began.
func TestCallsThatDoNotFillTheLimit(t *testing.T) {
	for cost := 2; cost <= 9; cost++ {
		l, now, r := newAccount(limit.Default()), epoch, rand.New(rand.NewPCG(uint64(cost), 1))
		for range 4_000 {
			for l.acquire(cost, now) {
			}
			now = now.Add(time.Duration(20_000_000 / len(l.calls)))
			l.release(limit.Success, time.Duration(15+r.IntN(11))*time.Millisecond, now)
		}
		within(t, fmt.Sprint("limit with calls of ", cost), l.Limit(), 100, 1000)
	}
}

// Latencies are compared beside what is usual for calls of their kind. If that is learned as fast as the limit moves it moves along with
// the effect, and hides it: any limit looks as good as the other. So it has to be learned slowly. The fast one is here to show that the
// test can fail.
func TestUsualIsLearnedSlowly(t *testing.T) {
	t.Parallel()
	slow, fast := 0.0, 0.0
	for seed := range uint64(seeds) {
		slow += mixedLimit(1000, seed) / seeds
		fast += mixedLimit(10, seed) / seeds
	}
	within(t, "mean limit", slow, 8, 20)
	within(t, "mean limit with what is usual learned from ten answers", fast, 25, 1000)
}

// mixedLimit is the mean limit in front of eight workers and a mixture of calls, in units of one call.
func mixedLimit(answers float64, seed uint64) float64 {
	s := newSim(backend{workers: 8, mean: 20 * time.Millisecond, cv: 0.1, heavy: 0.1}, limit.Default(), seed)
	s.usual = &usual{answers: answers}
	s.meanLimit(3, 10*time.Second)
	_, mean := s.meanLimit(3, 30*time.Second)
	return mean
}

// Marks of cohorts began anew with each law, so that calls of an earlier one could be taken for those of a new one.
func TestMarksOfAnEarlierLaw(t *testing.T) {
	l, now := newAccount(limit.Default()), epoch
	for range 100 {
		for l.acquire(1, now) {
		}
		s := limit.Default()
		s.Law = limit.AIMD
		l.Configure(s, now)
		l.Configure(limit.Default(), now)
		now = now.Add(20 * time.Millisecond)
		for l.InFlight() > 4 {
			l.answer(limit.Success, now)
		}
	}
	if got := l.Limit(); got != 8 {
		t.Errorf("limit is %d after nothing but changes of the law, want 8", got)
	}
}

// A call that hangs held up the cohort that it was in, and with it every conclusion, until it ended. It is waited for, but not for ever.
// Here five hang, and a thousand workers more are of no use if nothing is concluded any more.
func TestCallsThatHang(t *testing.T) {
	l, now, workers := newAccount(limit.Default()), epoch, 8
	for i := range 20_000 {
		for l.acquire(1, now) {
		}
		if i > 2000 && i <= 3000 && i%200 == 0 {
			l.first()
		}
		if i == 10_000 {
			within(t, "limit", l.Limit(), 8, 24)
			workers = 1000
		}
		now = now.Add(time.Duration(20_000_000 / min(workers, len(l.calls))))
		l.answer(limit.Success, now)
	}
	within(t, "limit", l.Limit(), 200, 1000)
}

// A limit of two stood for ten minutes after an overload of two workers, and a quarter of the load lost up to 3 % in bursts: the count of
// demand that was held back was reset before the window that had seen it was judged, so that only a question could raise a limit; and at 5
// calls a second the rest before the next one lasts for minutes.
func TestAWindowRaisesALimit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4 * seeds) {
		s := newSim(backend{workers: 2, mean: 100 * time.Millisecond}, limit.Default(), seed)
		s.rate = 3 * s.capacity()
		s.run(10 * time.Minute)
		s.rate = s.capacity() / 4
		s.run(time.Minute)
		v := s.run(10 * time.Minute)
		within(t, "limit at last", v.last, 3, 4)
		within(t, "refused, in ten thousands", int(1e4*v.refusedShare()), 0, 30)
	}
}

// A back-end that chokes on what it holds was never left alone again after its capacity had fallen sixteenfold, or a limit from before was
// far too high: time-outs halved the limit, and successes doubled it back to where it had been. What a way back has led to once is gone when
// time-outs end it, and the way ends where calls begin to wait for each other.
func TestAWayBackThatLeadsNowhere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4 * seeds) {
		fallen := newSim(backend{workers: 128, mean: 20 * time.Millisecond}, limit.Default(), seed)
		fallen.rate = 1.5 * fallen.capacity()
		fallen.run(10 * time.Second)
		remembered := newSim(backend{workers: 8, mean: 20 * time.Millisecond}, limit.Default(), seed)
		remembered.Resume(150+100*int(seed), epoch)
		for name, s := range map[string]*sim{"fallen": fallen, "remembered": remembered} {
			s.workers, s.crowd = 8, 16
			s.rate = 1.5 * s.capacity()
			s.run(90 * time.Second)
			v := s.run(20 * time.Second)
			within(t, name+": per cent of the capacity", int(100*float64(v.good)/20/s.capacity()), 85, 110)
		}
	}
}

// A back-end that was given up on its way back, and came back slower, was left at one call for seconds: the round before the breaker opened
// was compared with the first ones after, as if calls waited for each other.
func TestARestartForgetsTheWay(t *testing.T) {
	t.Parallel()
	l, now := limit.New(limit.Default(), epoch), epoch
	l.Resume(128, now)
	round := func(r limit.Result, took time.Duration) {
		var slots []limit.Slot
		for s, ok := l.Acquire(1, now); ok; s, ok = l.Acquire(1, now) {
			slots = append(slots, s)
		}
		now = now.Add(took)
		for _, s := range slots {
			l.Release(s, r, took, 0, now)
		}
	}
	for l.Limit() > 1 {
		round(limit.Overload, 20*time.Millisecond)
	}
	for l.Limit() < 64 {
		round(limit.Success, 20*time.Millisecond)
	}
	l.Restart(now)
	for range 20 {
		round(limit.Success, 400*time.Millisecond)
	}
	within(t, "limit after the restart", l.Limit(), 128, 128)
}
