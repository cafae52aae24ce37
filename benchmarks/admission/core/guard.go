package core

import (
	"context"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// guards are ours, with all that a call can pass switched on: flag, deadline, breaker, adaptive limit, tenant and statistics.
var guards = []Contestant{
	{Name: "guard", Admit: admitted},
	{Name: "guard, flag", Refuse: func() func() bool { return refused(guarded(0)) }},
	{Name: "guard, limit", Refuse: func() func() bool {
		s := guard.Default()
		s.Limit.Law, s.Limit.Initial, s.Queue.MaxWait = limit.Fixed, 1, 0
		g := guard.New(s)
		g.Admit(context.Background(), call())
		return refused(g)
	}},
	{Name: "guard, breaker", Refuse: func() func() bool {
		g := guarded(100)
		g.ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		return refused(g)
	}},
}

// guarded returns a guard at its defaults, but for a floor that the limit keeps above the goroutines of a round.
func guarded(percent float64) *guard.Guard {
	s := guard.Default()
	s.Limit.Min = 64
	g := guard.New(s)
	g.SetFeatures(map[string]guard.Feature{"report": {Percent: percent, Why: "INC-1", Who: "alice"}})
	return g
}

func call() guard.Call {
	return guard.Call{Method: "/shop.Stock/Check", Feature: "report", Tenant: "shop", Deadline: time.Now().Add(time.Hour)}
}

func admitted() func() bool {
	g, c, ctx := guarded(100), call(), context.Background()
	return func() bool {
		p, d := g.Admit(ctx, c)
		p.Done(guard.Success)
		return d.Admitted
	}
}

func refused(g *guard.Guard) func() bool {
	c, ctx := call(), context.Background()
	return func() bool {
		_, d := g.Admit(ctx, c)
		return d.Admitted
	}
}
