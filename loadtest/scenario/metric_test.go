package scenario_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// small is a scenario of ten seconds with two classes, at a back-end of ten calls a second that is dead slow in its fifth second.
func small(wants ...scenario.Want) *scenario.Scenario {
	b := fragile.Default()
	b.Workers, b.ServiceTime, b.CV = 1, 100*time.Millisecond, 0
	b.Slow = []fragile.Phase{{From: 4 * time.Second, To: 5 * time.Second, Factor: 2}}
	return &scenario.Scenario{
		Name: "small", Replicas: []fragile.Settings{b},
		Classes: []scenario.Class{
			{Name: "high", Weight: 1, Rate: loadtest.Steady(4)},
			{Name: "low", Weight: 1, Criticality: guard.Sheddable, Rate: loadtest.Steady(4)},
		},
		Duration: 10 * time.Second, Measured: scenario.Window{To: 10 * time.Second},
		Change: 2 * time.Second, Heal: 5 * time.Second, Objective: 250 * time.Millisecond, Timeout: time.Second, Wants: wants,
	}
}

// wants is one want of every metric, none of which can be missed.
func wants() []scenario.Want {
	var list []scenario.Want
	for m := scenario.Goodput; m <= scenario.OpenRefusal; m++ {
		list = append(list, scenario.Want{Metric: m, Most: math.Inf(1)})
	}
	return list
}

// perSecond returns a record in which calls of both classes come by turns, n in each second; good tells which are good, the others
// are refused when they come.
func perSecond(s *scenario.Scenario, n int, good func(second, i int) bool) *scenario.Record {
	r := scenario.NewRecord(s, scenario.Base, "hand", 1)
	for second := range 10 {
		for i := range n {
			at := time.Duration(second)*time.Second + time.Duration(i)*time.Second/time.Duration(n)
			q := scenario.Request{Class: i % 2, Due: at, Done: at, Refused: true}
			a := scenario.Attempt{Class: i % 2, Made: at, Sent: -1, Ended: at, Fate: scenario.Shed}
			if good(second, i) {
				q.Done, q.Good, q.Refused = at+50*time.Millisecond, true, false
				a.Sent, a.Ended, a.Fate = at, q.Done, scenario.Served
				r.Work(at, q.Done, q.Done)
			}
			r.Requests, r.Attempts = append(r.Requests, q), append(r.Attempts, a)
		}
	}
	return r
}

func TestMeasures(t *testing.T) {
	type want map[scenario.Metric]float64
	for _, tc := range []struct {
		name   string
		record *scenario.Record
		want   want
	}{
		{"all that is offered is good", perSecond(small(wants()...), 4, func(int, int) bool { return true }), want{
			scenario.Goodput: 1, scenario.WorstSecond: 1, scenario.P99: 0.05, scenario.Convergence: 0, scenario.Recovery: 0,
			scenario.FalseRefusals: 0, scenario.Wasted: 0, scenario.Amplification: 1, scenario.Refused: 0, scenario.Success: 1,
			scenario.Jain: 1, scenario.Gap: 0, scenario.Inversions: 0, scenario.Dispatched: 4, scenario.Rate: 4,
		}},
		{"twice what is possible is offered, half is good but in the third second", perSecond(small(wants()...), 20, func(second, i int) bool {
			return second != 2 && i%2 == 0 && (second != 4 || i%4 == 0)
		}), want{
			scenario.Goodput: 85.0 / 95, scenario.WorstSecond: 0, scenario.Convergence: 0.9, scenario.Recovery: 0,
			scenario.Refused: 115.0 / 200, scenario.Amplification: 85.0 / 200, scenario.Success: 85.0 / 200, scenario.Share: 1,
			scenario.Jain: 0.5, scenario.Gap: 1, scenario.Inversions: 0,
		}},
		{"the low class is served before the high one", perSecond(small(wants()...), 20, func(second, i int) bool { return i%2 == 1 }), want{
			scenario.Inversions: 0, // a refusal at once has no while in which another was admitted
			scenario.Gap:        1,
		}},
		{"nothing is good", perSecond(small(wants()...), 4, func(int, int) bool { return false }), want{
			scenario.Goodput: 0, scenario.Convergence: math.Inf(1), scenario.FalseRefusals: 1, scenario.P99: 0, scenario.Jain: 0,
		}},
	} {
		rep := scenario.Judge([]*scenario.Record{tc.record})
		for m, want := range tc.want {
			if got := rep.Wants[m].Median; math.Abs(got-want) > 0.001 && got != want {
				t.Errorf("%s: %v is %v, want %v", tc.name, m, got, want)
			}
		}
	}
}

// TestInversion: a critical call waits, a sheddable one is sent meanwhile, and the critical one is refused.
func TestInversion(t *testing.T) {
	r := scenario.NewRecord(small(scenario.Want{Metric: scenario.Inversions}), scenario.Base, "hand", 1)
	r.Requests = []scenario.Request{
		{Class: 0, Due: time.Second, Done: 2 * time.Second, Refused: true},
		{Class: 0, Due: 3 * time.Second, Done: 4 * time.Second, Refused: true},
	}
	r.Attempts = []scenario.Attempt{{Class: 1, Made: time.Second, Sent: 1500 * time.Millisecond, Ended: 2 * time.Second}}
	if got := scenario.Judge([]*scenario.Record{r}).Wants[0].Median; got != 0.5 {
		t.Errorf("%v of the critical calls were passed over, want a half", got)
	}
}

func TestWastedWork(t *testing.T) {
	r := scenario.NewRecord(small(scenario.Want{Metric: scenario.Wasted}), scenario.Base, "hand", 1)
	r.Work(time.Second, 2*time.Second, 1750*time.Millisecond) // a quarter is for nobody
	r.Work(time.Second, 2*time.Second, time.Hour)
	if got := scenario.Judge([]*scenario.Record{r}).Wants[0].Median; math.Abs(got-0.125) > 1e-9 {
		t.Errorf("%v of the work is wasted, want an eighth", got)
	}
}

// TestMedianAndWorst: the median has to keep the bound, the worst seed has some slack.
func TestMedianAndWorst(t *testing.T) {
	runs := func(goodSeconds ...int) (runs []*scenario.Record) {
		for _, n := range goodSeconds {
			s := small(scenario.Want{Metric: scenario.Success, Least: 0.9}, scenario.Want{Metric: scenario.Refused, Most: 0.1})
			runs = append(runs, perSecond(s, 4, func(second, _ int) bool { return second < n }))
		}
		return runs
	}
	for _, tc := range []struct {
		name string
		runs []*scenario.Record
		want [2]bool
	}{
		{"all keep it", runs(9, 9, 9), [2]bool{true, true}},
		{"the worst misses it by far", runs(9, 10, 8), [2]bool{false, false}},
		{"the median misses it", runs(8, 8, 10), [2]bool{false, false}},
	} {
		rep := scenario.Judge(tc.runs)
		if got := [2]bool{rep.Wants[0].Kept(), rep.Wants[1].Kept()}; got != tc.want {
			t.Errorf("%s: kept %v, want %v: %v", tc.name, got, tc.want, rep)
		}
	}
	close := scenario.Figure{Want: scenario.Want{Metric: scenario.Goodput, Least: 0.97}, Median: 0.97, Worst: 0.941}
	if !close.Kept() {
		t.Errorf("%v: a ratio may be 0.03 less in the worst seed", close)
	}
	slow := scenario.Figure{Want: scenario.Want{Metric: scenario.Recovery, Most: 3}, Median: 3, Worst: 4.6}
	if slow.Kept() {
		t.Errorf("%v: a time may be half more in the worst seed, not more", slow)
	}
}

func TestSelect(t *testing.T) {
	for name, want := range map[string]int{"S1": 3, "S2": 4, "S10": 1, "S2/10": 1, "S20": 3, "S21c": 1} {
		if list, err := scenario.Select(name); err != nil || len(list) != want {
			t.Errorf("%s selects %d scenarios, want %d: %v", name, len(list), want, err)
		}
	}
	if _, err := scenario.Select("S1", "S99"); err == nil {
		t.Error("S99 was found")
	}
}

// TestAllAreSound: every scenario can be played, on every variant, and no name is taken twice.
func TestAllAreSound(t *testing.T) {
	names := map[string]bool{}
	for _, base := range slices.Concat(scenario.All(), scenario.Whole()) {
		if names[base.Name] {
			t.Errorf("two scenarios are named %s", base.Name)
		}
		names[base.Name] = true
		for _, v := range scenario.Variants {
			s, ok := v.Apply(base)
			if !ok {
				continue
			}
			for _, r := range s.Replicas {
				if err := r.Validate(); err != nil {
					t.Errorf("%s %v: %v", s.Name, v, err)
				}
			}
			if len(s.Wants) == 0 && v == scenario.Base || s.Measured.To > s.Duration || s.Story == "" {
				t.Errorf("%s %v wants nothing or measures nothing", s.Name, v)
			}
			for _, c := range s.Classes {
				if err := c.Rate.Validate(); err != nil || c.Weight < 0 || c.Weight == 0 && s.Clients == 0 || c.Method == "" {
					t.Errorf("%s %v: class %s: %v", s.Name, v, c.Name, err)
				}
			}
		}
	}
}

// TestVariantsLeaveTheirScenarioAlone: a Variant changes a copy.
func TestVariantsLeaveTheirScenarioAlone(t *testing.T) {
	base, _ := scenario.Select("S2/2")
	for _, v := range scenario.Variants[1:] {
		v.Apply(base[0])
	}
	if got := base[0].Replicas[0].Workers; got != 8 || base[0].Replicas[0].Collapse == 0 {
		t.Errorf("the scenario has %d workers now", got)
	}
}
