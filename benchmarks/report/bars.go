package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/capguard/capguard/benchmarks/course"
	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/rival"
)

// verdict is a bar and what a guard reached.
type verdict struct {
	bar    string
	cell   course.Cell
	atMost bool // whether the bound is from above
	bound  float64
	got    float64
	unit   string
}

// held tells whether the bar was reached.
func (v verdict) held() bool {
	if v.atMost {
		return v.got <= v.bound
	}
	return v.got >= v.bound
}

func (v verdict) String() string {
	sign, word := "≥", "**missed**"
	if v.atMost {
		sign = "≤"
	}
	if v.held() {
		word = "held"
	}
	got := fmt.Sprintf("%.2f%s", v.got, v.unit)
	if math.IsInf(v.got, 1) {
		got = "they do not pass"
	}
	return fmt.Sprintf("| %s | %d | %s | %s %g%s | %s | %s |", v.bar, v.cell.Callers, course.Bytes(v.cell.Size),
		sign, v.bound, v.unit, got, word)
}

// bars writes what each guard had to reach, and what it reached. A bar whose cell was left out, or failed, is not there.
func (r Report) bars(b *strings.Builder) {
	for _, name := range r.Guards {
		var all []verdict
		for _, row := range r.Rows {
			all = append(all, judge(row, name)...)
		}
		fmt.Fprintf(b, "\n### Bars: %s\n\n| bar | callers | message | wanted | measured | |\n| --- | ---: | ---: | ---: | ---: | --- |\n", name)
		for _, v := range append(all, r.large(name)...) {
			fmt.Fprintln(b, v)
		}
	}
}

// mostCPU is what a unary call may cost beside HAProxy's, by the number of callers.
var mostCPU = map[int]float64{1: 1.2, 16: 0.9, 64: 0.7}

// judge holds a guard against the bars of one row.
func judge(row course.Row, name string) (all []verdict) {
	guard := figures(row, name)
	if guard == nil || row.Link != rival.TCP {
		return nil
	}
	if ratio := beside(row, guard, rival.HAProxy); ratio > 0 {
		v := verdict{bar: "CPU beside HAProxy's, " + kinds[row.Kind], cell: row.Cell, atMost: true, bound: 1, got: ratio}
		if row.Kind == load.Unary {
			v.bound = mostCPU[row.Callers]
		}
		all = append(all, v)
	}
	if share := guard.Median().Share; share > 0 && row.Kind == load.Unary && row.Callers >= 16 {
		all = append(all, verdict{bar: "share of the direct throughput", cell: row.Cell, bound: 0.7, got: share})
	}
	if ratio := beside(row, guard, rival.Tap); ratio > 0 {
		all = append(all, verdict{bar: "refusals cheaper than in grpc-go's tap handle", cell: row.Cell, bound: 4, got: 1 / ratio, unit: "×"})
	}
	return all
}

// beside returns the CPU of a guard beside that of another rival in the row; 0 if they cannot be compared.
func beside(row course.Row, guard *course.Figures, other rival.Rival) float64 {
	if f := figures(row, other.Name); f != nil {
		return guard.CPUAgainst(f)
	}
	return 0
}

// large holds a guard against the bar for its memory. A guard that cannot pass such messages at all misses it.
func (r Report) large(name string) []verdict {
	if r.Large == nil {
		return nil
	}
	v := verdict{bar: "peak memory while such messages pass", cell: r.Large.Cell, atMost: true, bound: 64, got: math.Inf(1), unit: " MiB"}
	if f := figures(*r.Large, name); f != nil {
		v.got = mebibytes(f.Median().Peak)
	}
	return []verdict{v}
}
