// Package core measures what a decision costs: by this guard, and by the libraries that one could take instead.
//
// A Contestant is one way to decide. Its Admit lets a call through and takes it back at once, with the outcome of a success; its Refuse
// turns one away. Both are what a user of the library writes around a call, no shorter. The floor is what no guard that counts can do
// without: two locks, two readings of the clock and two look-ups of a name.
//
// Measured is wall time divided by the calls of all goroutines, and what the process allocated meanwhile. Contestants take turns, each
// round begins with another, and each turn builds its contestant anew: no window of statistics grows old, and what disturbs the machine
// for a while disturbs all. Figures are medians over the rounds; ratios are formed within a round first.
//
// What this package does not do: it forwards nothing, so nothing waits and no limit binds where calls are admitted.
package core

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeromicro/go-zero/core/logx"
)

// Contestant is one way to decide on calls.
type Contestant struct {
	Name string
	// Admit and Refuse build one afresh and return a call of it, which is safe for concurrent use and tells whether it was admitted. Nil is
	// left out.
	Admit, Refuse func() (call func() bool)
}

// Floor is the name of the contestant that the others are compared with.
const Floor = "floor"

// Contestants are all, the floor first. From then on go-zero does not log.
func Contestants() []Contestant {
	logx.Disable()
	return slices.Concat([]Contestant{floor}, guards, gobreakers, failsafes, gozeros, aegises)
}

var floor = Contestant{Name: Floor, Admit: func() func() bool {
	var mu sync.Mutex
	methods, features, start := map[string]int{"/shop.Stock/Check": 1}, map[string]int{"report": 1}, time.Now()
	var sum time.Duration
	return func() bool {
		mu.Lock()
		sum += time.Since(start) + time.Duration(methods["/shop.Stock/Check"]+features["report"])
		mu.Unlock()
		mu.Lock()
		sum += time.Since(start)
		mu.Unlock()
		return true
	}
}}

// Cost is what one call costs.
type Cost struct {
	Time   time.Duration
	Least  time.Duration // of the rounds: what it costs when nothing disturbs
	Allocs float64
	Floor  float64 // Time as a multiple of the floor's, in the same round
	wrong  float64 // share of calls that were decided the other way
}

// Kind is one kind of calls: those that are admitted, or those that are refused.
type Kind struct {
	Build func(Contestant) func() (call func() bool)
	Admit bool // what a call is to come to
}

// The kinds.
var (
	Admitted = Kind{func(c Contestant) func() func() bool { return c.Admit }, true}
	Refused  = Kind{func(c Contestant) func() func() bool { return c.Refuse }, false}
)

// Of returns those of all that have calls of the kind, and the floor.
func (k Kind) Of(all []Contestant) []Contestant {
	return slices.DeleteFunc(slices.Clone(all), func(c Contestant) bool { return k.Build(c) == nil && c.Name != Floor })
}

// Rounds measures contestants, the floor first among them, under a number of goroutines, for a number of rounds in which each has one turn
// of the given length. The result has one cost for each, in their order.
func (k Kind) Rounds(all []Contestant, goroutines, rounds int, turn time.Duration) ([]Cost, error) {
	costs := make([][]Cost, len(all))
	for r := range rounds {
		for i := range all {
			i = (i + r) % len(all)
			costs[i] = append(costs[i], k.measure(all[i], goroutines, turn))
		}
		base := costs[0][r].Time
		for i := range all {
			costs[i][r].Floor = float64(costs[i][r].Time) / float64(base)
		}
	}
	out := make([]Cost, len(all))
	for i := range all {
		out[i] = median(costs[i])
		if out[i].wrong > 0.02 {
			return nil, fmt.Errorf("measure %s: %.0f %% of its calls were decided the other way", all[i].Name, 100*out[i].wrong)
		}
	}
	return out, nil
}

func (k Kind) measure(c Contestant, goroutines int, turn time.Duration) Cost {
	if c.Name == Floor {
		k = Admitted
	}
	return measure(k.Build(c)(), goroutines, turn, k.Admit)
}

// batch is how many calls a goroutine makes before it looks whether its time is up.
const batch = 64

func measure(call func() bool, goroutines int, turn time.Duration, admit bool) Cost {
	var up atomic.Bool
	var calls, wrong atomic.Int64
	work := func() {
		for !up.Load() {
			other := 0
			for range batch {
				if call() != admit {
					other++
				}
			}
			calls.Add(batch)
			wrong.Add(int64(other))
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(work)
	}
	time.Sleep(turn)
	up.Store(true)
	wg.Wait()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	n := calls.Load()
	return Cost{
		Time:   took / time.Duration(n),
		Allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		wrong:  float64(wrong.Load()) / float64(n),
	}
}

// median takes each figure's by itself.
func median(costs []Cost) Cost {
	return Cost{
		Time:   middle(costs, func(c Cost) time.Duration { return c.Time }),
		Least:  slices.MinFunc(costs, func(a, b Cost) int { return int(a.Time - b.Time) }).Time,
		Allocs: middle(costs, func(c Cost) float64 { return c.Allocs }),
		Floor:  middle(costs, func(c Cost) float64 { return c.Floor }),
		wrong:  middle(costs, func(c Cost) float64 { return c.wrong }),
	}
}

func middle[T float64 | time.Duration](costs []Cost, of func(Cost) T) T {
	var all []T
	for _, c := range costs {
		all = append(all, of(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}
