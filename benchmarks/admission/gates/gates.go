// Package gates puts the rivals where the guard stands in the scenarios: each as a virtual.Maker.
//
// A limiter knows nothing of replicas. So each replica has a limiter of its own, and a call asks that of the replica with the fewest calls
// in flight, as the usual balancers choose it.
//
// What a limiter is told of the end of a call is what serves it best within its own rules; see each file. None of them hears of attempts,
// tenants or methods, because none has a notion of them. Streams pass them by, as they pass Netflix's interceptor and failsafe-go's.
//
// What this package does not do: it holds no algorithm; netflix does, and the real modules.
package gates

import (
	"context"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

// Ours is the name of the guard among the gates.
const Ours = "guard"

// All returns the gates that decide without hindsight, in the order of the tables: none, each rival at its defaults and tuned, and the
// guard at its default configuration. What they start in the background ends with ctx, which has to end inside the bubble; settle is
// synctest.Wait there.
func All(ctx context.Context, settle func()) []virtual.Maker {
	none := virtual.Open()
	none.Name = "no guard"
	makers := []virtual.Maker{none}
	makers = append(makers, netflixes()...)
	makers = append(makers, failsafes(ctx, settle)...)
	makers = append(makers, bbrDefault(), bbrTuned())
	return append(makers, virtual.Guard(Ours, guard.Default()))
}

// limiter is one rival before one replica, which never lets a call wait.
type limiter interface {
	// acquire asks for a permit, which is given back by release with how the call ended, and when.
	acquire(now time.Time) (release func(now time.Time, o guard.Outcome), ok bool)
	limit() float64
}

// instant returns a time of a run, whatever clock it is played by.
func instant(w *virtual.World) time.Time { return time.Unix(0, 0).Add(w.Now()) }

// balanced returns gates of limiters that each is made anew for a replica.
func balanced(name string, clocked bool, one func() limiter) virtual.Maker {
	return virtual.Maker{Name: name, Clocked: clocked, Make: func(w *virtual.World) virtual.Gate {
		b := &balance{world: w, inFlight: make([]int, w.Replicas)}
		for range w.Replicas {
			b.limiters = append(b.limiters, one())
		}
		return b
	}}
}

// balance is a limiter for each replica.
type balance struct {
	world    *virtual.World
	limiters []limiter
	inFlight []int
}

// Arrive implements virtual.Gate, as the methods below.
func (b *balance) Arrive(c *virtual.Call) {
	i := fewest(b.inFlight)
	if c.Stream {
		c.Admit(i)
		return
	}
	release, ok := b.limiters[i].acquire(instant(b.world))
	if !ok {
		c.Refuse()
		return
	}
	b.inFlight[i]++
	c.State = release
	c.Admit(i)
}

// Gone has nothing to do: nobody waits.
func (b *balance) Gone(*virtual.Call) {}

// Ended gives the permit back.
func (b *balance) Ended(c *virtual.Call, o guard.Outcome, _ time.Duration) {
	if c.Stream {
		return
	}
	b.inFlight[c.Replica()]--
	c.State.(func(time.Time, guard.Outcome))(instant(b.world), o)
}

// Limit is the sum of all.
func (b *balance) Limit() (sum float64) {
	for _, l := range b.limiters {
		sum += l.limit()
	}
	return sum
}

// fewest returns the index of the least number, the first of several.
func fewest(inFlight []int) (least int) {
	for i, n := range inFlight {
		if n < inFlight[least] {
			least = i
		}
	}
	return least
}
