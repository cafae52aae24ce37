package guard_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// One caller whose calls had 2 ms each, where 20 are usual, opened the breaker and cut the limit to 1 for everybody: each of its time-outs
// counted as a failure of the back-end, and each probe of the half-open breaker was one of them. Who asks for the impossible tells nothing.
func TestAHastyCallerOpensNothing(t *testing.T) {
	s := guard.Default()
	inBubble(t, s, func(r rig) {
		r.run(100, call, 20*time.Millisecond, guard.Success)
		before := r.Status().Limit.Limit
		for range 10 * s.Breaker.MinCalls {
			hasty := guard.Call{Method: "/shop.Stock/Hasty", Deadline: time.Now().Add(2 * time.Millisecond)}
			p := r.pass(hasty)
			sleep(2 * time.Millisecond)
			p.Done(guard.Overload)
			sleep(20 * time.Millisecond) // its work goes on
		}
		r.state(breaker.Closed)
		if after := r.Status().Limit.Limit; after < before {
			t.Errorf("limit %d -> %d", before, after)
		}
		if totals := r.Status().Totals; totals.Overloaded == 0 {
			t.Errorf("totals are %+v", totals)
		}
	})
}

// The same time-outs of callers with time enough are failures, and so is a push-back, however little time there was.
func TestAnOverloadedBackendIsNoHastyCaller(t *testing.T) {
	for name, left := range map[string]time.Duration{"time enough": 100 * time.Millisecond, "pushed back": 2 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := guard.Default()
			inBubble(t, s, func(r rig) {
				r.run(100, call, 20*time.Millisecond, guard.Success)
				for range 20 * s.Breaker.MinCalls {
					p, d := r.Admit(r.Context(), guard.Call{Method: "/shop.Stock/Hasty", Deadline: time.Now().Add(left)})
					if !d.Admitted {
						break
					}
					if left == 100*time.Millisecond {
						sleep(left)
					}
					p.Done(guard.Overload)
					sleep(50 * time.Millisecond)
				}
				r.state(breaker.Open)
			})
		})
	}
}

// One connection that cancelled each of its calls after 5 ms sent more than twice the capacity to a back-end that works on all the same, and
// it crashed: a cancelled call gave its slot back at once. Now the slot is kept for as long as such a call usually takes.
func TestAbandonedCallsKeepTheirSlots(t *testing.T) {
	s := fixed(2)
	s.Limit.Min, s.Limit.Max, s.Limit.Law, s.Queue.MaxWait = 1, 2, "adaptive", 0
	inBubble(t, s, func(r rig) {
		r.run(100, call, 20*time.Millisecond, guard.Success)
		for range 2 {
			p := r.pass(call)
			sleep(5 * time.Millisecond)
			p.Done(guard.Abandoned)
		}
		r.inFlight(0, 0)
		r.refuse(call, guard.LimitReached)
		sleep(16 * time.Millisecond)
		r.pass(call).Done(guard.Ignored) // which the back-end never had
		r.pass(call).Done(guard.Success)
		r.state(breaker.Closed)
	})
}
