package scenario

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Want is what a guard has to reach: one of Least and Most.
type Want struct {
	Metric Metric
	Window Window // that it is about; zero is the measured one of the scenario
	// Classes are those that it is about, by name; none is all.
	Classes []string
	Least   float64 // 0 is no bound from below
	Most    float64 // in force if Least is 0
	// AnyWidth tells that it holds on every Variant.
	AnyWidth bool
}

// Figure is one measure over several seeds.
type Figure struct {
	Want
	Median, Worst float64
}

// Report is what several runs of one scenario came to.
type Report struct {
	Scenario, Gate string
	Variant        Variant
	Seeds          int
	Figures        []Figure // the usual ones that the scenario has, whatever it wants of them
	Wants          []Figure // in the order of the scenario
}

// Judge measures runs of one scenario, variant and gate that differ by their seeds; at least one.
func Judge(runs []*Record) Report {
	first := runs[0]
	all := make([]*measurement, len(runs))
	for i, r := range runs {
		all[i] = measured(r)
	}
	rep := Report{Scenario: first.Scenario.Name, Gate: first.Gate, Variant: first.Variant, Seeds: len(runs)}
	for _, w := range first.Scenario.usual() {
		rep.Figures = append(rep.Figures, figure(all, w))
	}
	for _, w := range first.Scenario.Wants {
		rep.Wants = append(rep.Wants, figure(all, w))
	}
	return rep
}

// usual are the figures that every report has, as far as they have a meaning in the scenario; bounds only tell which way is better.
func (s *Scenario) usual() []Want {
	list := []Want{{Metric: Goodput, Least: 1}, {Metric: WorstSecond, Least: 1}, {Metric: P99}}
	if s.Change > 0 {
		list = append(list, Want{Metric: Convergence})
	}
	if s.Heal > 0 {
		list = append(list, Want{Metric: Recovery})
	}
	return append(list, Want{Metric: FalseRefusals}, Want{Metric: Wasted}, Want{Metric: Amplification}, Want{Metric: Crashes})
}

// figure measures w in each run.
func figure(runs []*measurement, w Want) Figure {
	values := make([]float64, len(runs))
	for i, m := range runs {
		window := w.Window
		if window == (Window{}) {
			window = m.record.Scenario.Measured
		}
		values[i] = metrics[w.Metric].of(m, window, w)
	}
	slices.Sort(values)
	f := Figure{Want: w, Median: values[len(values)/2], Worst: values[len(values)-1]}
	if w.Least > 0 {
		f.Worst = values[0]
		f.Median = values[(len(values)-1)/2]
	}
	return f
}

// Kept tells whether the bound holds: for the median, and with some slack for the worst seed.
func (f Figure) Kept() bool {
	if f.Least > 0 {
		return f.Median >= f.Least-rounding && f.Worst >= f.Least-f.slack()-rounding
	}
	return f.Median <= f.Most+rounding && f.Worst <= f.Most+f.slack()+rounding
}

// rounding forgives what sums of floating point numbers lose.
const rounding = 1e-9

func (f Figure) slack() float64 {
	switch metrics[f.Metric].kind {
	case ratio:
		return 0.03
	case portion, timing:
		return f.Most / 2
	}
	return 0
}

// Kept tells whether all wants are kept.
func (r Report) Kept() bool {
	return !slices.ContainsFunc(r.Wants, func(f Figure) bool { return !f.Kept() })
}

// String returns one line: the scenario, the usual figures as median and worst seed, and which wants are kept.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %-7s %-10s", r.Scenario, r.Variant, r.Gate)
	for _, f := range r.Figures {
		if f.Metric == Crashes && f.Worst == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s %s/%s", short[f.Metric], f.write(f.Median), f.write(f.Worst))
	}
	if len(r.Wants) > 0 {
		b.WriteString(" | ")
	}
	for i, f := range r.Wants {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// short are the names of the usual figures in a line.
var short = map[Metric]string{
	Goodput: "G", WorstSecond: "sec", P99: "p99", Convergence: "conv", Recovery: "recov", FalseRefusals: "false", Wasted: "waste",
	Amplification: "amp", Crashes: "crashes",
}

// String returns what is wanted.
func (w Want) String() string {
	sign, bound := ">=", w.Least
	if w.Least == 0 {
		sign, bound = "<=", w.Most
	}
	return fmt.Sprintf("%s %s %s", w.name(), sign, w.write(bound))
}

// name returns what is measured.
func (w Want) name() string {
	name := w.Metric.String()
	if w.Window != (Window{}) {
		name += fmt.Sprintf("[%v,%v)", w.Window.From.Seconds(), w.Window.To.Seconds())
	}
	if len(w.Classes) > 0 {
		name += " " + strings.Join(w.Classes, ",")
	}
	return name
}

// String returns the median if the want is kept; if not, the worst seed and what was wanted, too.
func (f Figure) String() string {
	if f.Kept() {
		return fmt.Sprintf("ok %s %s", f.name(), f.write(f.Median))
	}
	return fmt.Sprintf("MISSED %s/%s, wants %v", f.write(f.Median), f.write(f.Worst), f.Want)
}

// write returns a value in the manner of its metric.
func (w Want) write(v float64) string {
	switch metrics[w.Metric].kind {
	case portion:
		return fmt.Sprintf("%.2f%%", 100*v)
	case timing:
		if math.IsInf(v, 1) {
			return "never"
		}
		return fmt.Sprintf("%.3gs", v)
	case count:
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.3f", v)
}
