package guard_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// settled checks what a waiter came to, and when.
func (r rig) settled(a *answer, want guard.Reason, after time.Duration) {
	r.Helper()
	synctest.Wait()
	if a.look(); !a.done || a.d.Admitted != (want == guard.None) || a.d.Reason != want || a.after != after || a.d.Wait != after {
		r.Fatalf("answer is %+v, want reason %d after %v", a, want, after)
	}
}

func TestWaiterGetsAFreedSlot(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		a := r.ask(r.Context(), call)
		r.waiting(1)
		r.inFlight(1, 0)
		sleep(300 * time.Millisecond)
		p.Done(guard.Success)
		r.settled(a, guard.None, 300*time.Millisecond)
		r.inFlight(1, 0)
		r.waiting(0)
		a.p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// Nobody overtakes those who wait, and those who are more critical go first.
func TestMostCriticalFirst(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		var asked []*answer
		ranks := []guard.Criticality{guard.Sheddable, guard.SheddablePlus, guard.Critical, guard.CriticalPlus}
		for _, rank := range ranks {
			asked = append(asked, r.ask(r.Context(), guard.Call{Criticality: rank}))
		}
		for i := len(asked) - 1; i >= 0; i-- {
			r.waiting(i + 1)
			p.Done(guard.Success)
			r.settled(asked[i], guard.None, 0)
			p = asked[i].p
		}
		p.Done(guard.Success)
	})
}

func TestWaitEnds(t *testing.T) {
	soon := func(r rig) guard.Call {
		return guard.Call{Method: check, Deadline: time.Now().Add(400 * time.Millisecond)}
	}
	plain := func(rig) guard.Call { return call }
	never := func(r rig) (context.Context, context.CancelFunc) { return context.WithCancel(r.Context()) }
	tests := map[string]struct {
		call  func(rig) guard.Call
		ctx   func(rig) (context.Context, context.CancelFunc)
		want  guard.Reason
		after time.Duration
	}{
		"longest wait":          {plain, never, guard.QueueTimeout, time.Second},
		"deadline of the call":  {soon, never, guard.DeadlineUnreachable, 400 * time.Millisecond},
		"deadline of its ctx":   {plain, until(300 * time.Millisecond), guard.DeadlineUnreachable, 300 * time.Millisecond},
		"both deadlines":        {soon, until(400 * time.Millisecond), guard.DeadlineUnreachable, 400 * time.Millisecond},
		"caller goes away":      {plain, canceled(200 * time.Millisecond), guard.Canceled, 200 * time.Millisecond},
		"caller is gone before": {plain, canceled(0), guard.Canceled, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, lined(1), func(r rig) {
				p := r.pass(call)
				ctx, cancel := test.ctx(r)
				defer cancel()
				a := r.ask(ctx, test.call(r))
				sleep(2 * time.Second)
				r.settled(a, test.want, test.after)
				r.waiting(0)
				if got := r.Status().Totals.Refused[test.want]; got != 1 {
					t.Errorf("%d refusals are counted, want 1", got)
				}
				p.Done(guard.Success)
				r.inFlight(0, 0)
			})
		})
	}
}

func until(d time.Duration) func(rig) (context.Context, context.CancelFunc) {
	return func(r rig) (context.Context, context.CancelFunc) { return context.WithTimeout(r.Context(), d) }
}

func canceled(d time.Duration) func(rig) (context.Context, context.CancelFunc) {
	return func(r rig) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(r.Context())
		if d == 0 {
			cancel()
		}
		stop := time.AfterFunc(d, cancel)
		return ctx, func() { stop.Stop(); cancel() }
	}
}

// Lesson: a wait past the deadline ends in refusal, never in admission (Aperture admits); it ends when less time is left than the method's
// calls take, at which time the hint tells when to come back.
func TestWaitLeavesTimeToBeServed(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.run(20, call, 100*time.Millisecond, guard.Success)
		p := r.pass(call)
		a := r.ask(r.Context(), guard.Call{Method: check, Deadline: time.Now().Add(250 * time.Millisecond)})
		sleep(150 * time.Millisecond)
		r.settled(a, guard.QueueTimeout, 150*time.Millisecond)
		if a.d.RetryAfter <= 0 {
			t.Errorf("retry after %v", a.d.RetryAfter)
		}
		p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

func TestFullLine(t *testing.T) {
	s := lined(1)
	s.Queue.MaxLength = 2
	inBubble(t, s, func(r rig) {
		p := r.pass(call)
		first := r.ask(r.Context(), guard.Call{Criticality: guard.Sheddable})
		second := r.ask(r.Context(), call)
		if d := r.refuse(guard.Call{Criticality: guard.Sheddable}, guard.LimitReached); d.RetryAfter <= 0 {
			t.Errorf("retry after %v", d.RetryAfter)
		}
		third := r.ask(r.Context(), guard.Call{Criticality: guard.CriticalPlus})
		r.settled(first, guard.LimitReached, 0)
		r.waiting(2)
		p.Done(guard.Success)
		r.settled(third, guard.None, 0)
		third.p.Done(guard.Success)
		r.settled(second, guard.None, 0)
	})
}

// What ends everybody's wait at once, long before the queue would.
func TestLineIsDissolved(t *testing.T) {
	observe := lined(1)
	observe.Mode = guard.Observe
	tests := map[string]struct {
		do   func(r rig, holder guard.Permit)
		want guard.Reason
	}{
		"feature off":     {func(r rig, _ guard.Permit) { r.set("report", 0) }, guard.FeatureOff},
		"forced open":     {func(r rig, _ guard.Permit) { r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen}) }, guard.BreakerOpen},
		"breaker opens":   {func(r rig, p guard.Permit) { p.Done(guard.Failure) }, guard.BreakerOpen},
		"drain":           {func(r rig, _ guard.Permit) { go func() { _ = r.Drain(r.Context()) }() }, guard.Draining},
		"mode observe":    {func(r rig, _ guard.Permit) { r.Configure(observe, "alice", "") }, guard.None},
		"higher limit":    {func(r rig, _ guard.Permit) { r.Configure(lined(10), "alice", "") }, guard.None},
		"holder's stream": {func(r rig, p guard.Permit) { p.Stream() }, guard.None},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, lined(1), func(r rig) {
				r.run(breaker.Default().MinCalls-1, call, 0, guard.Failure)
				p := r.pass(call)
				a := r.ask(r.Context(), guard.Call{Method: "/shop.Stock/List", Feature: "report"})
				sleep(100 * time.Millisecond)
				test.do(r, p)
				r.settled(a, test.want, 100*time.Millisecond)
				a.p.Done(guard.Ignored)
				p.Done(guard.Ignored)
				r.inFlight(0, 0)
			})
		})
	}
}

// A call that waits throws its dice once: dimmed twice to the same position, it is not dimmed twice.
func TestWaitersAreDimmedOnce(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.pass(call)
		for range 1000 {
			go r.Admit(r.Context(), guard.Call{Feature: "report"})
		}
		r.waiting(1000)
		r.set("report", 30)
		synctest.Wait()
		left := r.Status().Queued
		if left < 230 || left > 370 {
			t.Errorf("%d of 1000 still wait at 30 %%", left)
		}
		r.set("report", 30)
		r.set("report", 60)
		r.waiting(left)
		r.set("report", 0.001)
		sleep(2 * time.Second)
		r.waiting(0)
	})
}

// In half-open a call that would have to wait for a place among the probes is refused, also after its wait for a slot.
func TestNoWaitForAProbe(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.halfOpen()
		p := r.pass(call)
		r.inFlight(1, 0)
		a := r.ask(r.Context(), call)
		p.Done(guard.Failure)
		r.settled(a, guard.BreakerOpen, 0)
	})
}

// Retries in line count against their budget.
func TestRetriesInLineCount(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.run(100, call, time.Millisecond, guard.Success)
		r.pass(call)
		r.ask(r.Context(), call)
		var refused int
		for n := range 50 {
			c := guard.Call{Attempt: 1, Tenant: string(rune('a' + n))}
			if a := r.ask(r.Context(), c); a.done && a.d.Reason == guard.RetryBudgetExhausted {
				refused++
			}
		}
		if refused != 40 {
			t.Errorf("%d of 50 retries are refused, want all but a tenth of the first attempts", refused)
		}
		sleep(time.Second)
		r.waiting(0)
		r.ask(r.Context(), call)
		if a := r.ask(r.Context(), guard.Call{Attempt: 1, Tenant: "late"}); a.done {
			t.Errorf("a retry after all have left the line is answered %+v, want it to wait", a.d)
		}
		sleep(time.Second)
		r.waiting(0)
	})
}

// Limit 0 lets nobody pass, and nobody wait for it.
func TestLimitZero(t *testing.T) {
	s := lined(1)
	s.Limit.Max = 0
	inBubble(t, s, func(r rig) {
		for range 100 {
			go func() { r.refuse(call, guard.LimitReached) }()
		}
		synctest.Wait()
		r.inFlight(0, 0)
	})
}

func TestDrain(t *testing.T) {
	inBubble(t, lined(2), func(r rig) {
		p, q := r.pass(call), r.pass(guard.Call{Stream: true})
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		err := r.Drain(ctx)
		want := "drain guard: 1 calls and 1 streams still in flight: context deadline exceeded"
		if fmt.Sprint(err) != want {
			t.Errorf("drain ends with %v, want %s", err, want)
		}
		time.AfterFunc(time.Minute, func() { p.Done(guard.Success) })
		time.AfterFunc(time.Hour, func() { q.Done(guard.Success) })
		begun := time.Now()
		if err := r.Drain(r.Context()); err != nil || time.Since(begun) != time.Hour {
			t.Errorf("drain ends with %v after %v", err, time.Since(begun))
		}
		if err := r.Drain(r.Context()); err != nil || !r.Status().Draining {
			t.Errorf("second drain ends with %v", err)
		}
	})
}
