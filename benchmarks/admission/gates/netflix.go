package gates

import (
	"math/rand/v2"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/netflix"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

// netflixes are the three laws at their defaults and tuned. Tuned is what their builders offer to those who know the back-end: its
// workers, and that 100 ms, five service times, are a bad sign.
func netflixes() []virtual.Maker {
	law := func(name string, fresh func() netflix.Law) virtual.Maker {
		return balanced(name, false, func() limiter { return law{netflix.New(fresh())} })
	}
	random := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
	return []virtual.Maker{
		law("Gradient2", func() netflix.Law { return netflix.Windowed(netflix.NewGradient2()) }),
		law("Gradient2 tuned", func() netflix.Law {
			g := netflix.NewGradient2()
			g.Initial, g.Min, g.QueueSize = workers, 1, netflix.SquareRoot
			return netflix.Windowed(g)
		}),
		law("Vegas", func() netflix.Law { return netflix.NewVegas(random()) }),
		law("Vegas tuned", func() netflix.Law {
			v := netflix.NewVegas(random())
			v.Initial, v.Max = workers, 200
			return netflix.Windowed(v)
		}),
		law("AIMD", func() netflix.Law { return netflix.NewAIMD() }),
		law("AIMD tuned", func() netflix.Law {
			a := netflix.NewAIMD()
			a.Initial, a.Min, a.Timeout = workers, 1, 100*time.Millisecond
			return netflix.Windowed(a)
		}),
	}
}

// law is a limiter of package netflix.
type law struct{ *netflix.Limiter }

func (l law) acquire(now time.Time) (release func(time.Time, guard.Outcome), ok bool) {
	p, ok := l.Acquire(now)
	return func(now time.Time, o guard.Outcome) { p.Release(now, dropped(o)) }, ok
}

// dropped takes timeouts and push-back for drops, and ignores that nobody was there.
func dropped(o guard.Outcome) netflix.Outcome {
	switch o {
	case guard.Success:
		return netflix.Success
	case guard.Overload:
		return netflix.Dropped
	}
	return netflix.Ignored
}

func (l law) limit() float64 { return float64(l.Limit()) }
