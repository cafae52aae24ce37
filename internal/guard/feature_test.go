package guard_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

var report = guard.Call{Method: check, Feature: "report"}

func TestSwitchPositions(t *testing.T) {
	tests := []struct {
		percent     float64
		least, most int // of 30,000 calls
	}{
		{math.NaN(), 0, 0}, {math.Inf(-1), 0, 0}, {-1, 0, 0}, {0, 0, 0}, {0.0004, 0, 0},
		{0.1, 5, 70}, {20, 5_600, 6_400}, {99.9, 29_930, 29_995},
		{99.9999, 30_000, 30_000}, {100, 30_000, 30_000}, {math.Inf(1), 30_000, 30_000},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.percent), func(t *testing.T) {
			g := guard.New(fixed(1))
			g.SetFeatures(map[string]guard.Feature{"report": {Percent: test.percent}})
			passed := 0
			for range 30_000 {
				p, d := g.Admit(t.Context(), report)
				p.Done(guard.Success)
				if d.Admitted {
					passed++
				} else if dimmed := test.most > 0; dimmed != (d.Reason == guard.FeatureDimmed) {
					t.Fatalf("reason is %d", d.Reason)
				}
			}
			if passed < test.least || passed > test.most {
				t.Errorf("%d of 30,000 pass, want %d to %d", passed, test.least, test.most)
			}
		})
	}
}

// The first refusal after the operator's command, and only that, is marked; the setting is told with each.
func TestFirstRefusal(t *testing.T) {
	off := guard.Feature{Name: "report", Why: "INC-1", Who: "alice", Revision: 7, TraceID: "aa", SpanID: "bb"}
	inBubble(t, fixed(1), func(r rig) {
		for revision := range int64(2) {
			off.Revision = revision
			r.SetFeatures(map[string]guard.Feature{"report": off})
			r.SetFeatures(map[string]guard.Feature{"report": off, "other-one": {Percent: 100, Revision: revision}})
			for i := range 3 {
				if d := r.refuse(report, guard.FeatureOff); d.First != (i == 0) || d.Feature != off {
					t.Errorf("refusal %d of revision %d: %+v", i, revision, d)
				}
			}
		}
	})
}

func TestQuiesce(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		answered, ended, stuck := r.pass(report), r.pass(report), r.pass(report)
		r.pass(call) // of no feature: nobody waits for it
		if n := r.Quiesce(r.Context()); n != 0 {
			t.Errorf("%d unknown before any change", n)
		}
		r.set("report", 0)
		time.AfterFunc(time.Second, answered.Answered)
		time.AfterFunc(2*time.Second, func() { ended.Done(guard.Failure) })
		if n, took := r.quiesce(3 * time.Second); n != 1 || took != 3*time.Second {
			t.Errorf("%d are unknown after %v; want the stuck one", n, took)
		}
		time.AfterFunc(time.Second, func() { stuck.Done(guard.Ignored) })
		if n, took := r.quiesce(time.Hour); n != 0 || took != time.Second {
			t.Errorf("%d are unknown after %v", n, took)
		}
		answered.Done(guard.Success)
	})
}

func (r rig) quiesce(most time.Duration) (unknown int, took time.Duration) {
	ctx, cancel := context.WithTimeout(r.Context(), most)
	defer cancel()
	begun := time.Now()
	unknown = r.Quiesce(ctx)
	return unknown, time.Since(begun)
}

// Quiesce waits for the calls of earlier settings alone: those that pass the newest one may go on for ever, and a change of words is none.
func TestQuiesceWaitsForEarlierSettingsAlone(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.set("report", 100)
		p := r.pass(report)
		r.set("report", 100)
		if n, took := r.quiesce(time.Second); n != 0 || took != 0 {
			t.Errorf("same position: %d unknown after %v", n, took)
		}
		r.set("report", 50)
		r.set("report", 100)
		r.pass(report)
		if n, took := r.quiesce(time.Second); n != 1 || took != time.Second {
			t.Errorf("%d unknown after %v", n, took)
		}
		p.Answered()
		if n, took := r.quiesce(time.Second); n != 0 || took != 0 {
			t.Errorf("%d unknown after %v", n, took)
		}
	})
}

func TestSwitchTakenAway(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.set("report", 0)
		r.refuse(report, guard.FeatureOff)
		r.SetFeatures(nil)
		if _, d := r.Admit(r.Context(), report); !d.Admitted || d.Feature != (guard.Feature{}) {
			t.Errorf("decision is %+v", d)
		}
		r.refuse(report, guard.LimitReached) // which is not the switch's doing
		if f := r.Features()[0]; f.Passed != 2 || f.Blocked != 1 {
			t.Errorf("feature is %+v", f)
		}
	})
}

// What a feature costs: calls that are still in flight are part of it, and an idle hour leaves nothing.
func TestFeatureCost(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.set("report", 100)
		for range 20 { // 20 seconds: one long, one short call at a time
			long, short := r.pass(report), r.pass(call)
			stream := r.pass(guard.Call{Feature: "report", Stream: true})
			sleep(250 * time.Millisecond)
			short.Done(guard.Success)
			stream.Done(guard.Success)
			sleep(750 * time.Millisecond)
			long.Done(guard.Failure)
		}
		r.pass(report)
		r.pass(report)
		sleep(500 * time.Millisecond)
		got := r.Features()
		s := r.Status()
		if len(got) != 1 || !near(got[0].InFlightTime, (9+1)/9.5) || !near(s.InFlightTime, (9+9*0.25+1)/9.5) {
			t.Errorf("features are %+v; all calls have %v in flight", got, s.InFlightTime)
		}
		if !near(got[0].CallsPerSecond, (2*9+2)/9.5) || got[0].InFlight != 2 {
			t.Errorf("feature is %+v", got[0])
		}
		sleep(time.Hour)
		if got := r.Features()[0]; !near(got.InFlightTime, 2) || got.CallsPerSecond != 0 {
			t.Errorf("after an hour with two calls in flight: %+v", got)
		}
	})
}

func near(got, want float64) bool { return math.Abs(got-want) < 1e-6 }

// Invented names cost bounded memory; what is real has its own entry nevertheless.
func TestFeaturesAreBounded(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		r.set("report", 100)
		for i := range 15_000 {
			r.run(1, guard.Call{Feature: strconv.Itoa(i)}, 0, guard.Success)
		}
		names := map[string]guard.FeatureStatus{}
		for _, f := range r.Features() {
			names[f.Name] = f
		}
		if len(names) != 10_001 || names["report"].Name == "" || names["other"].CallsPerSecond == 0 {
			t.Errorf("%d features, other is %+v", len(names), names["other"])
		}
		// A call under the name of other is waited for when its feature gets a switch.
		p := r.pass(guard.Call{Feature: "late"})
		r.SetFeatures(map[string]guard.Feature{"late": {Percent: 0}})
		r.refuse(guard.Call{Feature: "late"}, guard.FeatureOff)
		if n, _ := r.quiesce(time.Second); n != 1 {
			t.Errorf("%d unknown, want the call that passed before", n)
		}
		p.Done(guard.Success)
		// When nobody uses the invented ones any more, real ones come in.
		sleep(time.Minute)
		r.run(1, guard.Call{Feature: "real"}, 0, guard.Success)
		if got := r.Features(); len(got) != 3 || got[2].Name != "real" {
			t.Errorf("features are %+v", got)
		}
	})
}

// A waiter under the name of other meets the switch that its feature got meanwhile.
func TestWaiterMeetsANewSwitch(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		for i := range 10_000 {
			r.run(1, guard.Call{Feature: strconv.Itoa(i)}, 0, guard.Success)
		}
		p := r.pass(call)
		a := r.ask(r.Context(), guard.Call{Feature: "late"})
		r.waiting(1)
		r.set("late", 0)
		r.settled(a, guard.FeatureOff, 0)
		p.Done(guard.Success)
		synctest.Wait()
		r.inFlight(0, 0)
	})
}
