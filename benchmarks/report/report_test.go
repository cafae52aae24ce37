package report_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/course"
	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/report"
	"github.com/capguard/capguard/benchmarks/rival"
)

// rounds returns figures with one round for each cost.
func rounds(name string, share float64, micros ...int) *course.Figures {
	f := &course.Figures{Rival: name}
	for _, us := range micros {
		cost := time.Duration(us) * time.Microsecond
		f.Samples = append(f.Samples, course.Sample{PerSecond: 1000 * share, Share: share, CPU: cost, Peak: 70 << 20})
	}
	return f
}

func example() report.Report {
	row := func(k load.Kind, callers, size int, rivals ...*course.Figures) course.Row {
		return course.Row{Cell: course.Cell{Link: rival.TCP, Shape: load.Shape{Kind: k, Callers: callers, Size: size}}, Rivals: rivals}
	}
	torn := rounds("HAProxy", 0.5, 20, 20, 20)
	torn.Samples[1].Err = errors.New("it hung")
	return report.Report{
		Head:   "Some day.",
		Guards: []string{"guard"},
		Rows: []course.Row{
			row(load.Unary, 64, 16, rounds("direct", 1, 0, 0, 0), torn, rounds("guard", 0.8, 10, 90, 12)),
			row(load.Chat, 16, 1024, rounds("direct", 1, 0), rounds("HAProxy", 0.5, 10), rounds("guard", 0.8, 11)),
			row(load.Refusal, 16, 16, rounds("grpc-go tap", 0, 20), rounds("guard", 0, 4)),
		},
		Large: &course.Row{Cell: course.Large, Rivals: []*course.Figures{rounds("direct", 1, 0), rounds("guard", 1, 9)}},
	}
}

func TestReportSaysWhatWasMeasured(t *testing.T) {
	text := example().String()
	for _, want := range []string{
		"| tcp | unary | 64 | 16B | – | 20 µs · 0.50 (2 of 3 rounds) | 12 µs · 0.80 |\n",
		"- HAProxy, tcp/unary/64/16B: 1 of 3 rounds, the first with: it hung\n",
		"| CPU beside HAProxy's, unary | 64 | 16B | ≤ 0.7 | 0.60 | held |\n",
		"| share of the direct throughput | 64 | 16B | ≥ 0.7 | 0.80 | held |\n",
		"| CPU beside HAProxy's, long streams, there and back | 16 | 1KiB | ≤ 1 | 1.10 | **missed** |\n",
		"| refusals cheaper than in grpc-go's tap handle | 16 | 16B | ≥ 4× | 5.00× | held |\n",
		"| peak memory while such messages pass | 2 | 100MiB | ≤ 64 MiB | 70.00 MiB | **missed** |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks\n%s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestReportGoesBetweenTheMarkedLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(path, []byte("before\n"+report.Begin+"\nold\n"+report.End+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // A second time changes nothing.
		if err := example().Write(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + report.Begin + "\n\n" + example().String() + "\n" + report.End + "\nafter\n"; string(got) != want {
		t.Errorf("the file is\n%s", got)
	}
	if err := os.WriteFile(path, []byte("no marks\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := example().Write(path); err == nil {
		t.Error("a file without the marks was written")
	}
}
