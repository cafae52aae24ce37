package scenario_test

import (
	"fmt"
	"testing"

	"github.com/capguard/capguard/loadtest/scenario"
)

// proofs are the scenarios that the guard is held to, each with how many seeds on its own back-end. On the other variants of the back-end
// fewer are enough to see that nothing was fitted to one width.
var proofs = []struct {
	name  string
	seeds int
	quick bool // also in short runs and under the race detector, with one seed
}{
	{"S1a", 5, false},
	{"S1b", 5, false},
	{"S1c", 5, true},
	{"S2/1.2", 5, false},
	{"S2/2", 5, true},
	{"S2/5", 5, false},
	{"S2/10", 5, false},
	{"S3a", 5, false},
	{"S3b", 5, false},
	{"S4", 5, false},
	{"S5", 5, true},
	{"S7", 5, false},
	{"S8", 5, false},
	{"S10", 5, false},
	{"S11a", 5, false},
	{"S11b", 5, false},
	{"S13", 5, true},
	{"S14", 5, false},
	{"S15a", 5, false},
	{"S15b", 5, false},
	{"S16", 5, false},
	{"S17", 5, false},
	{"S19", 5, false},
}

// variantSeeds is how many seeds a variant is played with.
const variantSeeds = 3

// missed are the wants that the guard does not keep with every seed yet, and what the worst seed comes to instead. The medians keep them.
// Who mends one takes it off the list: the test fails until then.
var missed = map[string]float64{
	"S5 W=32 goodput >= 0.920": 0.86, // one of three: work alone takes 200 ms there, and 250 are good
}

// TestProofs plays every scenario with the guard as it is by default, in front of every variant of the back-end, and wants of it what the
// scenario wants.
func TestProofs(t *testing.T) {
	quick := testing.Short() || raced
	for _, p := range proofs {
		if quick && !p.quick {
			continue
		}
		for _, v := range scenario.Variants {
			seeds := variantSeeds
			if v == scenario.Base {
				seeds = p.seeds
			}
			if quick {
				seeds = 1
			}
			s := variant(t, p.name, v)
			if s == nil {
				continue
			}
			t.Run(p.name+" "+v.String(), func(t *testing.T) {
				t.Parallel()
				hold(t, judge(t, s, v, seeds, ours()), quick)
			})
		}
	}
}

// hold checks that all wants are kept, but for the worst seed of those that are known to be missed.
func hold(t *testing.T, rep scenario.Report, quick bool) {
	t.Helper()
	for _, f := range rep.Wants {
		worst, known := missed[fmt.Sprintf("%s %v %v", rep.Scenario, rep.Variant, f.Want)]
		switch {
		case f.Kept() && known && !quick:
			t.Errorf("%v is kept now: take it off the list of the missed", f)
		case f.Kept():
		case known && f.Least > 0 && f.Median >= f.Least && f.Worst >= worst:
		case known && f.Least == 0 && f.Median <= f.Most && f.Worst <= worst:
		default:
			t.Errorf("%v\n%v", f, rep)
		}
	}
}

// variant returns a scenario on a variant of its back-end; nil if it has no such one.
func variant(t *testing.T, name string, v scenario.Variant) *scenario.Scenario {
	t.Helper()
	base, err := scenario.Select(name)
	if err != nil || len(base) != 1 {
		t.Fatalf("%q names %d scenarios: %v", name, len(base), err)
	}
	if s, ok := v.Apply(base[0]); ok {
		return &s
	}
	return nil
}

// TestEveryScenarioIsProved keeps a scenario from being forgotten.
func TestEveryScenarioIsProved(t *testing.T) {
	proved := map[string]bool{}
	for _, p := range proofs {
		proved[p.name] = true
	}
	for _, s := range scenario.All() {
		if !proved[s.Name] {
			t.Errorf("nothing holds the guard to %s", s.Name)
		}
	}
}
