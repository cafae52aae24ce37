package breaker_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// A probe that never returns: half-open is left by time. Breakers that wait for a fixed number of results (resilience4j #903,
// gobreaker) stay half-open for ever when a caller vanishes, and refuse everything.
func TestProbeThatNeverReturns(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		for range 3 {
			b.pass()
		}
		b.wantRefused(2 * time.Second)
		sleep(2*time.Second - 1)
		b.wantRefused(1)
		sleep(1)
		b.want(breaker.Open)
		b.wantRefused(2 * time.Second)
		sleep(2 * time.Second)
		b.calls(3, breaker.Success, 0)
		b.want(breaker.Closed)
	})
}

// The same with one lost probe among good ones, which leave permits: it must not linger behind them.
func TestProbeThatNeverReturnsAmongOthers(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		b.pass()
		b.calls(2, breaker.Success, 0)
		b.want(breaker.HalfOpen)
		sleep(2 * time.Second)
		b.want(breaker.Open)
	})
}

// runtime.Goexit in a probe: its Done never runs, and gobreaker's Execute is wedged for ever. Here the probe times out.
func TestGoexitInAProbe(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		for range 3 {
			go func() { // ends at once, by itself
				_ = b.pass()
				runtime.Goexit()
			}()
			synctest.Wait()
		}
		b.wantRefused(2 * time.Second)
		sleep(2 * time.Second)
		b.want(breaker.Open)
		sleep(2 * time.Second)
		b.calls(3, breaker.Success, 0)
		b.want(breaker.Closed)
	})
}

// 1,000 concurrent calls in half-open: at most the permitted probes pass. sentinel-golang lets all 1,000 pass,
// safe-client-gateway (#3442) multiplied an outage's load by 17.
func TestThousandConcurrentCallsInHalfOpen(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		var mu sync.Mutex
		var calls sync.WaitGroup
		passed := 0
		for range 1000 {
			calls.Go(func() {
				mu.Lock()
				ticket, ok, retryAfter := b.Allow(time.Now())
				if ok {
					passed++
				} else if retryAfter <= 0 {
					t.Errorf("refused with a retry after %v", retryAfter)
				}
				mu.Unlock()
				if !ok {
					return
				}
				sleep(time.Second)
				mu.Lock()
				b.Done(ticket, breaker.Success, 0, time.Now())
				mu.Unlock()
			})
		}
		calls.Wait()
		if passed != 3 {
			t.Errorf("%d calls passed, want 3", passed)
		}
		b.want(breaker.Closed)
	})
}

// Late results from before the trip count for nothing. In failsafe-go stragglers closed a half-open breaker.
func TestLateResults(t *testing.T) {
	inBubble(t, func(b rig) {
		var late []breaker.Ticket
		for range 100 {
			late = append(late, b.pass())
		}
		report := func(r breaker.Result) {
			for _, ticket := range late[:40] {
				b.Done(ticket, r, time.Minute, time.Now())
			}
			late = late[40:]
		}
		b.open()
		report(breaker.Success)
		b.want(breaker.Open)
		sleep(2 * time.Second)
		b.want(breaker.HalfOpen)
		report(breaker.Success)
		b.want(breaker.HalfOpen)
		b.calls(3, breaker.Success, 0)
		for _, ticket := range late {
			b.Done(ticket, breaker.Failure, 0, time.Now())
		}
		b.want(breaker.Closed)
		b.calls(9, breaker.Failure, 0)
		b.want(breaker.Closed) // the late failures are not in the window either
	})
}

// The result of a probe that timed out, or that another probe's failure made void, cannot close or open a later half-open.
func TestLateProbes(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		late := []breaker.Ticket{b.pass(), b.pass()}
		b.calls(1, breaker.Failure, 0)
		b.want(breaker.Open)
		sleep(2 * time.Second)
		first, second := b.pass(), b.pass()
		for _, ticket := range late {
			b.Done(ticket, breaker.Failure, 0, time.Now())
		}
		b.want(breaker.HalfOpen)
		b.Done(first, breaker.Success, 0, time.Now())
		b.Done(second, breaker.Success, 0, time.Now())
		b.want(breaker.HalfOpen)
	})
}

// A callback that calls back into the guard: no deadlock (gobreaker #37). There is no callback: an observer polls under the lock and
// acts outside of it, and may call everything, also the breaker, while it goes through what it was told.
func TestCallbackThatCallsBack(t *testing.T) {
	inBubble(t, func(b rig) {
		var mu sync.Mutex
		poll := func() []breaker.Transition {
			mu.Lock()
			defer mu.Unlock()
			return b.Transitions(time.Now())
		}
		b.open()
		for _, seen := range poll() {
			mu.Lock()
			b.Force(breaker.Override{State: breaker.ForcedOpen, Actor: "observer", Reason: seen.Reason}, time.Now())
			b.wantRefused(2 * time.Second)
			mu.Unlock()
			if inner := poll(); len(inner) != 1 || inner[0].From != breaker.Open || inner[0].To != breaker.ForcedOpen {
				t.Errorf("the observer's own change was told as %v", inner)
			}
		}
		b.want(breaker.ForcedOpen)
	})
}

// Ten caller cancellations, 1,000 NOT_FOUNDs: still closed (flow-go #4910, gobreaker #29, go-service #3153). The first are ignored
// results, the others successes.
func TestTenCancellationsThousandNotFound(t *testing.T) {
	inBubble(t, func(b rig) {
		b.calls(10, breaker.Ignored, time.Hour)
		b.want(breaker.Closed)
		b.calls(1000, breaker.Success, 0)
		b.calls(1000, breaker.Ignored, time.Hour)
		b.want(breaker.Closed)
		if told := b.Transitions(time.Now()); len(told) != 0 {
			t.Errorf("transitions %v", told)
		}
	})
}

// The same in half-open: a cancelled probe says nothing, and the next call gets its permit.
func TestTenCancellationsInHalfOpen(t *testing.T) {
	inBubble(t, func(b rig) {
		b.halfOpen()
		for range 10 {
			tickets := []breaker.Ticket{b.pass(), b.pass(), b.pass()}
			b.wantRefused(2 * time.Second)
			for _, ticket := range tickets {
				b.Done(ticket, breaker.Ignored, 0, time.Now())
			}
			b.want(breaker.HalfOpen)
		}
		b.calls(3, breaker.Success, 0)
		b.want(breaker.Closed)
	})
}

// Fewer than ten calls never trip on a ratio: nine of nine failed, again and again, each time out of the window before the next.
func TestFewerThanTenCalls(t *testing.T) {
	inBubble(t, func(b rig) {
		for range 100 {
			b.calls(9, breaker.Failure, time.Hour)
			b.want(breaker.Closed)
			sleep(10 * time.Second)
		}
		b.calls(10, breaker.Failure, time.Hour)
		b.want(breaker.Open)
	})
}

// Statistics right after an idle hour are right: neither the failures nor the successes of before are in them.
func TestStatisticsAfterAnIdleHour(t *testing.T) {
	inBubble(t, func(b rig) {
		b.calls(9, breaker.Failure, 0)
		sleep(time.Hour)
		b.calls(1, breaker.Failure, 0)
		b.want(breaker.Closed) // 1 of 1; with those of before it would be 10 of 10
		sleep(time.Hour + 300*time.Millisecond)
		b.calls(1000, breaker.Success, 0)
		sleep(time.Hour + 700*time.Millisecond)
		b.calls(9, breaker.Failure, 0)
		b.want(breaker.Closed)
		b.calls(1, breaker.Failure, 0)
		b.want(breaker.Open) // 10 of 10; with those of before it would be 10 of 1,010
	})
}

// A change of configuration keeps statistics: it must not amnesty the back-end.
func TestConfigureIsNoAmnesty(t *testing.T) {
	inBubble(t, func(b rig) {
		before := b.pass()
		b.calls(8, breaker.Failure, 0)
		s := quick()
		for range 5 {
			s.Window, s.Probes, s.OpenFor = s.Window+time.Second, s.Probes+1, s.OpenFor+time.Second
			b.Configure(s, time.Now())
		}
		b.Done(before, breaker.Failure, 0, time.Now())
		b.want(breaker.Closed)
		b.calls(1, breaker.Failure, 0)
		b.want(breaker.Open)
		b.wantRefused(7 * time.Second)
	})
}
