// Package scenarios writes down how the gates fare in the scenarios: tables in Markdown, and a picture of each scenario.
//
// What this package does not do: it plays nothing; its tests do, because a gate that lives by the clock has to be played in a bubble.
package scenarios

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/gates"
	"github.com/capguard/capguard/benchmarks/admission/picture"
	"github.com/capguard/capguard/loadtest/scenario"
)

// Result is what one gate came to in one scenario.
type Result struct {
	scenario.Report
	Story  string
	Course picture.Run // of the first seed
}

// Judge returns the result of runs that differ by their seeds.
func Judge(runs []*scenario.Record) Result {
	return Result{Report: scenario.Judge(runs), Story: runs[0].Scenario.Story, Course: course(runs[0])}
}

// figure returns a usual figure, if the scenario has it.
func (r Result) figure(m scenario.Metric) (f scenario.Figure, ok bool) {
	i := slices.IndexFunc(r.Figures, func(f scenario.Figure) bool { return f.Metric == m })
	if i < 0 {
		return f, false
	}
	return r.Figures[i], true
}

// Better orders results of one scenario by goodput, the better first: by the median, then by the worst seed.
func Better(a, b Result) int {
	x, _ := a.figure(scenario.Goodput)
	y, _ := b.figure(scenario.Goodput)
	return cmp.Or(cmp.Compare(y.Median, x.Median), cmp.Compare(y.Worst, x.Worst))
}

// hindsight begins the names of the gates that were chosen afterwards.
const hindsight = "static"

// online tells whether a gate could have been chosen before.
func online(gate string) bool { return !strings.HasPrefix(gate, hindsight) }

// bestRival returns the best result of a rival that is online; false if there is none.
func bestRival(all []Result) (Result, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return r.Gate == gates.Ours || !online(r.Gate) })
	if len(all) == 0 {
		return Result{}, false
	}
	return slices.MinFunc(all, Better), true
}

// course returns what a run looked like.
func course(r *scenario.Record) picture.Run {
	s := r.Series()
	run := picture.Run{Gate: r.Gate, Step: scenario.Bin, Offered: perSecond(s.Offered), Served: perSecond(s.Good)}
	for _, at := range r.Samples {
		run.InFlight = append(run.InFlight, float64(at.InFlight))
		run.Limit = append(run.Limit, at.Limit)
	}
	return run
}

// perSecond turns counts of a bin into rates, as means over a second: a bin alone is mostly chance.
func perSecond(bins []float64) []float64 {
	const n = int(time.Second / scenario.Bin)
	rates := make([]float64, len(bins))
	for i := range bins {
		near := bins[max(0, i-n/2):min(len(bins), i-n/2+n)]
		for _, v := range near {
			rates[i] += v
		}
		rates[i] *= float64(n) / float64(len(near))
	}
	return rates
}
