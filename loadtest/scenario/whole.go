package scenario

import (
	"fmt"
	"slices"

	"github.com/capguard/capguard/loadtest"
)

// recs is the feature of the heavy calls.
const recs = "recs"

// Whole returns the scenarios that are about the whole product: the library, both ports, the flags and where they are kept. Package live
// plays them; a gate alone can not be judged by them.
func Whole() []Scenario {
	return slices.Concat(killSwitch(), guardFailure(1, "S21a", "S21b"), overhead(), guardFailure(4, "S21d", "S21e"))
}

// product returns a scenario of the whole product on the back-end of the specification only.
func product(name, story string, clients int, rate loadtest.Schedule, duration float64, measured Window) Scenario {
	s := basic(name, story, rate, duration, measured)
	s.Clients, s.Without = clients, []Variant{Narrow, Wide}
	return s
}

// killSwitch is S20: an operator switches off the feature whose calls are the heavy ones. The heavy class comes on top of the other.
func killSwitch() []Scenario {
	heavy := Class{Name: "heavy", Method: recommend, Weight: 5, Rate: loadtest.Steady(40), Feature: recs}
	flips := []Flip{{At: at(20), Feature: recs, Off: true}, {At: at(40), Feature: recs}}
	wants := []Want{{Metric: FlipAtGuard, Most: 0.25}, {Metric: FlipAtClients, Most: 1}, {Metric: FlipCut}}
	steady := loadtest.Steady(760)
	calm := product("S20a", "a feature is switched off and on, in calm: 50 clients, 24 workers at 80 %", 50, steady, 60, seconds(10, 60))
	calm.Replicas[0].Workers, calm.Replicas[0].Knee = 24, 48
	calm.Classes = append(calm.Classes, heavy)
	calm.Oracle, calm.Flips = Offered, flips
	calm.Wants = append(slices.Clone(wants), Want{Metric: Success, Least: 0.995})

	flood := loadtest.Steady(200).Step(at(17), 4000)
	busy := product("S20b", "a feature is switched off and on under ten times the capacity", 50, flood, 43, seconds(17, 43))
	busy.Classes = append(busy.Classes, heavy)
	busy.Flips, busy.Change = flips, at(17)
	busy.Wants = append(slices.Clone(wants), Want{Metric: Goodput, Window: seconds(21, 40), Least: 0.97})

	lost := with(calm, func(s *Scenario) {
		s.Name, s.Story = "S20c", "a feature stays off while the admin port is gone from 15 to 25 s, and the guard from 38 to 43 s"
		s.Flips = []Flip{
			{At: at(10), Feature: recs, Off: true}, {At: at(20), Feature: recs}, // the operator tries until somebody is there
			{At: at(32), Feature: recs, Off: true}, {At: at(50), Feature: recs},
		}
		s.Outages = []Outage{{Window: seconds(15, 25), Admin: true}, {Window: seconds(38, 43)}}
		s.Wants = []Want{
			{Metric: FlipAtGuard, Most: 0.25}, {Metric: FlipCut}, {Metric: FlipAtClients, Window: seconds(10, 60), Most: 1},
			{Metric: Success, Window: seconds(10, 38), Least: 0.995},
		}
	})
	return []Scenario{calm, busy, lost}
}

// guardFailure is S21: the guard is killed, and is back after five seconds; with so many client processes, below and above the capacity.
func guardFailure(clients int, below, above string) []Scenario {
	failure := func(name string, load float64, wants ...Want) Scenario {
		story := fmt.Sprintf("%.1f times the capacity from %d client(s), and no guard from 30 to 35 s", load, clients)
		s := product(name, story, clients, loadtest.Steady(400*load), 60, seconds(20, 60))
		s.Outages, s.Heal, s.Wants = []Outage{{Window: seconds(30, 35)}}, at(35), wants
		return s
	}
	gap := Want{Metric: Goodput, Window: seconds(30, 35), Least: 0.8}
	afterwards := Want{Metric: Goodput, Window: seconds(37, 60), Least: 0.97}
	return []Scenario{failure(below, 0.7, Want{Metric: Success, Least: 0.99}), failure(above, 2, gap, afterwards)}
}

// overhead is what the guard and the library add to calls that cost no work, a thousand a second, beside the same past both of them: every
// five seconds one after the other.
func overhead() []Scenario {
	s := product("S21c", "a thousand calls a second without work, guarded and direct in turn: what is added", 1, nil, 60, seconds(10, 60))
	guarded, direct := loadtest.Steady(1000), loadtest.Steady(0)
	for t := 5.0; t < 60; t += 10 {
		guarded, direct = guarded.Step(at(t), 0).Step(at(t+5), 1000), direct.Step(at(t), 1000).Step(at(t+5), 0)
	}
	s.Classes = []Class{{Name: "guarded", Method: check, Rate: guarded}, {Name: "direct", Method: check, Rate: direct, Direct: true}}
	s.Oracle = Offered
	s.Wants = []Want{{Metric: AddedP50, Most: 0.0002}, {Metric: AddedP99, Most: 0.001}}
	return []Scenario{s}
}
