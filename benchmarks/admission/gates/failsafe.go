package gates

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/priority"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

// failsafes are failsafe-go's adaptive limiter at its defaults, which have no queue; tuned to the workers of the back-end, with a fifth of
// headroom above the calls in flight instead of five times as many, which is best of what was tried; and with a queue.
func failsafes(ctx context.Context, settle func()) []virtual.Maker {
	one := func(name string, fresh func() adaptivelimiter.AdaptiveLimiter[any]) virtual.Maker {
		return balanced(name, true, func() limiter { return adaptive{fresh()} })
	}
	return []virtual.Maker{
		one("failsafe-go", adaptivelimiter.NewWithDefaults[any]),
		one("failsafe-go tuned", func() adaptivelimiter.AdaptiveLimiter[any] {
			return adaptivelimiter.NewBuilder[any]().WithLimits(1, 4*workers, workers).WithMaxLimitFactor(1.2).Build()
		}),
		failsafeQueue(ctx, settle),
	}
}

type adaptive struct {
	adaptivelimiter.AdaptiveLimiter[any]
}

func (a adaptive) acquire(time.Time) (release func(time.Time, guard.Outcome), ok bool) {
	p, ok := a.TryAcquirePermit()
	return func(_ time.Time, o guard.Outcome) { give(p, o) }, ok
}

func (a adaptive) limit() float64 { return float64(a.Limit()) }

// give records successes and drops all else, as its documentation shows for use by hand.
func give(p adaptivelimiter.Permit, o guard.Outcome) {
	if o == guard.Success {
		p.Record()
	} else {
		p.Drop()
	}
}

// failsafeQueue is its adaptive limiter as its documentation configures it: limits from 1 to 100, beginning at 20, a queue of two to three
// times the limit, and a prioritizer that is calibrated every second and shared by the limiters of all replicas.
func failsafeQueue(ctx context.Context, settle func()) virtual.Maker {
	return virtual.Maker{Name: "failsafe-go queue", Clocked: true, Make: func(w *virtual.World) virtual.Gate {
		p := adaptivelimiter.NewPrioritizer()
		p.ScheduleCalibrations(ctx, time.Second)
		line := &lined{ctx: ctx, settle: settle, random: rand.New(rand.NewPCG(1, 2))}
		for range w.Replicas {
			line.limiters = append(line.limiters,
				adaptivelimiter.NewBuilder[any]().WithLimits(1, 100, 20).WithQueueing(2, 3).BuildPrioritized(p))
		}
		return line
	}}
}

// lined lets calls wait in the limiters' queues. Whoever it woke has spoken before it returns, so that the same seed gives the same run.
type lined struct {
	ctx      context.Context
	settle   func()
	random   *rand.Rand
	limiters []adaptivelimiter.PriorityLimiter[any]
}

// ticket is what belongs to a call.
type ticket struct {
	cancel context.CancelFunc
	permit adaptivelimiter.Permit
}

// priorities of the criticalities, from the last to be shed to the first.
var priorities = map[guard.Criticality]priority.Priority{
	guard.CriticalPlus:  priority.VeryHigh,
	guard.Critical:      priority.High,
	guard.SheddablePlus: priority.Low,
	guard.Sheddable:     priority.VeryLow,
}

// Arrive implements virtual.Gate, as the methods below. Only a call that has to wait costs a goroutine.
func (l *lined) Arrive(c *virtual.Call) {
	i := l.fewest()
	if c.Stream {
		c.Admit(i)
		return
	}
	one, p := l.limiters[i], priorities[c.Criticality]
	level := p.MinLevel() + l.random.IntN(p.MaxLevel()-p.MinLevel()+1) // a lot within the priority, as the limiter itself draws it
	if !one.CanAcquirePermitWithLevel(level) {
		c.Refuse()
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	t := &ticket{cancel: cancel}
	c.State = t
	acquire := func() {
		var err error
		if t.permit, err = one.AcquirePermitWithLevel(ctx, level); err != nil {
			cancel()
			c.Refuse()
			return
		}
		c.Admit(i)
	}
	if one.Inflight() < one.Limit() {
		acquire()
	} else {
		go acquire() // It ends when a permit comes free, the caller is gone, or the run is over.
		l.settle()
	}
}

// fewest returns the replica with the fewest calls at it or in line for it.
func (l *lined) fewest() int {
	calls := make([]int, len(l.limiters))
	for i, one := range l.limiters {
		calls[i] = one.Inflight() + one.Queued()
	}
	return fewest(calls)
}

// Gone takes a call out of line.
func (l *lined) Gone(c *virtual.Call) {
	c.State.(*ticket).cancel() // Only who has a ticket waits.
	l.settle()
}

// Ended gives the permit back.
func (l *lined) Ended(c *virtual.Call, o guard.Outcome, _ time.Duration) {
	t, ok := c.State.(*ticket)
	if !ok {
		return // a stream
	}
	t.cancel()
	give(t.permit, o)
	l.settle()
}

// Limit is the sum of all.
func (l *lined) Limit() (sum float64) {
	for _, one := range l.limiters {
		sum += float64(one.Limit())
	}
	return sum
}
