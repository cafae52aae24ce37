package scenario_test

import (
	"cmp"
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

var (
	names   = flag.String("scenarios", "", "which scenarios TestTable plays, as S2,S11a; none is all")
	seeds   = flag.Int("seeds", 5, "how many seeds")
	widths  = flag.String("widths", "8", "which variants: 8, 2 and 32 workers, 0 without collapse, as 2,8,32,0")
	gate    = flag.String("gate", "ours", "what stands in front: ours, none, best (the best static limit)")
	law     = flag.String("law", "", "the law of our limit; none is the default one")
	initial = flag.Int("initial", 0, "where it begins, or the fixed limit")
	maxWait = flag.Duration("max-wait", 0, "the longest wait in our line")
	series  = flag.Bool("series", false, "print the course of the first seed in steps of a second, too")
)

// ours is the guard as it is by default, but for what the flags say.
func ours() virtual.Maker {
	s := guard.Default()
	s.Limit.Law = cmp.Or(limit.Law(*law), s.Limit.Law)
	s.Limit.Initial = cmp.Or(*initial, s.Limit.Initial)
	s.Queue.MaxWait = cmp.Or(*maxWait, s.Queue.MaxWait)
	return virtual.Guard("ours", s)
}

// play plays s in a bubble if the gate needs one.
func play(t *testing.T, s *scenario.Scenario, v scenario.Variant, seed uint64, m virtual.Maker) (r *scenario.Record) {
	t.Helper()
	if m.Clocked {
		synctest.Test(t, func(*testing.T) { r = virtual.Play(s, v, seed, m, synctest.Wait) })
	} else {
		r = virtual.Play(s, v, seed, m, nil)
	}
	virtual.Foresee(r)
	return r
}

// judge plays s with some seeds.
func judge(t *testing.T, s *scenario.Scenario, v scenario.Variant, seeds int, m virtual.Maker) scenario.Report {
	t.Helper()
	runs := make([]*scenario.Record, seeds)
	for i := range runs {
		runs[i] = play(t, s, v, uint64(i+1), m)
	}
	return scenario.Judge(runs)
}

// TestTable prints what each scenario comes to; it judges nothing. Run it with -v.
func TestTable(t *testing.T) {
	if !testing.Verbose() {
		return
	}
	chosen, err := scenario.Select(strings.FieldsFunc(*names, func(r rune) bool { return r == ',' })...)
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range chosen {
		for width := range strings.SplitSeq(*widths, ",") {
			v, err := scenario.ParseVariant(width)
			if err != nil {
				t.Fatal(err)
			}
			s, ok := v.Apply(base)
			if !ok {
				continue
			}
			runs := chosenRuns(t, &s, v)
			fmt.Println(scenario.Judge(runs))
			if *series {
				course(runs[0])
			}
		}
	}
}

// chosenRuns plays s behind the gate that the flags name.
func chosenRuns(t *testing.T, s *scenario.Scenario, v scenario.Variant) (runs []*scenario.Record) {
	t.Helper()
	for seed := range uint64(*seeds) {
		switch *gate {
		case "ours":
			runs = append(runs, play(t, s, v, seed+1, ours()))
		case "none":
			runs = append(runs, play(t, s, v, seed+1, virtual.Open()))
		case "best":
			runs = append(runs, virtual.Best(s, v, seed+1))
		default:
			t.Fatalf("there is no gate %q", *gate)
		}
	}
	return runs
}

// course prints what happened, second by second.
func course(r *scenario.Record) {
	s := r.Series()
	for i := 0; i+10 <= len(s.Offered); i += 10 {
		at := r.Samples[i+9]
		fmt.Printf("  %3ds offered %5.0f good %5.0f refused %5.0f sent %5.0f supply %5.0f", i/10,
			sum(s.Offered[i:i+10]), sum(s.Good[i:i+10]), sum(s.Refused[i:i+10]), sum(s.Sent[i:i+10]), sum(s.Supply[i:i+10]))
		fmt.Printf(" | in flight %3d work %4d queued %4d limit %.0f\n", at.InFlight, at.Work, at.Queued, at.Limit)
	}
}

func sum(list []float64) (total float64) {
	for _, v := range list {
		total += v
	}
	return total
}
