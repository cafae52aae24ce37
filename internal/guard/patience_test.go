package guard_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// Slow sheddable calls held all slots for longer than critical ones might wait: one in fifteen of these timed out in line, though they were
// half of the capacity. A call that outranks some who were admitted of late waits for them to end; others do not.
func TestWhoOutranksOthersWaitsForThem(t *testing.T) {
	s := fixed(1)
	s.Queue.MaxWait = 100 * time.Millisecond
	inBubble(t, s, func(r rig) {
		slow := r.pass(guard.Call{Method: check, Criticality: guard.Sheddable})
		critical := r.ask(r.Context(), call)
		like := r.ask(r.Context(), guard.Call{Method: check, Criticality: guard.Sheddable})
		sleep(150 * time.Millisecond)
		if like.look(); !like.done || like.d.Reason != guard.QueueTimeout {
			t.Errorf("one of the same rank: %+v", like.d)
		}
		sleep(100 * time.Millisecond)
		slow.Done(guard.Success)
		r.waiting(0)
		if !critical.look().d.Admitted {
			t.Errorf("the critical one: %+v", critical.d)
		}
		critical.p.Done(guard.Success)
	})
}

// Without anybody beneath it a critical call waits no longer than others.
func TestAmongEqualsNobodyWaitsLonger(t *testing.T) {
	s := fixed(1)
	s.Queue.MaxWait = 100 * time.Millisecond
	inBubble(t, s, func(r rig) {
		for range 100 {
			r.run(1, call, time.Millisecond, guard.Success)
		}
		defer r.pass(call).Done(guard.Ignored)
		next := r.ask(r.Context(), call)
		sleep(101 * time.Millisecond)
		if next.look(); !next.done || next.d.Reason != guard.QueueTimeout {
			t.Errorf("after %v: %+v", next.after, next.d)
		}
	})
}
