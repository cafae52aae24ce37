package core_test

import (
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/core"
)

// Each contestant must do what the table says: an admission that refuses, or a refusal that admits, would measure another thing.
func TestContestants(t *testing.T) {
	for _, c := range core.Contestants() {
		t.Run(c.Name, func(t *testing.T) {
			if c.Admit != nil && share(c.Admit()) < 1 {
				t.Error("its Admit refuses")
			}
			if c.Refuse != nil && share(c.Refuse()) > 0.01 {
				t.Error("its Refuse admits")
			}
		})
	}
}

func share(call func() bool) float64 {
	admitted := 0
	for range 1000 {
		if call() {
			admitted++
		}
	}
	return float64(admitted) / 1000
}

func TestRoundsTellsWhoDecidesOtherwise(t *testing.T) {
	all := []core.Contestant{core.Contestants()[0], {Name: "liar", Refuse: func() func() bool { return func() bool { return true } }}}
	if _, err := core.Refused.Rounds(all, 2, 1, time.Millisecond); err == nil {
		t.Error("a refusal that admits was measured")
	}
}

func TestRoundsMeasures(t *testing.T) {
	costs, err := core.Admitted.Rounds(core.Contestants()[:2], 2, 3, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(costs) != 2 || costs[0].Floor != 1 || costs[1].Least <= 0 || costs[1].Time < costs[1].Least || costs[1].Floor <= 0 {
		t.Errorf("costs are %+v", costs)
	}
}

func TestKindLeavesOutWhoHasNoSuchCalls(t *testing.T) {
	for name, want := range map[string]bool{core.Floor: true, "guard": false, "guard, limit": true, "gobreaker": true} {
		has := slices.ContainsFunc(core.Refused.Of(core.Contestants()), func(c core.Contestant) bool { return c.Name == name })
		if has != want {
			t.Errorf("%s has refusals: %v, want %v", name, has, want)
		}
	}
}
