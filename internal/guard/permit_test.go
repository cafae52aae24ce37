package guard_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Lesson: a permit given back twice is one return, and is counted as a bug.
func TestPermitGivenBackTwice(t *testing.T) {
	inBubble(t, fixed(2), func(r rig) {
		p := r.pass(call)
		again := p
		r.pass(call)
		for range 3 {
			p.Done(guard.Success)
			again.Done(guard.Failure)
		}
		r.pass(call) // in the slot of the first: its old copies cannot touch it
		again.Done(guard.Failure)
		again.Answered()
		again.Stream()
		r.inFlight(2, 0)
		r.refuse(call, guard.LimitReached)
		if s := r.Status(); s.DoubleReturns != 6 || s.Totals.Succeeded != 1 || s.Totals.Failed != 0 {
			t.Errorf("status is %+v", s)
		}
	})
}

func TestEmptyPermit(t *testing.T) {
	var p guard.Permit
	p.Answered()
	p.Stream()
	p.MethodStreams()
	p.Done(guard.Success)
}

// Lesson: a panic in a call, and runtime.Goexit in a call, lose neither permit nor probe (failsafe-go and go-concurrency-limits leak;
// gobreaker wedges on Goexit). The guard's part is that a deferred Done is all it takes.
func TestPanicAndGoexitLoseNothing(t *testing.T) {
	ends := map[string]func(){"panic": func() { panic("in a call") }, "Goexit": runtime.Goexit}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fixed(1), func(r rig) {
				r.halfOpen()
				for range 20 { // each of them is a probe, and has the only slot
					go r.hold(end)
					synctest.Wait()
					r.inFlight(0, 0)
				}
				r.state(breaker.HalfOpen)
				r.run(breaker.Default().Probes, call, 0, guard.Success)
				r.state(breaker.Closed)
			})
		})
	}
}

// hold has a permit while end is called.
func (r rig) hold(end func()) {
	defer func() { _ = recover() }()
	p := r.pass(call)
	defer p.Done(guard.Ignored)
	end()
}

// Lessons: an idle stream holds no unary permit and adds nothing to latency; its slot is held from open to end, and released once.
func TestStreamsHaveTheirOwnAccount(t *testing.T) {
	s := fixed(1)
	s.MaxStreams = 2
	watch := guard.Call{Method: "/shop.Stock/Watch", Stream: true}
	inBubble(t, s, func(r rig) {
		first, second := r.open(watch), r.open(watch)
		first.Answered()
		sleep(time.Hour)
		r.inFlight(0, 2)
		r.refuse(watch, guard.LimitReached)
		r.run(3, call, time.Millisecond, guard.Success)
		first.Done(guard.Success)
		first.Done(guard.Success)
		r.inFlight(0, 1)
		r.pass(watch)
		r.refuse(watch, guard.LimitReached)
		second.Done(guard.Ignored)
		r.inFlight(0, 1)
		if got := r.Status().InFlightTime; got > 0.01 {
			t.Errorf("streams count as %v calls in flight", got)
		}
		none := s
		none.MaxStreams = 0
		r.Configure(none, "alice", "no more")
		r.inFlight(0, 1)
		r.refuse(watch, guard.LimitReached)
	})
}

// A call whose back-end shows that it is a stream leaves its slot to others and teaches its method; a full account cuts nobody.
func TestStreamIsLearned(t *testing.T) {
	s := lined(1)
	s.MaxStreams = 1
	watch := guard.Call{Method: "/shop.Stock/Watch"}
	inBubble(t, s, func(r rig) {
		p := r.pass(watch)
		next := r.ask(r.Context(), watch)
		p.MethodStreams()
		p.MethodStreams()
		r.inFlight(1, 1)
		synctest.Wait()
		if next.look(); !next.d.Admitted {
			t.Fatal("slot of the stream is not given on")
		}
		r.refuse(watch, guard.LimitReached)
		next.p.Stream()
		r.inFlight(0, 2)
		p.Done(guard.Success)
		next.p.Done(guard.Success)
		r.inFlight(0, 0)
		r.pass(watch)
		r.inFlight(0, 1)
	})
}

// One caller that was slow to send its request had its call taken for a stream, and with it every later call of the method: the limit was
// lifted for good. What a caller does speaks for its own call only.
func TestASlowCallerDoesNotLiftTheLimit(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		p := r.pass(call)
		p.Stream()
		r.inFlight(0, 1)
		r.pass(call)
		r.inFlight(1, 1)
		r.refuse(call, guard.LimitReached)
		p.Done(guard.Success)
		r.refuse(call, guard.LimitReached)
	})
}

// Lesson: a half-open probe that happens to be a long stream does not hold the breaker half-open for hours.
func TestProbeThatIsALongStream(t *testing.T) {
	for _, known := range []bool{true, false} {
		inBubble(t, fixed(10), func(r rig) {
			r.halfOpen()
			for range breaker.Default().Probes {
				p := r.pass(guard.Call{Method: "/shop.Stock/Watch", Stream: known})
				p.Answered()
				p.Stream()
			}
			r.state(breaker.Closed)
			r.inFlight(0, breaker.Default().Probes)
		})
	}
}

// Lesson: a probe that never returns: half-open is left by time (resilience4j #903, gobreaker).
func TestProbeThatNeverReturns(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.halfOpen()
		for range breaker.Default().Probes {
			r.pass(call)
		}
		r.refuse(call, guard.BreakerOpen)
		sleep(breaker.Default().ProbeTimeout)
		r.state(breaker.Open)
	})
}

// An established stream that breaks is a failure; one that its own deadline or its caller ended is none, nor is one from before the
// breaker's last change.
func TestStreamThatBreaks(t *testing.T) {
	watch := guard.Call{Stream: true}
	tests := map[string]struct {
		deadline time.Duration
		outcome  guard.Outcome
		want     breaker.State
	}{
		"unavailable":  {time.Hour, guard.Overload, breaker.Open},
		"internal":     {0, guard.Failure, breaker.Open},
		"own deadline": {time.Minute, guard.Overload, breaker.Closed},
		"caller left":  {0, guard.Ignored, breaker.Closed},
		"ended well":   {0, guard.Success, breaker.Closed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fixed(10), func(r rig) {
				if test.deadline > 0 {
					watch.Deadline = time.Now().Add(test.deadline)
				}
				var open []guard.Permit
				for range breaker.Default().MinCalls {
					open = append(open, r.open(watch))
				}
				for _, p := range open {
					p.Answered()
				}
				sleep(time.Minute)
				for _, p := range open {
					p.Done(test.outcome)
				}
				r.state(test.want)
			})
		})
	}
}

// Streams that break after the breaker tripped and closed again are stragglers of the outage before.
func TestStreamsFromBeforeTheTrip(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		var old []guard.Permit
		for range 100 {
			p := r.pass(guard.Call{Stream: true})
			p.Answered()
			old = append(old, p)
		}
		r.halfOpen()
		old[0].Done(guard.Failure)
		r.state(breaker.HalfOpen)
		r.run(breaker.Default().Probes, call, 0, guard.Success)
		r.state(breaker.Closed)
		for _, p := range old[1:] {
			p.Done(guard.Failure)
		}
		r.state(breaker.Closed)
	})
}

// A stream that fails to open is a result like any other: it fails its probe, and a caller who left gives it back.
func TestStreamThatFailsToOpen(t *testing.T) {
	watch := guard.Call{Stream: true}
	inBubble(t, fixed(10), func(r rig) {
		r.halfOpen()
		for range 2 * breaker.Default().Probes {
			r.pass(watch).Done(guard.Ignored)
		}
		r.state(breaker.HalfOpen)
		r.pass(watch).Done(guard.Overload)
		r.state(breaker.Open)
	})
}

// Who gets a slot after its wait but no probe any more gives the slot back.
func TestSlotWithoutProbe(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.halfOpen()
		p := r.pass(call)
		var asked []*answer
		for range breaker.Default().Probes {
			asked = append(asked, r.ask(r.Context(), call))
		}
		r.waiting(len(asked))
		r.Configure(lined(10), "alice", "")
		last := len(asked) - 1
		r.settled(asked[last], guard.BreakerOpen, 0)
		for _, a := range asked[:last] {
			r.settled(a, guard.None, 0)
			a.p.Done(guard.Success)
		}
		p.Done(guard.Success)
		r.state(breaker.Closed)
		for range 10 {
			r.pass(call)
		}
		r.inFlight(10, 0)
	})
}
