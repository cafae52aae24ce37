package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/fragile"
)

// The methods of the calls; both are asked of capguard.fragile.v1.StockService in real time.
const (
	check     = "/capguard.fragile.v1.StockService/Check"
	watch     = "/capguard.fragile.v1.StockService/Watch"
	recommend = "/capguard.fragile.v1.StockService/Recommend"
)

// All returns every scenario that is about admission, in the order of the specification. Those of Whole are about more.
func All() []Scenario {
	return slices.Concat(transparency(), overload(), firstSeconds(), trouble(), storms(), replicas(), mixtures(), people(), streams())
}

// Select returns the scenarios whose names are in the list of names, or begin with one of them: S2 is all cases of S2. None named is All.
func Select(names ...string) ([]Scenario, error) {
	var chosen []Scenario
	for _, name := range names {
		before := len(chosen)
		for _, s := range slices.Concat(All(), Whole()) {
			if rest, ok := strings.CutPrefix(s.Name, name); ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
				chosen = append(chosen, s)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("there is no scenario %q", name)
		}
	}
	if len(names) == 0 {
		return All(), nil
	}
	return chosen, nil
}

// basic returns a scenario of the usual back-end, clients and objective, in which one class of calls follows rate.
func basic(name, story string, rate loadtest.Schedule, duration float64, measured Window) Scenario {
	return Scenario{
		Name:      name,
		Story:     story,
		Replicas:  []fragile.Settings{fragile.Default()},
		Classes:   []Class{{Name: "all", Method: check, Weight: 1, Rate: rate}},
		Duration:  seconds(0, duration).To,
		Measured:  measured,
		Objective: 250 * time.Millisecond,
		Timeout:   time.Second,
	}
}

// with returns s after a change.
func with(s Scenario, change func(*Scenario)) Scenario {
	change(&s)
	return s
}

// slow makes the first replica slower for a while.
func slow(s *Scenario, factor, from, to float64) {
	w := seconds(from, to)
	s.Replicas[0].Slow = []fragile.Phase{{From: w.From, To: w.To, Factor: factor}}
}

// at is a moment of a scenario, in seconds.
func at(second float64) time.Duration { return seconds(second, second).From }

// transparency is S1: below capacity a guard is not to be noticed.
func transparency() []Scenario {
	calm := func(name string, load float64) Scenario {
		s := basic(name, fmt.Sprintf("%.0f %% load", load*100), loadtest.Steady(400*load), 60, seconds(10, 60))
		s.Oracle = Offered
		return s
	}
	return []Scenario{
		with(calm("S1a", 0.7), func(s *Scenario) {
			s.Wants = []Want{{Metric: Goodput, Least: 0.999}, {Metric: FalseRefusals, Most: 0.0005}}
		}),
		with(calm("S1b", 0.9), func(s *Scenario) {
			s.Wants = []Want{{Metric: Goodput, Least: 0.995}, {Metric: FalseRefusals, Most: 0.005}}
		}),
		with(basic("S1c", "two calls a second for ten minutes", loadtest.Steady(2), 600, seconds(60, 600)), func(s *Scenario) {
			s.Replicas[0].CV = 1.5
			s.Oracle = Offered
			s.Wants = []Want{{Metric: Refused, Most: 0}}
		}),
	}
}

// overload is S2: a step to k times the capacity.
func overload() (all []Scenario) {
	for _, k := range []float64{1.2, 2, 5, 10} {
		s := basic(fmt.Sprintf("S2/%v", k), fmt.Sprintf("a step to %v times the capacity", k),
			loadtest.Steady(200).Step(at(20), 400*k), 60, seconds(20, 60))
		s.Change = at(20)
		s.Wants = []Want{
			{Metric: Goodput, Least: 0.97}, {Metric: WorstSecond, Least: 0.85}, {Metric: P99, Most: 0.1},
			{Metric: Convergence, Most: 1}, {Metric: Wasted, Most: 0.01},
		}
		all = append(all, s)
	}
	return all
}

// firstSeconds is S3: a guard that knows nothing yet; and S4, a surge of the season.
func firstSeconds() []Scenario {
	start := basic("S3a", "starts into ten times the capacity", loadtest.Steady(4000), 20, seconds(0, 20))
	start.Wants = []Want{
		{Metric: Goodput, Least: 0.96}, {Metric: Goodput, Window: seconds(0, 2), Least: 0.85}, {Metric: WorstSecond, Least: 0.80},
	}
	again := basic("S3b", "the guard restarts in five times the capacity", loadtest.Steady(200).Step(at(20), 2000), 60, seconds(20, 60))
	again.Restart, again.Change = at(30), at(30)
	again.Wants = []Want{
		{Metric: Goodput, Least: 0.96}, {Metric: Goodput, Window: seconds(30, 32), Least: 0.85},
		{Metric: WorstSecond, Window: seconds(30, 60), Least: 0.80},
	}
	surge := loadtest.Steady(200).Ramp(at(10), 200).Ramp(at(40), 4000).Step(at(60), 200)
	season := basic("S4", "the load rises to ten times the capacity, and drops", surge, 90, seconds(10, 90))
	season.Heal = at(60)
	season.Wants = []Want{
		{Metric: Goodput, Least: 0.98}, {Metric: WorstSecond, Least: 0.85}, {Metric: Success, Window: seconds(61, 90), Least: 1},
	}
	return []Scenario{start, again, season}
}

// trouble is S5, S7 and S8: a back-end that becomes slower for reasons of its own.
func trouble() []Scenario {
	steps := basic("S5", "the capacity falls below the load, and returns", loadtest.Steady(320), 90, seconds(10, 90))
	slow(&steps, 2.5, 30, 60)
	steps.Change, steps.Heal = at(30), at(60)
	steps.Wants = []Want{
		{Metric: Goodput, Least: 0.97}, {Metric: Convergence, Most: 3}, {Metric: WorstSecond, Least: 0.5},
		{Metric: Goodput, Window: seconds(62, 90), Least: 0.99},
	}
	external := basic("S7", "four times slower, but the capacity suffices", loadtest.Steady(250), 120, seconds(40, 120))
	external.Replicas[0].Workers, external.Replicas[0].Knee, external.Without = 200, 400, []Variant{Narrow, Wide}
	slow(&external, 4, 40, 80)
	external.Objective, external.Timeout, external.Oracle = 500*time.Millisecond, 2*time.Second, Offered
	external.Wants = []Want{{Metric: Goodput, Least: 0.99}, {Metric: Refused, Most: 0.005}}
	pauses := basic("S8", "stops for 300 ms every ten seconds", loadtest.Steady(300), 90, seconds(10, 90))
	pauses.Replicas[0].Pause = fragile.Pause{First: at(15), Every: at(10), Length: 300 * time.Millisecond}
	pauses.Oracle = Hindsight
	pauses.Wants = []Want{{Metric: Goodput, Least: 0.975}, {Metric: WorstSecond, Least: 0.65}}
	return []Scenario{steps, external, pauses}
}

// storms is S10, S11 and S13: what comes after a trigger, when callers try again and the back-end dies.
func storms() []Scenario {
	storm := basic("S10", "retries after a slow spell keep it overloaded", loadtest.Steady(300), 120, seconds(70, 120))
	slow(&storm, 5, 60, 70)
	storm.Retry = Retry{Most: 4, PauseMin: 25 * time.Millisecond, PauseMax: 75 * time.Millisecond, Within: 3 * time.Second}
	storm.Oracle, storm.Heal = Offered, at(70)
	storm.Wants = []Want{
		{Metric: Goodput, Window: seconds(72, 120), Least: 0.99, AnyWidth: true}, {Metric: Amplification, Most: 1.1, AnyWidth: true},
	}
	crash := basic("S11a", "three times the capacity would kill it", loadtest.Steady(200).Step(at(20), 1200), 120, seconds(20, 120))
	crash.Replicas = []fragile.Settings{fragile.Brittle()}
	crash.Retry = Retry{Most: 2, PauseMin: 50 * time.Millisecond, PauseMax: 150 * time.Millisecond}
	crash.Change = at(20)
	crash.Wants = []Want{{Metric: Goodput, Least: 0.97}, {Metric: Crashes, Most: 0, AnyWidth: true}}
	killed := with(crash, func(s *Scenario) {
		s.Name, s.Story = "S11b", "killed under three times the capacity, and cold when it is back"
		s.Kills, s.Change, s.Heal = []Kill{{At: at(60)}}, 0, at(65)
		s.Wants = []Want{
			{Metric: Return, Most: 3}, {Metric: Goodput, Window: seconds(68, 120), Least: 0.9}, {Metric: Crashes, Most: 1, AnyWidth: true},
		}
	})
	hole := basic("S13", "answers nothing in time for twenty seconds", loadtest.Steady(300), 120, seconds(50, 120))
	slow(&hole, 60, 30, 50)
	hole.Oracle, hole.Heal = Offered, at(50)
	hole.Wants = []Want{
		{Metric: Goodput, Least: 0.95}, {Metric: Recovery, Most: 3}, {Metric: Dispatched, Window: seconds(30, 50), Most: 20},
	}
	return []Scenario{storm, crash, killed, hole}
}

// replicas is S14: one of three is bad.
func replicas() []Scenario {
	s := basic("S14", "one of three replicas is ten times slower", loadtest.Steady(700), 90, seconds(30, 90))
	s.Replicas = []fragile.Settings{fragile.Default(), fragile.Default(), fragile.Default()}
	slow(&s, 10, 30, 60)
	s.Oracle, s.Change, s.Heal = Offered, at(30), at(60)
	s.Wants = []Want{{Metric: Goodput, Least: 0.97}, {Metric: Readmission, Most: 5}}
	return []Scenario{s}
}

// mixtures is S15: calls that differ in what they cost.
func mixtures() []Scenario {
	step := loadtest.Steady(200).Step(at(20), 800)
	wide := basic("S15a", "service times that vary widely, twice the capacity", step, 90, seconds(20, 90))
	wide.Replicas[0].CV = 2
	wide.Objective, wide.Oracle, wide.Change = 500*time.Millisecond, Hindsight, at(20)
	wide.Wants = []Want{{Metric: Goodput, Least: 0.95}}
	methods := basic("S15b", "every tenth call costs thirty times as much, twice the capacity", step, 90, seconds(20, 90))
	methods.Classes = []Class{
		{Name: "light", Method: check, Weight: 0.25, Rate: loadtest.Steady(180).Step(at(20), 720)},
		{Name: "heavy", Method: recommend, Weight: 7.75, Rate: loadtest.Steady(20).Step(at(20), 80)},
	}
	methods.Replicas[0].CV = 0
	methods.Without = []Variant{Wide} // there a heavy call alone takes longer than the objective
	methods.Oracle, methods.Change = Hindsight, at(20)
	methods.Wants = []Want{{Metric: Goodput, Least: 0.95}, {Metric: Gap, Most: 0.1}}
	return []Scenario{wide, methods}
}

// people is S16 and S17: who is served when not all can be.
func people() []Scenario {
	ranks := basic("S16", "four times the capacity, a tenth of it critical", nil, 60, seconds(20, 60))
	ranks.Classes = []Class{
		{Name: "critical", Method: check, Weight: 1, Rate: loadtest.Steady(160)},
		{Name: "sheddable plus", Method: check, Weight: 1, Criticality: guard.SheddablePlus, Rate: loadtest.Steady(0).Step(at(20), 720)},
		{Name: "sheddable", Method: check, Weight: 1, Criticality: guard.Sheddable, Rate: loadtest.Steady(0).Step(at(20), 720)},
	}
	ranks.Change = at(20)
	ranks.Wants = []Want{
		{Metric: Success, Classes: []string{"critical"}, Least: 0.999}, {Metric: Goodput, Least: 0.97}, {Metric: Inversions, Most: 0.001},
		{Metric: Share, Classes: []string{"sheddable"}, Most: 0.02},
	}
	noise := basic("S17", "one of five tenants offers seven times the capacity", nil, 60, seconds(20, 60))
	noise.Classes = nil
	victims := []string{"a", "b", "c", "d"}
	for _, tenant := range victims {
		noise.Classes = append(noise.Classes, Class{Name: tenant, Method: check, Weight: 1, Tenant: tenant, Rate: loadtest.Steady(60)})
	}
	flood := loadtest.Steady(0).Step(at(20), 3000)
	noise.Classes = append(noise.Classes, Class{Name: "hog", Method: check, Weight: 1, Tenant: "hog", Rate: flood})
	noise.Change = at(20)
	noise.Wants = []Want{
		{Metric: Success, Classes: victims, Least: 0.99}, {Metric: Jain, Classes: victims, Least: 0.99},
		{Metric: Rate, Classes: []string{"hog"}, Least: 0.9 * 160}, {Metric: Goodput, Least: 0.97},
	}
	return []Scenario{ranks, noise}
}

// streams is S19: long streams beside unary calls.
func streams() []Scenario {
	s := basic("S19", "500 streams with a message a second, and unary calls up to twice the capacity", nil, 120, seconds(30, 120))
	talk := &Stream{Lifetime: 2 * time.Minute, Every: time.Second, Weight: 0.25}
	s.Classes = []Class{
		{Name: "unary", Method: check, Weight: 1, Rate: loadtest.Steady(250).Step(at(30), 800)},
		// 200 in the first two seconds, and then as many as end.
		{Name: "streams", Method: watch, Weight: 1, Rate: loadtest.Steady(100).Step(at(2), 200.0/120), Stream: talk},
		{Name: "more streams", Method: watch, Weight: 1, Rate: loadtest.Steady(0).Step(at(60), 60).Step(at(65), 0), Stream: talk},
	}
	s.Change = at(30)
	s.Wants = []Want{
		{Metric: Goodput, Least: 0.97}, {Metric: Resets, Most: 0, AnyWidth: true}, {Metric: MessageP99, Most: 0.1},
		{Metric: OpenRefusal, Most: 0.05}, {Metric: FalseRefusals, Window: seconds(3, 30), Most: 0.005},
	}
	return []Scenario{s}
}
