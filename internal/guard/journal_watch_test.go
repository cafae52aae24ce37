package guard_test

import (
	"errors"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

func (r rig) watch(f guard.Filter, perSecond int) *guard.Watcher {
	r.Helper()
	w, err := r.Watch(f, perSecond)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(w.Close)
	return w
}

func TestAWatcherIsToldWhatItWants(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		r.pass(call)
		all, acme := r.watch(guard.Filter{}, 10), r.watch(guard.Filter{Tenant: "acme"}, 10)
		d := r.refuse(call, guard.LimitReached)
		r.refuse(guard.Call{Method: check, Feature: "report", Tenant: "acme"}, guard.FeatureOff)
		came, skipped := all.Take()
		if len(came) != 2 || skipped != 0 || came[0].Decision != d || came[1].Call.Tenant != "acme" {
			r.Errorf("all are %+v, and %d skipped", came, skipped)
		}
		if came, _ := acme.Take(); len(came) != 1 || came[0].Decision.Reason != guard.FeatureOff {
			r.Errorf("those of acme are %+v", came)
		}
		if came, skipped := all.Take(); len(came) != 0 || skipped != 0 {
			r.Errorf("taken twice: %+v, %d", came, skipped)
		}
	})
}

// A watcher who wants one tenant is told all of its refusals, however many others there are; and every refusal is told or counted.
func TestAWatcherInAFlood(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		rare, fast := r.watch(guard.Filter{Tenant: "rare"}, 10), r.watch(guard.Filter{}, 100)
		slow := r.watch(guard.Filter{}, 10) // that does not read
		var told, skipped [2]int
		for range 10 {
			n := r.flood(5_000, time.Second, func(i int) guard.Call {
				c := reporting(i)
				if i%1000 == 0 {
					c.Tenant = "rare"
				}
				return c
			})
			for i, w := range []*guard.Watcher{rare, fast} {
				came, s := w.Take()
				told[i], skipped[i] = told[i]+len(came), skipped[i]+int(s)
			}
			if got := told[1] + skipped[1]; got%n != 0 {
				r.Fatalf("%d told and %d skipped of %d a second", told[1], skipped[1], n)
			}
		}
		if told[0] != 50 || skipped[0] != 0 {
			r.Errorf("of the rare tenant %d are told and %d skipped, want 50 and 0", told[0], skipped[0])
		}
		if told[1] < 1000 || told[1] > 1100 {
			r.Errorf("%d are told in ten seconds, want about 100 a second and one burst", told[1])
		}
		if came, skipped := slow.Take(); len(came) != 20 || len(came)+int(skipped) != 50_000 {
			r.Errorf("the slow one is told %d, and %d skipped", len(came), skipped)
		}
	})
}

func TestTooManyWatchers(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		var first *guard.Watcher
		for i := range 16 {
			if w := r.watch(guard.Filter{}, 1); i == 0 {
				first = w
			}
		}
		if _, err := r.Watch(guard.Filter{}, 1); !errors.Is(err, guard.ErrTooManyWatchers) {
			r.Errorf("the 17th is told %v", err)
		}
		first.Close()
		r.watch(guard.Filter{}, 1)
		r.off("report")
		r.refuse(reporting(0), guard.FeatureOff)
		if came, skipped := first.Take(); len(came)+int(skipped) != 0 {
			r.Errorf("a closed one is told %+v", came)
		}
	})
}

// Rates outside the bounds are taken into them.
func TestTheRateOfAWatcherIsBounded(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		least, most := r.watch(guard.Filter{}, -5), r.watch(guard.Filter{}, 1<<40)
		for range 1000 {
			r.refuse(reporting(0), guard.FeatureOff)
		}
		a, _ := least.Take()
		b, _ := most.Take()
		if len(a) != 1 || len(b) != guard.MaxWatchRate {
			r.Errorf("%d and %d are told at once, want 1 and %d", len(a), len(b), guard.MaxWatchRate)
		}
	})
}
