package scenarios_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/admission/gates"
	"github.com/capguard/capguard/benchmarks/admission/picture"
	"github.com/capguard/capguard/benchmarks/admission/scenarios"
	"github.com/capguard/capguard/loadtest/scenario"
)

// result is one with a goodput, and a p99 of 20 ms to 1.5 s.
func result(gate string, median, worst float64) scenarios.Result {
	return scenarios.Result{
		Story: "a step",
		Report: scenario.Report{Scenario: "S2/5", Gate: gate, Seeds: 5, Figures: []scenario.Figure{
			{Want: scenario.Want{Metric: scenario.Goodput}, Median: median, Worst: worst},
			{Want: scenario.Want{Metric: scenario.P99}, Median: 0.02, Worst: 1.5},
			{Want: scenario.Want{Metric: scenario.Convergence}, Median: 0.25, Worst: math.Inf(1)},
			{Want: scenario.Want{Metric: scenario.FalseRefusals}, Median: 0.00125, Worst: 0.5},
			{Want: scenario.Want{Metric: scenario.Amplification}, Median: 1, Worst: 4.321},
		}},
		Course: picture.Run{Gate: gate, Step: scenario.Bin, Offered: []float64{1, 2, 3}, Served: []float64{1, 1, 1}},
	}
}

func some() [][]scenarios.Result {
	return [][]scenarios.Result{{
		result("static 12+queue", 0.99, 0.98), result("Vegas", 0.8, 0.7), result("AIMD", 0.8, 0.75), result(gates.Ours, 0.7, 0.6),
	}}
}

func TestGlance(t *testing.T) {
	const want = `| scenario | static, hindsight | Vegas | AIMD | guard |
| --- | ---: | ---: | ---: | ---: |
| S2/5, a step | 0.990 | **0.800** | **0.800** | 0.700 |
`
	if got := scenarios.Glance(some()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableOfAllMeasures(t *testing.T) {
	lines := strings.Split(scenarios.Table(some()), "\n")
	for i, want := range map[int]string{
		0: "| scenario | gate | goodput | worst second | p99 | convergence | recovery | false refusals | amplification |",
		2: "| S2/5 | static 12+queue | 0.990 / 0.980 | – | 20 ms / 1500 ms | 0.2 s / never | – | 0.12 % / 50.00 % | 1.00 / 4.32 |",
		5: "|  | **guard** | 0.700 / 0.600 | – | 20 ms / 1500 ms | 0.2 s / never | – | 0.12 % / 50.00 % | 1.00 / 4.32 |",
	} {
		if lines[i] != want {
			t.Errorf("line %d is\n%s\nwant\n%s", i, lines[i], want)
		}
	}
}

func TestWidths(t *testing.T) {
	narrow, wide := result(gates.Ours, 0.9, 0.8), result(gates.Ours, 0.95, 0.85)
	narrow.Variant, wide.Variant = scenario.Narrow, scenario.Wide
	lines := strings.Split(scenarios.Widths([][]scenarios.Result{{wide, narrow}}), "\n")
	if want := "| S2/5 | guard | – | 0.900 / 0.800 | 0.950 / 0.850 | – | 0.900 |"; lines[2] != want {
		t.Errorf("got\n%s\nwant\n%s", lines[2], want)
	}
}

func TestPicturesShowTheBestRival(t *testing.T) {
	folder := t.TempDir()
	text, err := scenarios.Pictures(folder, some())
	if err != nil {
		t.Fatal(err)
	}
	if want := "![S2/5, a step](" + filepath.Base(folder) + "/S2-5.svg)\n"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	svg, err := os.ReadFile(filepath.Join(folder, "S2-5.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"S2/5: guard": true, ">AIMD<": true, "Vegas": false, "static": false} {
		if strings.Contains(string(svg), name) != want {
			t.Errorf("the picture says %q: %v, want %v", name, !want, want)
		}
	}
}

func TestCourseIsInCallsASecond(t *testing.T) {
	s := scenario.Scenario{
		Name: "x", Duration: 3 * time.Second, Measured: scenario.Window{To: 3 * time.Second},
		Classes: []scenario.Class{{Name: "all", Weight: 1}},
	}
	r := scenario.NewRecord(&s, scenario.Base, gates.Ours, 1)
	for at := range 300 { // a hundred a second, every other good
		r.Requests = append(r.Requests, scenario.Request{Due: time.Duration(at) * 10 * time.Millisecond, Good: at%2 == 0})
	}
	run := scenarios.Judge([]*scenario.Record{r}).Course
	if len(run.Offered) != 30 || len(run.Served) != 30 {
		t.Fatalf("the course has %d and %d moments, want 30", len(run.Offered), len(run.Served))
	}
	for i := range run.Offered {
		if run.Offered[i] != 100 || run.Served[i] != 50 {
			t.Errorf("at moment %d offered %v, served %v; want 100 and 50", i, run.Offered[i], run.Served[i])
		}
	}
}
