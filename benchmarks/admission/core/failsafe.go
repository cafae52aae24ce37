package core

import (
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// failsafes are of github.com/failsafe-go/failsafe-go with its defaults: the two policies asked by hand, and composed in an Executor as its
// documentation shows. Only an outer policy's refusal is an Executor's.
var failsafes = []Contestant{
	{
		Name: "failsafe-go breaker",
		Admit: func() func() bool {
			b := circuitbreaker.NewWithDefaults[any]()
			return func() bool {
				ok := b.TryAcquirePermit()
				b.RecordSuccess()
				return ok
			}
		},
		Refuse: func() func() bool {
			b := circuitbreaker.NewWithDefaults[any]()
			b.Open()
			return b.TryAcquirePermit
		},
	},
	{
		Name: "failsafe-go limiter",
		Admit: func() func() bool {
			l := adaptivelimiter.NewWithDefaults[any]()
			return func() bool {
				p, ok := l.TryAcquirePermit()
				if ok {
					p.Record()
				}
				return ok
			}
		},
		Refuse: func() func() bool {
			l := full()
			return func() bool {
				_, ok := l.TryAcquirePermit()
				return ok
			}
		},
	},
	{
		Name: "failsafe-go breaker + limiter, executor",
		Admit: func() func() bool {
			return run(failsafe.With[any](adaptivelimiter.NewWithDefaults[any](), circuitbreaker.NewWithDefaults[any]()))
		},
		Refuse: func() func() bool {
			return run(failsafe.With[any](full(), circuitbreaker.NewWithDefaults[any]()))
		},
	},
}

func full() adaptivelimiter.AdaptiveLimiter[any] {
	l := adaptivelimiter.NewWithDefaults[any]()
	for ok := true; ok; {
		_, ok = l.TryAcquirePermit()
	}
	return l
}

func run(e failsafe.Executor[any]) func() bool {
	nothing := func() error { return nil }
	return func() bool { return e.Run(nothing) == nil }
}
