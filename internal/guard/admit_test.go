package guard_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// Everything is against a call; as one thing after the other is put right, the next check speaks.
func TestOrderOfChecks(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		taken := r.pass(call)
		r.refuse(call, guard.LimitReached) // the limit binds
		r.set("report", 0)
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		c := guard.Call{Method: check, Feature: "report", Deadline: time.Now(), Attempt: 1}

		r.refuse(c, guard.FeatureOff)
		r.SetFeatures(nil)
		r.refuse(c, guard.DeadlineUnreachable)
		c.Deadline = time.Now().Add(time.Second)
		r.refuse(c, guard.BreakerOpen)
		r.ForceBreaker(breaker.Override{})
		r.refuse(c, guard.RetryBudgetExhausted)
		c.Attempt = 0
		r.refuse(c, guard.LimitReached)
		taken.Done(guard.Success)
		r.pass(c).Done(guard.Success)
	})
}

func TestRetryAfter(t *testing.T) {
	s := fixed(1)
	s.RetryRatio = 0
	inBubble(t, s, func(r rig) {
		r.run(100, call, 20*time.Millisecond, guard.Success) // 50 a second
		taken := r.pass(call)
		if d := r.refuse(call, guard.LimitReached); d.RetryAfter < 10*time.Millisecond || d.RetryAfter > 45*time.Millisecond {
			t.Errorf("limit reached: retry after %v, want one service time or two", d.RetryAfter)
		}
		if d := r.refuse(guard.Call{Attempt: 1}, guard.RetryBudgetExhausted); d.RetryAfter >= 0 {
			t.Errorf("retry budget: retry after %v, want never", d.RetryAfter)
		}
		if d := r.refuse(guard.Call{Deadline: time.Now()}, guard.DeadlineUnreachable); d.RetryAfter >= 0 {
			t.Errorf("deadline: retry after %v, want never", d.RetryAfter)
		}
		r.set("report", 0)
		if d := r.refuse(guard.Call{Feature: "report"}, guard.FeatureOff); d.RetryAfter >= 0 {
			t.Errorf("flag: retry after %v, want never", d.RetryAfter)
		}
		taken.Done(guard.Success)
		sleep(10 * time.Second)
		r.trip()
		sleep(breaker.Default().OpenFor / 4)
		if d := r.refuse(call, guard.BreakerOpen); d.RetryAfter != breaker.Default().OpenFor*3/4 {
			t.Errorf("breaker: retry after %v, want the time to half-open", d.RetryAfter)
		}
		if err := r.Drain(r.Context()); err != nil {
			t.Fatal(err)
		}
		if d := r.refuse(call, guard.Draining); d.RetryAfter != 0 {
			t.Errorf("draining: retry after %v, want at once", d.RetryAfter)
		}
	})
}

// Of an overload nobody has seen the end of, the hint stays within bounds, and it is spread.
func TestRetryAfterIsBoundedAndSpread(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		p := r.pass(call)
		seen := map[time.Duration]bool{}
		for range 100 {
			d := r.refuse(call, guard.LimitReached)
			seen[d.RetryAfter] = true
			if d.RetryAfter < 10*time.Millisecond || d.RetryAfter > 5*time.Second {
				t.Fatalf("retry after %v", d.RetryAfter)
			}
		}
		if len(seen) < 90 {
			t.Errorf("100 refusals got %d different hints", len(seen))
		}
		p.Done(guard.Success)
	})
}

func TestDecisionFigures(t *testing.T) {
	inBubble(t, fixed(3), func(r rig) {
		r.set("report", 100)
		r.pass(call)
		_, d := r.Admit(r.Context(), guard.Call{Feature: "report"})
		if d.Limit != 3 || d.InFlight != 1 || d.Breaker != breaker.Closed || d.Feature.Why != "INC-1" || d.Feature.Name != "report" {
			t.Errorf("decision is %+v", d)
		}
		if _, d = r.Admit(r.Context(), guard.Call{Stream: true}); d.Limit != 1000 || d.InFlight != 0 {
			t.Errorf("decision on a stream is %+v; want the figures of the account of streams", d)
		}
		r.ForceBreaker(breaker.Override{State: breaker.ForcedClosed})
		if _, d = r.Admit(r.Context(), call); d.InFlight != 2 || d.Breaker != breaker.ForcedClosed || d.Feature != (guard.Feature{}) {
			t.Errorf("decision is %+v", d)
		}
	})
}

// A call that has less time than half of its method's calls need is refused, but not by what was learned long ago or elsewhere.
func TestDeadlineBelowMedian(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		in := func(d time.Duration) guard.Call { return guard.Call{Method: check, Deadline: time.Now().Add(d)} }
		r.run(9, call, 100*time.Millisecond, guard.Success)
		r.pass(in(50 * time.Millisecond)).Done(guard.Ignored) // nine answers tell nothing
		r.run(1, call, 100*time.Millisecond, guard.Success)
		r.refuse(in(99*time.Millisecond), guard.DeadlineUnreachable)
		r.pass(in(100 * time.Millisecond)).Done(guard.Ignored)
		elsewhere := in(time.Millisecond)
		elsewhere.Method = "/shop.Stock/List"
		r.pass(elsewhere).Done(guard.Ignored)
		stream := in(time.Millisecond)
		stream.Stream = true
		r.pass(stream).Done(guard.Ignored)

		r.run(60, call, 20*time.Millisecond, guard.Success) // it became quicker
		r.pass(in(25 * time.Millisecond)).Done(guard.Ignored)
		r.refuse(in(15*time.Millisecond), guard.DeadlineUnreachable)
		sleep(1100 * time.Millisecond) // nobody answered: it may have become quicker still
		r.pass(in(time.Millisecond)).Done(guard.Ignored)
	})
}

// The median lies in the middle, whatever the tail: of 1 and 100 ms in equal parts it is anything between, of one in ten slow it is 10 ms.
func TestMedianIgnoresTheTail(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		for i := range 300 {
			took := 10 * time.Millisecond
			if i%10 == 0 {
				took = 300 * time.Millisecond
			}
			r.run(1, call, took, guard.Success)
		}
		r.pass(guard.Call{Method: check, Deadline: time.Now().Add(13 * time.Millisecond)}).Done(guard.Ignored)
		r.refuse(guard.Call{Method: check, Deadline: time.Now().Add(8 * time.Millisecond)}, guard.DeadlineUnreachable)
	})
}

func TestObserve(t *testing.T) {
	s := fixed(1)
	s.Mode = guard.Observe
	s.MaxStreams = 0
	inBubble(t, s, func(r rig) {
		p := r.pass(call)
		r.would(guard.LimitReached, call)
		r.would(guard.LimitReached, guard.Call{Stream: true})
		r.would(guard.RetryBudgetExhausted, guard.Call{Attempt: 1})
		r.would(guard.DeadlineUnreachable, guard.Call{Deadline: time.Now()})
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		r.would(guard.BreakerOpen, call)
		r.set("report", 0)
		r.refuse(guard.Call{Feature: "report"}, guard.FeatureOff)
		r.inFlight(1, 0)
		p.Done(guard.Success)
		totals := r.Status().Totals
		if totals.Admitted != 6 || totals.Refused != [11]uint64{guard.FeatureOff: 1} {
			t.Errorf("totals are %+v", totals)
		}
		want := [11]uint64{guard.DeadlineUnreachable: 1, guard.BreakerOpen: 1, guard.RetryBudgetExhausted: 1, guard.LimitReached: 2}
		if totals.WouldRefuse != want {
			t.Errorf("would have refused %v, want %v", totals.WouldRefuse, want)
		}
	})
}

// What would wait for a moment is no refusal: who looks before he enforces would else see a fault where there is none.
func TestObserveTellsWaitsFromRefusals(t *testing.T) {
	for load, most := range map[float64]float64{0.9: 0.01, 3: 1} {
		f, s := newFragile(8, 20*time.Millisecond), guard.Default()
		s.Mode, s.Limit.Initial, s.Limit.Law = guard.Observe, 10, limit.Fixed
		overloadWith(t, s, f, func(c *crowd) {
			c.offer(load*f.capacity(), 30*time.Second)
			got := c.Status().Totals
			refused := 0.0
			for _, n := range got.WouldRefuse {
				refused += float64(n) / float64(got.Admitted)
			}
			if got.WouldWait == 0 || refused > most || load > 1 && refused < 0.6 {
				t.Errorf("at %v of the capacity %.3f would be refused, %d of %d wait", load, refused, got.WouldWait, got.Admitted)
			}
		})
	}
}

// would checks that mode observe admits a call and says why it should not.
func (r rig) would(want guard.Reason, c guard.Call) {
	r.Helper()
	before := r.Status()
	p, d := r.Admit(r.Context(), c)
	if !d.Admitted || d.Reason != want {
		r.Fatalf("%+v: got %+v, want it admitted but for %d", c, d, want)
	}
	if after := r.Status(); after.InFlight+after.OpenStreams != before.InFlight+before.OpenStreams+1 {
		r.Fatal("call is not counted as in flight")
	}
	p.Done(guard.Success)
}

// Mode off: flags alone, and what is in flight still counts.
func TestOff(t *testing.T) {
	s := fixed(1)
	s.Mode = guard.Off
	inBubble(t, s, func(r rig) {
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		r.pass(call)
		r.pass(guard.Call{Attempt: 3, Deadline: time.Now()})
		r.inFlight(2, 0)
		r.set("report", 0)
		r.refuse(guard.Call{Feature: "report"}, guard.FeatureOff)
	})
}

// Calls that were let in without a slot fill the limit once it is enforced.
func TestEnforceAfterObserve(t *testing.T) {
	for _, mode := range []guard.Mode{guard.Observe, guard.Off} {
		s := fixed(2)
		s.Mode = mode
		inBubble(t, s, func(r rig) {
			var permits []guard.Permit
			for range 4 {
				p, _ := r.Admit(r.Context(), call)
				permits = append(permits, p)
			}
			r.Configure(fixed(2), "alice", "go")
			for _, p := range permits[:2] {
				r.refuse(call, guard.LimitReached)
				p.Done(guard.Success)
			}
			r.refuse(call, guard.LimitReached)
			permits[3].Done(guard.Success)
			r.pass(call)
			r.refuse(call, guard.LimitReached)
		})
	}
}

func TestValidate(t *testing.T) {
	if err := guard.Default().Validate(); err != nil {
		t.Errorf("default settings: %v", err)
	}
	bad := guard.Default()
	bad.Mode, bad.MaxStreams, bad.RetryRatio = 9, -1, math.NaN()
	bad.Limit.Min, bad.Queue.MaxWait, bad.Breaker.MinCalls = -1, -1, 1
	text := bad.Validate().Error()
	for _, want := range []string{"mode: 9", "max_streams: -1", "retry_ratio: NaN", "limit: ", "queue: ", "breaker: "} {
		if !strings.Contains(text, want) {
			t.Errorf("fault %q is missing in:\n%s", want, text)
		}
	}
}

func TestNames(t *testing.T) {
	for c, want := range map[guard.Criticality]string{
		guard.CriticalPlus: "CRITICAL_PLUS", guard.Critical: "CRITICAL", 7: "",
		guard.SheddablePlus: "SHEDDABLE_PLUS", guard.Sheddable: "SHEDDABLE",
	} {
		if got := c.String(); got != want {
			t.Errorf("criticality %d is %q, want %q", c, got, want)
		}
		if parsed, ok := guard.ParseCriticality(want); ok != (want != "") || ok && parsed != c {
			t.Errorf("%q is parsed as %d, %v", want, parsed, ok)
		}
	}
	for m, want := range map[guard.Mode]string{guard.Enforce: "enforce", guard.Observe: "observe", guard.Off: "off", 3: ""} {
		if got := m.String(); got != want {
			t.Errorf("mode %d is %q, want %q", m, got, want)
		}
	}
}
