package core

import (
	"github.com/go-kratos/aegis/circuitbreaker"
	"github.com/go-kratos/aegis/circuitbreaker/sre"
	"github.com/go-kratos/aegis/ratelimit"
	"github.com/go-kratos/aegis/ratelimit/bbr"
)

// aegises are of github.com/go-kratos/aegis. Its breaker refuses by lot, and a refusal is marked as a failure, as its middleware does it.
// Its BBR refuses only on a busy processor, so here every processor counts as busy, and none for admissions.
var aegises = []Contestant{
	{
		Name: "aegis sre",
		Admit: func() func() bool {
			b := sre.NewBreaker()
			return func() bool { return ask(b, true) }
		},
		Refuse: func() func() bool {
			b := sre.NewBreaker()
			for range 100_000 {
				ask(b, false)
			}
			return func() bool { return ask(b, false) }
		},
	},
	{
		Name: "aegis bbr",
		Admit: func() func() bool {
			l := bbr.NewLimiter(bbr.WithCPUThreshold(never))
			return func() bool { return pass(l) }
		},
		Refuse: func() func() bool {
			l := bbr.NewLimiter(bbr.WithCPUThreshold(0))
			for range 2 {
				if _, err := l.Allow(); err != nil {
					panic(err)
				}
			}
			return func() bool { return pass(l) }
		},
	},
}

func ask(b circuitbreaker.CircuitBreaker, well bool) bool {
	ok := b.Allow() == nil
	if ok && well {
		b.MarkSuccess()
	} else {
		b.MarkFailed()
	}
	return ok
}

func pass(l *bbr.BBR) bool {
	done, err := l.Allow()
	if err != nil {
		return false
	}
	done(ratelimit.DoneInfo{})
	return true
}
