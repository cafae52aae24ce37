package demo

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
)

// The load. The back-end can do 400 units of work a second; together the two ask for 500.
const (
	feature    = "recs"
	baseRate   = 200 // calls of one unit a second
	recsRate   = 100 // calls of recsWeight units a second
	recsWeight = 3
	// objective is what an answer in time is: long beside the 20 ms of a unit of work, so that the story is much the same on a machine that
	// is busy with other things.
	objective = 500 * time.Millisecond
)

// settings of the back-end: brittle, and after a crash sooner back than the preset.
func settings() fragile.Settings {
	s := fragile.Brittle()
	s.Crash.Restart = 3 * time.Second
	return s
}

// plan is the base load, with the feature from calm on, for a duration or, if that is 0, until the end of the context.
func plan(calm, duration time.Duration) loadtest.Plan {
	return loadtest.Plan{
		Classes: []loadtest.Class{
			{
				Name: "base", Method: fragilev1.StockService_Check_FullMethodName, Request: &fragilev1.CheckRequest{Sku: "kettle"},
				Rate: loadtest.Steady(baseRate), Objective: objective,
			},
			{
				Name: feature, Method: fragilev1.StockService_Recommend_FullMethodName,
				Request: &fragilev1.RecommendRequest{Sku: "kettle", Weight: recsWeight},
				Rate:    loadtest.Steady(0).Step(calm, recsRate), Objective: objective,
				Feature: feature, Criticality: guard.Sheddable,
			},
		},
		Duration: duration,
	}
}

// summary is what became of the load of one act.
type summary struct {
	base, recs   loadtest.Tally
	crashes      uint64
	busy, wasted time.Duration
	late         time.Duration // how late calls were begun, 99th percentile
}

// run puts a load on cc, tells of it and of the back-end once a second, and sums up. status adds a word on the guard; it may be nil.
func (d *demo) run(ctx context.Context, cc grpc.ClientConnInterface, b *plant, p loadtest.Plan, status func() string) (summary, error) {
	d.show(header(status != nil))
	last := b.Stats()
	r, err := loadtest.Run(ctx, cc, p, func(s loadtest.Second) {
		if s.To-s.From < time.Second/2 || p.Duration > 0 && s.From >= p.Duration-time.Second/2 {
			return // what is left after the last whole second makes no figures per second
		}
		now := b.Stats()
		line := row(s, now)
		if status != nil {
			line += status()
		}
		d.show(line)
		d.tell(last, now)
		last = now
	})
	if err != nil {
		return summary{}, err
	}
	st := b.Stats()
	return summary{
		base: r.Classes[0].Tally, recs: r.Classes[1].Tally,
		crashes: st.Crashes, busy: st.Busy, wasted: st.Wasted, late: r.Lateness.Quantile(0.99),
	}, nil
}

// answered writes what part of the calls was answered in time; those that the end of the act cut off do not count.
func answered(t *loadtest.Tally) string {
	all := t.Offered - t.Cut
	return fmt.Sprintf("%d of %d (%s)", t.Good, all, percent(float64(t.Good), float64(all)))
}

// tell says what has happened to the back-end.
func (d *demo) tell(last, now fragile.Stats) {
	switch {
	case now.Crashes > last.Crashes && last.Crashes == 0:
		d.say("The back-end HAS CRASHED: more than %d calls were waiting in it. It has to start again.", settings().Crash.Above)
	case now.Crashes > last.Crashes:
		d.say("The back-end HAS CRASHED again.")
	case last.Down && !now.Down:
		d.say("The back-end is up again, slow at first, because its cache is empty.")
	}
}

// header names the columns of row.
func header(guarded bool) string {
	h := fmt.Sprintf("%6s  %-30s  %-27s  %s", "", "base calls a second", feature+" calls a second", "calls at the")
	if guarded {
		h += "        guard"
	}
	return h + fmt.Sprintf("\n%6s  %9s %9s %10s  %9s %8s %8s  %12s", "", "sent", "in time", "p99", "sent", "in time", "refused", "back-end")
}

// row writes the figures of one second.
func row(s loadtest.Second, b fragile.Stats) string {
	base, recs := &s.Classes[0], &s.Classes[1]
	per := func(n uint64) string { return fmt.Sprintf("%.0f", float64(n)/(s.To-s.From).Seconds()) }
	p99 := "-"
	if base.Latency.Count() > 0 {
		p99 = fmt.Sprintf("%d ms", base.Latency.Quantile(0.99).Milliseconds())
	}
	there := fmt.Sprintf("%d", b.Running+b.Queued)
	if b.Down {
		there = "DOWN"
	}
	return fmt.Sprintf("%4.0f s  %9s %9s %10s  %9s %8s %8s  %12s", s.To.Seconds(), per(base.Offered), per(base.Good), p99,
		per(recs.Offered), per(recs.Good), per(recs.Refusals()), there)
}

func percent(n, all float64) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*n/all)
}
