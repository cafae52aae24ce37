package gates

import (
	"reflect"
	"time"

	"github.com/go-kratos/aegis/ratelimit"
	"github.com/go-kratos/aegis/ratelimit/bbr"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

// idle is a share of processors so large that the guard's own machine counts as idle, however busy the test keeps it.
const idle = 1e9

// bbrDefault is aegis' BBR as it comes, before a back-end on another machine: the processor that it looks at is not the one that suffers.
func bbrDefault() virtual.Maker {
	return balanced("BBR", true, func() limiter { return &bbrLimiter{BBR: bbr.NewLimiter(bbr.WithCPUQuota(idle))} })
}

// workers is how many the back-end has, for those who are tuned to it.
const workers = 8

// bbrTuned sees the processor of the back-end, as if it stood beside it, and at once, where the module would average over many seconds: it
// is as busy as the share of the workers that have something to do. A threshold that always takes it for busy would be worse: the limit
// that is learnt from the first few calls lets no more pass, and is never left again.
func bbrTuned() virtual.Maker {
	return balanced("BBR tuned", true, func() limiter {
		b := &bbrLimiter{BBR: bbr.NewLimiter(bbr.WithCPUThreshold(busy)), binds: true}
		// There is no option for another processor than one's own. The field is a func() int64, in thousandths.
		field := reflect.ValueOf(b.BBR).Elem().FieldByName("cpu")
		*(*func() int64)(field.Addr().UnsafePointer()) = func() int64 { return busy * min(b.inFlight, workers) / workers }
		return b
	})
}

// busy is the usage of a processor that has no time left.
const busy = 1000

// bbrLimiter is aegis' BBR. It has one way to end a call, whatever became of it; that is how Kratos' middleware ends them, too.
type bbrLimiter struct {
	*bbr.BBR
	inFlight int64
	binds    bool
}

func (b *bbrLimiter) acquire(time.Time) (release func(time.Time, guard.Outcome), ok bool) {
	done, err := b.Allow()
	if err != nil {
		return nil, false
	}
	b.inFlight++
	return func(time.Time, guard.Outcome) {
		b.inFlight--
		done(ratelimit.DoneInfo{})
	}, true
}

func (b *bbrLimiter) limit() float64 {
	if !b.binds {
		return 0
	}
	return float64(b.Stat().MaxInFlight)
}
