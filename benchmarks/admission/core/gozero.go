package core

import (
	"github.com/zeromicro/go-zero/core/breaker"
	"github.com/zeromicro/go-zero/core/load"
)

// gozeros are of github.com/zeromicro/go-zero. Its limiters of rate (core/limit) are left out: they count in Redis. Its breaker refuses by
// lot, and lets one call a second pass. Its shedder refuses only on a busy processor, so here every processor counts as busy. It
// writes a line of log for every refusal, which is switched off. For admissions no processor counts as busy.
var gozeros = []Contestant{
	{
		Name: "go-zero breaker",
		Admit: func() func() bool {
			b := breaker.NewBreaker()
			return func() bool { return brake(b, true) }
		},
		Refuse: func() func() bool {
			b := breaker.NewBreaker()
			for range 100_000 {
				brake(b, false)
			}
			return func() bool { return brake(b, false) }
		},
	},
	{
		Name: "go-zero shedder",
		Admit: func() func() bool {
			s := load.NewAdaptiveShedder(load.WithCpuThreshold(never))
			return func() bool {
				p, err := s.Allow()
				if err != nil {
					return false
				}
				p.Pass()
				return true
			}
		},
		Refuse: crowded,
	},
}

// never is a threshold that no processor reaches: its usage is in thousandths.
const never = 1001

func brake(b breaker.Breaker, well bool) bool {
	p, err := b.Allow()
	if err != nil {
		return false
	}
	if well {
		p.Accept()
	} else {
		p.Reject("broken")
	}
	return true
}

// crowded returns the call of a shedder that has a hundred calls in flight, and remembers as many.
func crowded() func() bool {
	s := load.NewAdaptiveShedder(load.WithCpuThreshold(0))
	var out []load.Promise
	for range 200 {
		p, _ := s.Allow()
		out = append(out, p)
	}
	for _, p := range out[100:] {
		p.Fail()
	}
	return func() bool {
		_, err := s.Allow()
		return err == nil
	}
}
