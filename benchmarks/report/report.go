// Package report writes what the rivals cost as Markdown tables, and holds the guards against their bars.
//
// What this package does not do: it measures nothing, and fails nobody: a missed bar is a line in a table.
package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capguard/capguard/benchmarks/course"
	"github.com/capguard/capguard/benchmarks/load"
)

// Report is a whole run.
type Report struct {
	Head   string // the first paragraph: when, on what, with which versions
	Rows   []course.Row
	Large  *course.Row // nil if it was left out
	Guards []string    // names of the rivals that have to pass the bars
}

// String returns the report as Markdown.
func (r Report) String() string {
	var b strings.Builder
	b.WriteString(r.Head + "\n")
	passed := slices.DeleteFunc(slices.Clone(r.Rows), refusal)
	refused := slices.DeleteFunc(slices.Clone(r.Rows), func(row course.Row) bool { return !refusal(row) })
	matrix(&b, "CPU of the rival a call or message · share of the direct throughput", passed, costAndShare)
	matrix(&b, "Calls or messages a second", passed, rate)
	matrix(&b, "Latency, median / 99th percentile, µs", passed, latency)
	matrix(&b, "Peak memory, MiB", passed, memory)
	matrix(&b, "Refusals: CPU of the rival each · refusals a second", refused, costAndRate)
	matrix(&b, "Refusals: latency, median / 99th percentile, µs", refused, latency)
	if r.Large != nil {
		matrix(&b, "Messages of 100 MiB through a fresh process: peak memory, MiB", []course.Row{*r.Large}, memory)
	}
	r.faults(&b)
	r.bars(&b)
	return b.String()
}

func refusal(r course.Row) bool { return r.Kind == load.Refusal }

// kinds says what the kinds of calls are called in a table.
var kinds = map[load.Kind]string{
	load.Unary:    "unary",
	load.Chat:     "long streams, there and back",
	load.Download: "long streams, from the server",
	load.Refusal:  "refused",
}

// matrix writes a table with a line for each row, a column for each rival, and in the cells what show says about the medians.
func matrix(b *strings.Builder, title string, rows []course.Row, show func(course.Sample) string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n| link | calls | callers | message |", title)
	for _, f := range rows[0].Rivals {
		fmt.Fprintf(b, " %s |", f.Rival)
	}
	b.WriteString("\n| --- | --- | ---: | ---: |" + strings.Repeat(" ---: |", len(rows[0].Rivals)) + "\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %d | %s |", r.Link, kinds[r.Kind], r.Callers, course.Bytes(r.Size))
		for _, f := range r.Rivals {
			fmt.Fprintf(b, " %s |", medians(f, show))
		}
		b.WriteString("\n")
	}
}

// medians says what show says about the medians of a rival, and how many of its rounds did not fail if some did.
func medians(f *course.Figures, show func(course.Sample) string) string {
	switch good := len(f.Good()); good {
	case 0:
		return "failed"
	case len(f.Samples):
		return show(f.Median())
	default:
		return fmt.Sprintf("%s (%d of %d rounds)", show(f.Median()), good, len(f.Samples))
	}
}

func costAndShare(s course.Sample) string {
	if s.CPU == 0 {
		return "–"
	}
	if s.Share == 0 {
		return micros(s.CPU)
	}
	return fmt.Sprintf("%s · %.2f", micros(s.CPU), s.Share)
}

func costAndRate(s course.Sample) string { return micros(s.CPU) + " · " + rate(s) }

func rate(s course.Sample) string { return fmt.Sprintf("%.0f", s.PerSecond) }

func latency(s course.Sample) string {
	if s.P50 == 0 {
		return "–"
	}
	return fmt.Sprintf("%d / %d", s.P50.Microseconds(), s.P99.Microseconds())
}

func memory(s course.Sample) string {
	if s.Peak == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", mebibytes(s.Peak))
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// micros writes a duration in microseconds with no more digits than mean something.
func micros(d time.Duration) string {
	us := float64(d) / float64(time.Microsecond)
	if us < 10 {
		return fmt.Sprintf("%.1f µs", us)
	}
	return fmt.Sprintf("%.0f µs", us)
}

// faults lists what rivals could not do.
func (r Report) faults(b *strings.Builder) {
	rows := r.Rows
	if r.Large != nil {
		rows = append(slices.Clone(rows), *r.Large)
	}
	title := "\n### Failed rounds\n\n"
	for _, row := range rows {
		for _, f := range row.Rivals {
			i := slices.IndexFunc(f.Samples, func(s course.Sample) bool { return s.Err != nil })
			if i < 0 {
				continue
			}
			failed := len(f.Samples) - len(f.Good())
			fmt.Fprintf(b, "%s- %s, %s: %d of %d rounds, the first with: %s\n", title, f.Rival, row.Cell,
				failed, len(f.Samples), firstLine(f.Samples[i].Err))
			title = ""
		}
	}
}

// firstLine returns the first line of what an error says: some rivals answer with whole pages.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// figures returns those of a rival in a row; nil if it has none.
func figures(row course.Row, name string) *course.Figures {
	if f := row.Of(name); f != nil && len(f.Good()) > 0 {
		return f
	}
	return nil
}
