package scenario_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest/scenario"
)

// switched returns a record in which a feature is switched off at 2 s and on at 6 s, for two clients.
func switched() *scenario.Record {
	s := small()
	s.Clients, s.Classes[1].Feature = 2, "recs"
	s.Flips = []scenario.Flip{{At: 2 * time.Second, Feature: "recs", Off: true}, {At: 6 * time.Second, Feature: "recs"}}
	r := scenario.NewRecord(s, scenario.Base, "ours", 1)
	for _, f := range s.Flips {
		at := f.At + 10*time.Millisecond
		r.Commands = append(r.Commands, scenario.Command{Flip: f, Issued: f.At, Answered: at, Clients: []time.Duration{at, at}})
	}
	return r
}

// call adds a call that reached the back-end halfway, or was refused if sent is false.
func call(r *scenario.Record, class int, made, ended time.Duration, sent bool, fate scenario.Fate) {
	a := scenario.Attempt{Class: class, Made: made, Sent: -1, Ended: ended, Fate: fate}
	if sent {
		a.Sent = (made + ended) / 2
	}
	r.Attempts = append(r.Attempts, a)
	q := scenario.Request{Class: class, Due: made, Done: ended, Good: fate == scenario.Served, Off: fate == scenario.Off}
	r.Requests = append(r.Requests, q)
}

// TestOldValues: what counts is the last call that was treated by the old value, on either side of a command.
func TestOldValues(t *testing.T) {
	const ms = time.Millisecond
	r := switched()
	call(r, 1, 1900*ms, 1980*ms, true, scenario.Served) // before the command
	call(r, 1, 1990*ms, 2090*ms, true, scenario.Served) // reached the back-end 40 ms after it
	call(r, 0, 3000*ms, 3100*ms, true, scenario.Served) // of no feature
	call(r, 1, 4000*ms, 4001*ms, false, scenario.Off)   // as it should
	call(r, 1, 6000*ms, 6030*ms, false, scenario.Off)   // 30 ms after it was on again
	call(r, 1, 6100*ms, 6200*ms, true, scenario.Served) // as it should
	call(r, 1, 7000*ms, 7100*ms, false, scenario.Shed)  // for other reasons
	near(t, "flip at the guard", one(r, scenario.Want{Metric: scenario.FlipAtGuard}), 0.040)
	late := scenario.Window{From: 5 * time.Second, To: 10 * time.Second}
	near(t, "flip back at the guard", one(r, scenario.Want{Metric: scenario.FlipAtGuard, Window: late}), 0.030)
	near(t, "flip at all clients", one(r, scenario.Want{Metric: scenario.FlipAtClients}), 0.010)
	r.Commands[1].Clients[1] = 6500 * ms
	near(t, "flip at all clients, one of which is late", one(r, scenario.Want{Metric: scenario.FlipAtClients}), 0.5)
	near(t, "success, of what is not off", one(r, scenario.Want{Metric: scenario.Success, Least: 1}), 4.0/5)
}

// TestForgottenValue: a value that is forgotten long after the command was never in force for good.
func TestForgottenValue(t *testing.T) {
	r := switched()
	call(r, 1, 5*time.Second, 5200*time.Millisecond, true, scenario.Served)
	near(t, "flip at the guard", one(r, scenario.Want{Metric: scenario.FlipAtGuard}), 3.1)
}

// TestUnheardCommand: what the guard never heard has no effect, ever.
func TestUnheardCommand(t *testing.T) {
	r := switched()
	r.Commands = r.Commands[:1]
	for _, m := range []scenario.Metric{scenario.FlipAtGuard, scenario.FlipAtClients} {
		near(t, m.String(), one(r, scenario.Want{Metric: m}), math.Inf(1))
	}
}

// TestCutByAFlip: in flight is what had reached the back-end when the command was given.
func TestCutByAFlip(t *testing.T) {
	const ms = time.Millisecond
	r := switched()
	call(r, 1, 1900*ms, 2050*ms, true, scenario.Failed)  // cut
	call(r, 0, 1900*ms, 2050*ms, true, scenario.Failed)  // of no feature
	call(r, 1, 1900*ms, 2050*ms, true, scenario.Served)  // ended well
	call(r, 1, 1000*ms, 1050*ms, true, scenario.Failed)  // long before
	call(r, 1, 1900*ms, 2050*ms, false, scenario.Failed) // not yet there
	near(t, "cut by a flip", one(r, scenario.Want{Metric: scenario.FlipCut}), 1)
}

// TestAdded: percentiles of what was served, guarded less direct.
func TestAdded(t *testing.T) {
	s := small()
	s.Classes = slices.Clone(s.Classes)
	s.Classes[1].Direct = true
	r := scenario.NewRecord(s, scenario.Base, "ours", 1)
	for i := range 100 {
		took := time.Duration(i) * time.Millisecond
		call(r, 0, time.Second, time.Second+2*took, true, scenario.Served)
		call(r, 1, time.Second, time.Second+took, true, scenario.Served)
		call(r, 1, time.Second, 9*time.Second, true, scenario.TimedOut)
	}
	near(t, "added p50", one(r, scenario.Want{Metric: scenario.AddedP50}), 0.050)
	near(t, "added p99", one(r, scenario.Want{Metric: scenario.AddedP99}), 0.099)
}
