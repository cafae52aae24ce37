package guard_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// wide has room for all that a benchmark does at once, whatever the limit learns.
func wide() guard.Settings {
	s := guard.Default()
	s.Limit.Law, s.Limit.Initial = "fixed", 1000
	s.Breaker.SlowAfter = 0
	return s
}

func switched(percent float64) *guard.Guard {
	g := guard.New(wide())
	g.SetFeatures(map[string]guard.Feature{"report": {Percent: percent, Why: "INC-1", Who: "alice"}})
	return g
}

func tagged() guard.Call { return guard.Call{Method: "/shop.Stock/Check", Feature: "report"} }

// The floor under any decision, to compare the others with in the same run: what an admitted call can not do without, two locks, two
// readings of the clock, and two look-ups of a name.
func BenchmarkFloor(b *testing.B) {
	var mu sync.Mutex
	methods, features, c, start := map[string]int{"/shop.Stock/Check": 1}, map[string]int{"report": 1}, tagged(), time.Now()
	var sum time.Duration
	for b.Loop() {
		mu.Lock()
		sum += time.Since(start) + time.Duration(methods[c.Method]+features[c.Feature])
		mu.Unlock()
		mu.Lock()
		sum += time.Since(start)
		mu.Unlock()
	}
	if sum == 0 {
		b.Error("the clock stands")
	}
}

// One admitted call through flag, deadline, breaker, limit and statistics.
func BenchmarkAdmitDone(b *testing.B) {
	g, ctx := switched(100), b.Context()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, _ := g.Admit(ctx, tagged())
			p.Done(guard.Success)
		}
	})
	b.Run("deadline", func(b *testing.B) {
		b.ReportAllocs()
		c := tagged()
		c.Deadline = time.Now().Add(time.Hour)
		for b.Loop() {
			p, _ := g.Admit(ctx, c)
			p.Done(guard.Success)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p, _ := g.Admit(ctx, tagged())
				p.Done(guard.Success)
			}
		})
	})
}

// refuse runs a benchmark of calls that are all refused for one reason.
func refuse(b *testing.B, g *guard.Guard, want guard.Reason) {
	ctx := b.Context()
	if _, d := g.Admit(ctx, tagged()); d.Reason != want {
		b.Fatalf("reason is %v, want %v", d.Reason, want)
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.Admit(ctx, tagged())
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.Admit(ctx, tagged())
			}
		})
	})
}

func BenchmarkRefuseFlag(b *testing.B) { refuse(b, switched(0), guard.FeatureOff) }

// The limit is reached and nobody may wait.
func BenchmarkRefuseLimit(b *testing.B) {
	s := wide()
	s.Limit.Initial, s.Queue.MaxWait = 1, 0
	g := guard.New(s)
	g.Admit(b.Context(), tagged())
	refuse(b, g, guard.LimitReached)
}

func BenchmarkRefuseBreaker(b *testing.B) {
	g := guard.New(wide())
	g.ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
	refuse(b, g, guard.BreakerOpen)
}

// The choice between endpoints, beside BenchmarkAdmitDone, which has one.
func BenchmarkEndpoints(b *testing.B) {
	for _, n := range []int{2, 3, 16} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			g, ctx := switched(100), b.Context()
			for range n {
				g.AddEndpoint("e").SetState(guard.Ready)
			}
			for b.Loop() {
				p, _ := g.Admit(ctx, tagged())
				p.Done(guard.Success)
			}
		})
	}
}
