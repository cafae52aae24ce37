package scenarios_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/gates"
	"github.com/capguard/capguard/benchmarks/admission/page"
	"github.com/capguard/capguard/benchmarks/admission/scenarios"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

var (
	table  = flag.Bool("table", false, "play the scenarios, and print the tables")
	chosen = flag.String("scenarios", "", "which, as S2,S11a; none is all")
	judged = flag.String("gates", "", "which gates, by the beginnings of their names, as guard,Gradient2,static; none is all")
	seeds  = flag.Int("seeds", 5, "how many seeds")
	widths = flag.String("widths", "2,8,32,0", "those back-ends: numbers of workers, or 0 without collapse; none is none")
	spread = flag.String("portable", "guard,Gradient2", "which gates are shown on other back-ends, too, by the beginnings of their names")
	write  = flag.String("write", "", "`folder` of the documentation, which takes tables (benchmarks.md) and pictures (scenarios/)")
)

func list(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }

// play plays a scenario under the gate of a name, in a bubble if it needs one.
func play(t *testing.T, s *scenario.Scenario, v scenario.Variant, seed uint64, gate string) (r *scenario.Record) {
	t.Helper()
	find := func(ctx context.Context) virtual.Maker {
		all := gates.All(ctx, synctest.Wait)
		return all[slices.IndexFunc(all, func(m virtual.Maker) bool { return m.Name == gate })]
	}
	if m := find(t.Context()); !m.Clocked {
		return virtual.Play(s, v, seed, m, nil)
	}
	synctest.Test(t, func(t *testing.T) { r = virtual.Play(s, v, seed, find(t.Context()), synctest.Wait) })
	return r
}

// trial is one scenario on one variant, under several seeds.
type trial struct {
	s        *scenario.Scenario
	v        scenario.Variant
	foreseen []float64 // what hindsight reaches, by seed, where it is the oracle
}

func newTrial(s scenario.Scenario, v scenario.Variant) *trial {
	x := &trial{s: &s, v: v, foreseen: make([]float64, *seeds)}
	for i := range x.foreseen {
		r := scenario.NewRecord(x.s, v, "", uint64(i+1))
		virtual.Foresee(r)
		x.foreseen[i] = r.Hindsight
	}
	return x
}

// judge plays the first n seeds with a player, and measures them.
func (x *trial) judge(n int, player func(seed uint64) *scenario.Record) scenarios.Result {
	var runs []*scenario.Record
	for i, hindsight := range x.foreseen[:n] {
		r := player(uint64(i + 1))
		r.Hindsight = hindsight
		runs = append(runs, r)
	}
	return scenarios.Judge(runs)
}

func (x *trial) gate(t *testing.T, name string) scenarios.Result {
	return x.judge(*seeds, func(seed uint64) *scenario.Record { return play(t, x.s, x.v, seed, name) })
}

// finalists is how many static limits are played with all seeds: those that were best with the first.
const finalists = 5

// static returns the result of the static limit that was best over the seeds.
func (x *trial) static() scenarios.Result {
	type choice struct {
		virtual.Maker
		scenarios.Result
	}
	judged := func(m virtual.Maker, n int) choice {
		return choice{m, x.judge(n, func(seed uint64) *scenario.Record { return virtual.Play(x.s, x.v, seed, m, nil) })}
	}
	better := func(a, b choice) int { return scenarios.Better(a.Result, b.Result) }
	var all []choice
	for _, limit := range virtual.Limits(x.s) {
		all = append(all, judged(virtual.Static(limit, false), 1), judged(virtual.Static(limit, true), 1))
	}
	slices.SortStableFunc(all, better)
	all = all[:min(finalists, len(all))]
	for i, c := range all {
		all[i] = judged(c.Maker, *seeds)
	}
	return slices.MinFunc(all, better).Result
}

// static is the name that chooses the static limits of hindsight.
const static = "static"

// names returns the gates to judge: no guard, hindsight, the rivals, the guard.
func names() (wanted []string) {
	var all []string
	for _, m := range gates.All(context.Background(), nil) {
		all = append(all, m.Name)
	}
	all = slices.Insert(all, 1, static)
	return begun(all, *judged)
}

// begun returns those of all names that begin with one of a list; all if that is empty.
func begun(all []string, beginnings string) []string {
	if beginnings == "" {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		return !slices.ContainsFunc(list(beginnings), func(begin string) bool { return strings.HasPrefix(name, begin) })
	})
}

// TestTable prints how all gates fare; it judges nothing.
func TestTable(t *testing.T) {
	if !*table {
		t.Skip("make scenarios plays them")
	}
	all, err := scenario.Select(list(*chosen)...)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	results, portable := make([][]scenarios.Result, len(all)), make([][]scenarios.Result, len(all))
	t.Run("play", func(t *testing.T) {
		for i, s := range all {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				results[i] = inFront(t, s)
				portable[i] = onWidths(t, s, results[i])
				fmt.Fprintf(os.Stderr, "%s after %.0f s\n", s.Name, time.Since(start).Seconds())
			})
		}
	})
	report(t, results, portable)
}

// inFront returns the results of all gates on the back-end of the scenario.
func inFront(t *testing.T, s scenario.Scenario) (results []scenarios.Result) {
	x := newTrial(s, scenario.Base)
	for _, name := range names() {
		if name == static {
			results = append(results, x.static())
		} else {
			results = append(results, x.gate(t, name))
		}
	}
	return results
}

// onWidths returns those of some gates on all back-ends that are wanted; on the base it is what is already known.
func onWidths(t *testing.T, s scenario.Scenario, known []scenarios.Result) (results []scenarios.Result) {
	for _, width := range list(*widths) {
		v, err := scenario.ParseVariant(width)
		if err != nil {
			t.Fatal(err)
		}
		other, ok := v.Apply(s)
		if v == scenario.Base || !ok {
			continue
		}
		x := newTrial(other, v)
		for _, name := range begun(names(), *spread) {
			results = append(results, x.gate(t, name))
		}
	}
	known = slices.DeleteFunc(slices.Clone(known), func(r scenarios.Result) bool { return len(begun([]string{r.Gate}, *spread)) == 0 })
	return append(known, results...)
}

// report prints the tables, and writes them down where that is wanted.
func report(t *testing.T, results, portable [][]scenarios.Result) {
	t.Helper()
	head := fmt.Sprintf("%s, %d seeds, `make scenarios`.\n\n", time.Now().Format(time.DateOnly), *seeds)
	text := head + "#### Goodput at a glance: medians, the best that could be chosen before in bold\n\n" + scenarios.Glance(results) +
		"\n#### All measures: median / worst seed\n\n" + scenarios.Table(results)
	if *widths != "" {
		text += "\n#### Goodput on other back-ends, with the same configuration: median / worst seed\n\n" +
			scenarios.Widths(portable)
	}
	fmt.Print(text)
	if *write == "" {
		return
	}
	folder := filepath.Join(*write, "scenarios")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	pictures, err := scenarios.Pictures(folder, results)
	if err != nil {
		t.Fatal(err)
	}
	text += "\n#### The course of the first seed: the guard, beside it the rival with the highest goodput\n\n" + pictures
	if err := page.Write(filepath.Join(*write, "benchmarks.md"), "scenarios", text); err != nil {
		t.Fatal(err)
	}
}

// TestGates plays one overload under every gate: the ends of the scale must be where they belong, and the same seed must give the same run.
func TestGates(t *testing.T) {
	if *table {
		t.Skip("make scenarios plays them all")
	}
	all, err := scenario.Select("S2/2")
	if err != nil {
		t.Fatal(err)
	}
	s := &all[0]
	best := virtual.Best(s, scenario.Base, 1).GoodIn()
	for _, m := range gates.All(t.Context(), nil) {
		t.Run(m.Name, func(t *testing.T) {
			r := play(t, s, scenario.Base, 1, m.Name)
			switch good := r.GoodIn(); {
			case good > 1.02*best:
				t.Errorf("%.0f good calls; hindsight has %.0f", good, best)
			case m.Name == "no guard" && good > 200:
				t.Errorf("%.0f good calls without a guard: nothing was overloaded", good)
			case m.Name == gates.Ours && good < 0.8*best:
				t.Errorf("%.0f good calls under the guard; hindsight has %.0f", good, best)
			}
			if again := play(t, s, scenario.Base, 1, m.Name); again.GoodIn() != r.GoodIn() {
				t.Errorf("the same seed gave %.0f good calls, and then %.0f", r.GoodIn(), again.GoodIn())
			}
		})
	}
}

// TestGatesHearHowCallsEnd plays a black hole, in which every call times out: what becomes of the limits shows what the rivals are told.
// failsafe-go's hardly move, for it is told to drop what timed out and learns from nothing else.
func TestGatesHearHowCallsEnd(t *testing.T) {
	if *table {
		t.Skip("make scenarios plays them all")
	}
	all, err := scenario.Select("S13")
	if err != nil {
		t.Fatal(err)
	}
	const before, within = 298, 498 // bins: the hole is from 30 to 50 s
	for gate, falls := range map[string]bool{
		"Gradient2": true, "Gradient2 tuned": true, "Vegas": true, "Vegas tuned": true, "AIMD": true, "AIMD tuned": true,
		"failsafe-go": false, "failsafe-go tuned": false, "failsafe-go queue": false,
	} {
		r := play(t, &all[0], scenario.Base, 1, gate)
		if was, is := r.Samples[before].Limit, r.Samples[within].Limit; (is < 0.75*was) != falls {
			t.Errorf("%s: the limit was %v and is %v; want it to fall: %v", gate, was, is, falls)
		}
	}
}
