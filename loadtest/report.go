package loadtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Second is what happened in about one second of a run. Calls count as offered when they were due and as good, late and so on when they
// ended.
type Second struct {
	// From and To are counted from the begin of the run.
	From, To time.Duration
	// Classes are in the order of the plan.
	Classes []ClassTally
	// Outstanding is how many calls were under way at its end.
	Outstanding int
}

// ClassTally is the tally of a named class.
type ClassTally struct {
	Name string
	Tally
}

// Report is what happened in a run.
type Report struct {
	// Elapsed is from the begin of the run to the end of its last call.
	Elapsed time.Duration
	// Classes are in the order of the plan.
	Classes []ClassTally
	// Lateness is how long after their moments calls were begun. When its 99th percentile is above about 2 ms, the generator or the machine
	// was too slow, and latencies tell more of that than of the service.
	Lateness Histogram
}

// String returns one line: of each class what was offered, good and not, and the 99th percentile of the latency.
func (s Second) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%4.0fs", s.To.Seconds())
	for i := range s.Classes {
		c := &s.Classes[i]
		fmt.Fprintf(&b, "   %s: offered %5d good %5d late %4d failed %5d refused %5d p99 %7s",
			c.Name, c.Offered, c.Good, c.Late, c.Failures()+c.Dropped+c.Cut, c.Refusals(), brief(c.Latency.Quantile(0.99)))
	}
	return b.String()
}

// String returns a table of the classes and below it why calls failed or were refused.
func (r Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "class\toffered\tgood\tlate\tfailed\trefused\tdropped\tcut\tp50\tp99\tmax\t")
	for i := range r.Classes {
		c := &r.Classes[i]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t\n", c.Name, c.Offered, c.Good, c.Late, c.Failures(), c.Refusals(),
			c.Dropped, c.Cut, brief(c.Latency.Quantile(0.5)), brief(c.Latency.Quantile(0.99)), brief(c.Latency.Max()))
	}
	w.Flush()
	for i := range r.Classes {
		c := &r.Classes[i]
		for _, code := range slices.Sorted(maps.Keys(c.Failed)) {
			fmt.Fprintf(&b, "%s failed with %s: %d\n", c.Name, code, c.Failed[code])
		}
		for _, reason := range slices.Sorted(maps.Keys(c.Refused)) {
			fmt.Fprintf(&b, "%s refused with %s: %d\n", c.Name, reason, c.Refused[reason])
		}
	}
	fmt.Fprintf(&b, "calls were begun up to %s late, 99 %% of them within %s\n", brief(r.Lateness.Max()), brief(r.Lateness.Quantile(0.99)))
	return b.String()
}

func (r *Report) add(s Second) {
	r.Elapsed = s.To
	for i := range s.Classes {
		r.Classes[i].Merge(&s.Classes[i].Tally)
	}
}

// brief writes a latency with no more digits than it deserves.
func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Microsecond).String()
	}
}
