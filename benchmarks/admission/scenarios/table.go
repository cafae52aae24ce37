package scenarios

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/capguard/capguard/benchmarks/admission/gates"
	"github.com/capguard/capguard/benchmarks/admission/picture"
	"github.com/capguard/capguard/loadtest/scenario"
)

// columns are the measures of a table, in their order.
var columns = []scenario.Metric{
	scenario.Goodput, scenario.WorstSecond, scenario.P99, scenario.Convergence, scenario.Recovery, scenario.FalseRefusals,
	scenario.Amplification,
}

// Glance writes the medians of the goodput: a line for each scenario, a column for each gate. The best that are online are bold.
func Glance(byScenario [][]Result) string {
	var b strings.Builder
	b.WriteString("| scenario |")
	for _, r := range byScenario[0] {
		fmt.Fprintf(&b, " %s |", short(r.Gate))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(byScenario[0])) + "\n")
	for _, all := range byScenario {
		fmt.Fprintf(&b, "| %s, %s |", all[0].Scenario, all[0].Story)
		best := median(slices.MinFunc(all, onlineFirst))
		for _, r := range all {
			b.WriteString(" " + bold(median(r), online(r.Gate) && median(r) == best) + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func median(r Result) string {
	f, _ := r.figure(scenario.Goodput)
	return figure(scenario.Goodput, f.Median)
}

// onlineFirst orders those that could have been chosen before by Better, and before those that could not.
func onlineFirst(a, b Result) int {
	if online(a.Gate) != online(b.Gate) {
		return map[bool]int{true: -1, false: 1}[online(a.Gate)]
	}
	return Better(a, b)
}

// short is a gate's name without what differs from scenario to scenario.
func short(gate string) string {
	if online(gate) {
		return gate
	}
	return "static, hindsight"
}

func bold(s string, yes bool) string {
	if yes {
		return "**" + s + "**"
	}
	return s
}

// Table writes all measures of all results, as median / worst seed.
func Table(byScenario [][]Result) string {
	var b strings.Builder
	b.WriteString("| scenario | gate |")
	for _, m := range columns {
		fmt.Fprintf(&b, " %s |", m)
	}
	b.WriteString("\n| --- | --- |" + strings.Repeat(" ---: |", len(columns)) + "\n")
	for _, all := range byScenario {
		for i, r := range all {
			name := r.Scenario
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(&b, "| %s | %s |", name, bold(r.Gate, r.Gate == gates.Ours))
			for _, m := range columns {
				fmt.Fprintf(&b, " %s |", both(r, m))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// Widths writes the goodput of each gate on every variant, as median / worst seed, and the least of the medians, a line for each scenario.
func Widths(byScenario [][]Result) string {
	var b strings.Builder
	b.WriteString("| scenario | gate |")
	for _, v := range scenario.Variants {
		fmt.Fprintf(&b, " %s |", v)
	}
	b.WriteString(" least |\n| --- | --- |" + strings.Repeat(" ---: |", len(scenario.Variants)+1) + "\n")
	for _, all := range byScenario {
		for _, gate := range names(all) {
			least := math.Inf(1)
			fmt.Fprintf(&b, "| %s | %s |", all[0].Scenario, gate)
			for _, v := range scenario.Variants {
				i := slices.IndexFunc(all, func(r Result) bool { return r.Variant == v && r.Gate == gate })
				if i < 0 {
					b.WriteString(" – |")
					continue
				}
				f, _ := all[i].figure(scenario.Goodput)
				least = min(least, f.Median)
				fmt.Fprintf(&b, " %s |", both(all[i], scenario.Goodput))
			}
			fmt.Fprintf(&b, " %.3f |\n", least)
		}
	}
	return b.String()
}

// names returns the gates of some results, each once.
func names(all []Result) (gates []string) {
	for _, r := range all {
		if !slices.Contains(gates, r.Gate) {
			gates = append(gates, r.Gate)
		}
	}
	return gates
}

// both writes a measure as median / worst seed.
func both(r Result, m scenario.Metric) string {
	f, ok := r.figure(m)
	if !ok {
		return "–"
	}
	return figure(m, f.Median) + " / " + figure(m, f.Worst)
}

func figure(m scenario.Metric, v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "never"
	case m == scenario.P99:
		return fmt.Sprintf("%.0f ms", v*1000)
	case m == scenario.Convergence || m == scenario.Recovery:
		return fmt.Sprintf("%.1f s", v)
	case m == scenario.FalseRefusals:
		return fmt.Sprintf("%.2f %%", v*100)
	case m == scenario.Amplification:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Pictures draws one picture for each scenario, the guard beside the best rival, into a folder, and returns the Markdown that shows them
// from a page one folder above.
func Pictures(folder string, byScenario [][]Result) (string, error) {
	var b strings.Builder
	for _, all := range byScenario {
		i := slices.IndexFunc(all, func(r Result) bool { return r.Gate == gates.Ours })
		if i < 0 {
			continue
		}
		runs := []picture.Run{all[i].Course}
		if rival, ok := bestRival(all); ok {
			runs = append(runs, rival.Course)
		}
		name := all[0].Scenario
		file := strings.ReplaceAll(name, "/", "-") + ".svg"
		if err := picture.Draw(filepath.Join(folder, file), name, runs...); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "![%s, %s](%s/%s)\n", name, all[0].Story, filepath.Base(folder), file)
	}
	return b.String(), nil
}
