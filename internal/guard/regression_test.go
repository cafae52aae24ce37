package guard_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Lesson: a change of configuration or flag keeps statistics and in-flight count: it must not amnesty the back-end.
func TestConfigureKeepsWhatIsKnown(t *testing.T) {
	inBubble(t, fixed(2), func(r rig) {
		r.run(20, call, 100*time.Millisecond, guard.Success)
		r.run(15, call, 0, guard.Failure) // some more would trip the breaker
		p := r.pass(report)
		before := r.Status()
		other := fixed(2)
		other.MaxStreams, other.RetryRatio, other.Queue.MaxLength = 7, 0.2, 9
		r.Configure(other, "alice", "")
		r.set("report", 50)
		r.SetFeatures(nil)
		if after := r.Status(); after.Totals != before.Totals || after.Recent != before.Recent || after.InFlight != 1 {
			t.Errorf("before: %+v\nafter: %+v", before, after)
		}
		if got := r.Features(); len(got) != 1 || got[0].InFlight != 1 || got[0].CallsPerSecond == 0 {
			t.Errorf("features are %+v", got)
		}
		r.refuse(guard.Call{Method: check, Deadline: time.Now().Add(50 * time.Millisecond)}, guard.DeadlineUnreachable)
		r.run(5, call, 0, guard.Failure)
		r.state(breaker.Open)
		r.Configure(fixed(5), "alice", "")
		r.state(breaker.Open)
		p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// Lesson: a limit lowered below in-flight: nothing is cut, new calls wait until it drains.
func TestLimitLoweredBelowInFlight(t *testing.T) {
	inBubble(t, lined(4), func(r rig) {
		var permits []guard.Permit
		for range 4 {
			permits = append(permits, r.pass(call))
		}
		r.Configure(lined(2), "alice", "")
		r.inFlight(4, 0)
		a := r.ask(r.Context(), call)
		for i, p := range permits[:3] {
			r.waiting(1)
			sleep(10 * time.Millisecond)
			p.Done(guard.Success)
			r.inFlight(max(3-i, 2), 0)
		}
		r.settled(a, guard.None, 30*time.Millisecond)
	})
}

// Lesson: refusals do not enter latency samples; calls that the guard held back do not enter the success rate.
func TestRefusalsTeachNothing(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(20, call, 100*time.Millisecond, guard.Success)
		r.set("report", 0)
		p := r.pass(call)
		for range 10_000 {
			r.refuse(report, guard.FeatureOff)
			r.refuse(call, guard.LimitReached)
			r.refuse(guard.Call{Method: check, Deadline: time.Now()}, guard.DeadlineUnreachable)
		}
		r.refuse(guard.Call{Method: check, Deadline: time.Now().Add(99 * time.Millisecond)}, guard.DeadlineUnreachable)
		p.Done(guard.Success)
		// 21 successes stand against failures still, not 30,000 of anything.
		r.run(20, call, 0, guard.Failure)
		r.state(breaker.Closed)
		r.run(1, call, 0, guard.Failure)
		r.state(breaker.Open)
	})
}

// Lesson: ten caller cancellations, 1,000 NOT_FOUNDs, calls whose deadline had passed before sending: still closed, limit unchanged
// (flow-go #4910, gobreaker #29, go-service #3153).
func TestCallersFaultsDoNoHarm(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		before := r.Status().Limit.Limit
		r.run(10, call, time.Millisecond, guard.Ignored)
		for range 1000 {
			r.run(1, call, time.Millisecond, guard.Success) // which NOT_FOUND is
			r.refuse(guard.Call{Method: check, Deadline: time.Now()}, guard.DeadlineUnreachable)
		}
		r.run(1000, call, time.Millisecond, guard.Ignored)
		r.state(breaker.Closed)
		if after := r.Status().Limit.Limit; after != before {
			t.Errorf("limit %d -> %d", before, after)
		}
	})
}

// Lesson: 1,000 concurrent calls in half-open: at most the permitted probes pass (sentinel-golang: all 1,000).
func TestThousandCallsInHalfOpen(t *testing.T) {
	inBubble(t, lined(2), func(r rig) { // the limit is less than the probes, so that the third has to wait
		r.halfOpen()
		var passed, most, now atomic.Int64
		var clients sync.WaitGroup
		for range 1000 {
			clients.Go(func() {
				p, d := r.Admit(r.Context(), call)
				if d.Admitted {
					passed.Add(1)
					most.Store(max(most.Load(), now.Add(1)))
					sleep(time.Second)
					now.Add(-1)
				}
				p.Done(guard.Failure)
			})
		}
		clients.Wait()
		if n := passed.Load(); n < 1 || n > int64(breaker.Default().Probes) || most.Load() > 2 {
			t.Errorf("%d calls passed, %d at once", n, most.Load())
		}
	})
}

// Lesson: late results from before the trip count for nothing (failsafe-go: stragglers closed it).
func TestStragglersDoNotCloseTheBreaker(t *testing.T) {
	inBubble(t, fixed(100), func(r rig) {
		var late []guard.Permit
		for range 50 {
			late = append(late, r.pass(call))
		}
		r.halfOpen()
		for i, p := range late {
			p.Done(guard.Success + guard.Outcome(i%3))
		}
		r.state(breaker.HalfOpen)
		r.inFlight(0, 0)
	})
}

// Lesson: a callback that calls back into the guard: no deadlock (gobreaker #37). There is none: who watches the events may call anything.
func TestObserverCallsBack(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		_, more := r.Events()
		var seen []guard.Event
		observer := func() {
			<-more
			seen, more = r.Events()
			r.ForceBreaker(breaker.Override{State: breaker.ForcedClosed, Reason: "the observer knows better"})
			r.Configure(fixed(3), "observer", "")
			r.SetFeatures(nil)
		}
		go observer()
		r.trip()
		synctest.Wait()
		if len(seen) != 1 || seen[0].To != "open" {
			t.Errorf("observer saw %+v", seen)
		}
		r.state(breaker.ForcedClosed)
		r.pass(call)
	})
}

// Lesson: fewer than ten calls never trip on a ratio.
func TestFewCallsNeverTrip(t *testing.T) {
	s := fixed(1)
	s.Breaker.MinCalls = 10
	inBubble(t, s, func(r rig) {
		r.run(9, call, 0, guard.Failure)
		r.state(breaker.Closed)
		sleep(time.Hour)
		r.run(9, call, 0, guard.Overload)
		r.state(breaker.Closed)
	})
}

// An operator's forced open state that ends is a recovery, too: the limit begins from below.
func TestRampAfterAForcedState(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		before := r.Status().Limit.Limit
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen, Until: time.Now().Add(time.Minute)})
		sleep(time.Minute)
		if _, d := r.Admit(r.Context(), call); !d.Admitted || d.Limit >= before {
			t.Errorf("right after the forced state: %+v; the limit was %d", d, before)
		}
	})
}
