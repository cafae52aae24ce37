package guard_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

const summary = "/shop.Stock/Summary"

// learned runs calls of both methods one at a time until the guard knows that reports are heavy.
func (r rig) learned() {
	for range 40 {
		r.run(9, call, 5*time.Millisecond, guard.Success)
		r.run(1, guard.Call{Method: summary}, 500*time.Millisecond, guard.Success)
	}
}

// Reports of ten seconds come in numbers: of eight slots they get seven, and the last one serves check after check.
func TestHeavyMethodsCannotHoldItAll(t *testing.T) {
	inBubble(t, lined(8), func(r rig) {
		r.learned()
		var out []*answer
		for range 10 {
			out = append(out, r.ask(r.Context(), guard.Call{Method: summary}))
		}
		r.inFlight(7, 0)
		r.waiting(3)
		r.run(50, call, 10*time.Millisecond, guard.Success) // past the reports that wait
		r.inFlight(7, 0)
		for _, a := range out {
			if a.look(); a.d.Admitted {
				a.p.Done(guard.Success)
			}
		}
		sleep(2 * time.Second)
		for _, a := range out[7:] {
			if !a.look().d.Admitted {
				t.Errorf("a report that waited was not admitted when others ended: %+v", a.d)
			}
			a.p.Done(guard.Success)
		}
		r.inFlight(0, 0)
	})
}

// A light call in line passes the heavy ones ahead of it when they have had their share.
func TestALightCallPassesHeavyOnesInLine(t *testing.T) {
	inBubble(t, lined(8), func(r rig) {
		r.learned()
		var permits []guard.Permit
		for range 7 {
			permits = append(permits, r.pass(guard.Call{Method: summary}))
		}
		last := r.pass(call)
		heavy, light := r.ask(r.Context(), guard.Call{Method: summary}), r.ask(r.Context(), call)
		r.waiting(2)
		last.Done(guard.Success)
		r.waiting(1)
		if !light.look().d.Admitted || heavy.look().done {
			t.Errorf("light %+v, heavy %+v", light.d, heavy.d)
		}
		light.p.Done(guard.Success)
		permits[0].Done(guard.Success)
		r.waiting(0)
		if !heavy.look().d.Admitted {
			t.Errorf("heavy %+v", heavy.d)
		}
		heavy.p.Done(guard.Success)
		for _, p := range permits[1:] {
			p.Done(guard.Success)
		}
		r.inFlight(0, 0)
	})
}

// With one slot there is nothing to leave, and calls that are all alike are none of them heavy.
func TestNobodyIsHeavyAlone(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.learned()
		r.run(3, guard.Call{Method: summary}, time.Second, guard.Success)
	})
	inBubble(t, fixed(8), func(r rig) {
		r.run(50, guard.Call{Method: summary}, time.Second, guard.Success)
		for range 8 {
			defer r.pass(guard.Call{Method: summary}).Done(guard.Ignored)
		}
	})
}

// Messages of streams are quick and many. Their times were once taken into the mean of all calls, beside which every call then looked heavy,
// and an eighth of the slots stayed empty for nobody.
func TestMessagesMakeNoCallHeavy(t *testing.T) {
	inBubble(t, fixed(8), func(r rig) {
		r.run(40, call, 20*time.Millisecond, guard.Success)
		talk := r.pass(guard.Call{Method: "/shop.Stock/Talk", Stream: true})
		talk.Answered()
		for range 2000 {
			talk.Messages(1, 0)
			sleep(time.Millisecond)
			talk.Messages(0, 1)
		}
		for range 8 {
			defer r.pass(call).Done(guard.Ignored)
		}
		talk.Done(guard.Success)
	})
}
