package guard_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// recorder is a Settler that counts and remembers, and may do something.
type recorder struct {
	told atomic.Int64
	d    guard.Decision
	then func(guard.Permit, guard.Decision)
}

func (s *recorder) Settle(p guard.Permit, d guard.Decision) {
	s.d = d
	s.told.Add(1)
	if s.then != nil {
		s.then(p, d)
	}
}

// giveBack returns a permit at once.
func giveBack(p guard.Permit, _ guard.Decision) { p.Done(guard.Success) }

func TestAskTellsAtOnceWhatNeedsNoWait(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		s := &recorder{}
		p, d, w := r.Ask(call, s)
		if !d.Admitted || w.Waiting() {
			t.Errorf("a free slot: %+v, %v", d, w)
		}
		if _, d, w := r.Ask(call, s); d.Reason != guard.LimitReached || w.Waiting() {
			t.Errorf("a full guard without a line: %+v, %v", d, w)
		}
		w.Cancel()
		p.Done(guard.Success)
		r.inFlight(0, 0)
		if s.told.Load() != 0 {
			t.Error("a Settler was told of a call that did not wait")
		}
	})
}

func TestAskIsSettledByWhoeverFreesASlot(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		a, w := r.line(call)
		if !w.Waiting() || a.done {
			t.Fatalf("it does not wait: %+v", a)
		}
		r.waiting(1)
		sleep(300 * time.Millisecond)
		p.Done(guard.Success)
		if a.look(); !a.done { // before Done returns, and without another goroutine
			t.Error("Done did not tell who got its slot")
		}
		r.settled(a, guard.None, 300*time.Millisecond)
		w.Cancel() // too late
		r.inFlight(1, 0)
		a.p.Done(guard.Success)
		sleep(time.Minute)
		r.inFlight(0, 0)
		if len(a.came) > 0 {
			t.Error("it was settled twice")
		}
	})
}

func TestWaitOfAskEnds(t *testing.T) {
	limited := guard.Call{Method: check}
	tests := map[string]struct {
		deadline, cancel time.Duration
		want             guard.Reason
		after            time.Duration
	}{
		"longest wait":                 {0, 0, guard.QueueTimeout, time.Second},
		"deadline":                     {400 * time.Millisecond, 0, guard.DeadlineUnreachable, 400 * time.Millisecond},
		"caller goes away":             {400 * time.Millisecond, 200 * time.Millisecond, guard.Canceled, 200 * time.Millisecond},
		"caller goes at its deadline":  {400 * time.Millisecond, 400 * time.Millisecond, guard.DeadlineUnreachable, 400 * time.Millisecond},
		"caller goes when all is over": {400 * time.Millisecond, time.Second, guard.DeadlineUnreachable, 400 * time.Millisecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, lined(1), func(r rig) {
				p, c := r.pass(call), limited
				if test.deadline > 0 {
					c.Deadline = time.Now().Add(test.deadline)
				}
				a, w := r.line(c)
				if test.cancel > 0 {
					time.AfterFunc(test.cancel, func() { w.Cancel(); w.Cancel() })
				}
				sleep(2 * time.Second)
				r.settled(a, test.want, test.after)
				r.waiting(0)
				if got := r.Status().Totals.Refused[test.want]; got != 1 || len(a.came) > 0 {
					t.Errorf("%d refusals are counted, want 1; %d answers more", got, len(a.came))
				}
				p.Done(guard.Success)
				r.inFlight(0, 0)
			})
		})
	}
}

// A waiter is used again: neither the Wait nor the timer of an earlier call may touch a later one.
func TestWaitOfAnEarlierCallIsOver(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		var old []guard.Wait
		for range 100 {
			a, w := r.line(call)
			old = append(old, w)
			sleep(999 * time.Millisecond)
			for _, w := range old[:len(old)-1] {
				w.Cancel()
			}
			if a.look(); a.done {
				t.Fatalf("ended by another's Cancel: %+v", a)
			}
			w.Cancel()
			r.settled(a, guard.Canceled, 999*time.Millisecond)
		}
		p.Done(guard.Success)
	})
}

// A timer that runs out in the very moment in which its wait is cancelled finds the waiter with another call, and leaves that alone.
func TestTimerThatComesTooLate(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		for range 200 {
			var next *answer
			var w guard.Wait
			_, _, old := r.Ask(call, &recorder{then: func(guard.Permit, guard.Decision) {
				next = &answer{came: make(chan answer, 2)}
				_, _, w = r.Ask(call, settler{came: next.came, begun: time.Now()})
			}})
			sleep(time.Second)
			old.Cancel()
			synctest.Wait()
			if next.look(); next.done {
				t.Fatalf("a call that has just come is settled: %+v", next)
			}
			w.Cancel()
			r.settled(next, guard.Canceled, 0)
		}
		p.Done(guard.Success)
	})
}

// Cancel and a freed slot at the same time: the call is told once, and its permit is neither lost nor doubled.
func TestCancelRacesWithAGrant(t *testing.T) {
	s := lined(1)
	s.Queue.MaxWait = time.Minute
	g := guard.New(s)
	var granted, canceled int
	for range 2000 {
		p, _ := g.Admit(t.Context(), call)
		r := &recorder{then: giveBack}
		_, d, w := g.Ask(call, r)
		if !w.Waiting() {
			t.Fatalf("it does not wait: %+v", d)
		}
		var all sync.WaitGroup
		all.Go(func() { p.Done(guard.Success) })
		all.Go(w.Cancel)
		all.Go(w.Cancel)
		all.Wait()
		if n := r.told.Load(); n != 1 {
			t.Fatalf("told %d times", n)
		}
		if r.d.Admitted {
			granted++
		} else if canceled++; r.d.Reason != guard.Canceled {
			t.Fatalf("refused for %d", r.d.Reason)
		}
	}
	if s := g.Status(); s.InFlight != 0 || s.Queued != 0 || s.DoubleReturns != 0 || s.Totals.Refused[guard.Canceled] != uint64(canceled) {
		t.Errorf("after %d grants and %d cancels: %+v", granted, canceled, s)
	}
}

// Lesson: who waits holds memory, but no goroutine.
func TestWaitersCostNoGoroutine(t *testing.T) {
	s := lined(1)
	s.Queue.MaxWait = time.Minute
	g := guard.New(s)
	p, _ := g.Admit(t.Context(), call)
	before := runtime.NumGoroutine()
	all := &recorder{}
	waits := make([]guard.Wait, 1000)
	for i := range waits {
		_, _, waits[i] = g.Ask(call, all)
	}
	if n := g.Status().Queued; n != len(waits) {
		t.Fatalf("%d wait", n)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines more for %d waiters", after-before, len(waits))
	}
	for _, w := range waits {
		w.Cancel()
	}
	if n := all.told.Load(); n != 1000 {
		t.Errorf("%d are told", n)
	}
	p.Done(guard.Success)
}

func TestAskPushesOutTheLast(t *testing.T) {
	s := lined(1)
	s.Queue.MaxLength = 1
	inBubble(t, s, func(r rig) {
		p := r.pass(call)
		last, _ := r.line(guard.Call{Criticality: guard.Sheddable})
		first, w := r.line(call)
		r.settled(last, guard.LimitReached, 0)
		if _, w := r.line(guard.Call{Criticality: guard.Sheddable}); w.Waiting() {
			t.Error("the least critical found a place in a full line")
		}
		w.Cancel()
		r.settled(first, guard.Canceled, 0)
		p.Done(guard.Success)
		r.inFlight(0, 0)
	})
}

// What a Settler does with the guard from within works like anywhere else. Here each gives its permit straight on to the next in line, who
// must not all be told from within each other.
func TestSettlerMayCallTheGuard(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		var depth, deepest int
		s := &recorder{then: func(p guard.Permit, d guard.Decision) {
			depth++
			deepest = max(deepest, depth)
			r.Status()
			p.Answered()
			p.Done(guard.Success)
			depth--
		}}
		for range 1000 {
			r.Ask(call, s)
		}
		p.Done(guard.Success)
		if n := s.told.Load(); n != 1000 || deepest < 2 || deepest > 16 {
			t.Errorf("%d are told, up to %d within each other", n, deepest)
		}
		r.waiting(0)
		r.inFlight(0, 0)
	})
}

func TestDrainTellsWhoWaits(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		p := r.pass(call)
		s := &recorder{then: func(guard.Permit, guard.Decision) { p.Done(guard.Success) }} // so that the drain can end
		for range 3 {
			r.Ask(call, s)
		}
		if err := r.Drain(r.Context()); err != nil || s.told.Load() != 3 || s.d.Reason != guard.Draining {
			t.Errorf("Drain = %v; %d are told, the last %+v", err, s.told.Load(), s.d)
		}
		synctest.Wait()
		r.inFlight(0, 0)
	})
}
