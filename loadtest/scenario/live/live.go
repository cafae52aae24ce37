package live

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/scenario"
	"github.com/capguard/capguard/loadtest/scenario/virtual"
)

// Options of Run.
type Options struct {
	// Unguarded leaves the guard out.
	Unguarded bool
	// Seeds is how many times each scenario is played, at least 1.
	Seeds int
	// Out takes the report as it comes.
	Out io.Writer
}

// gate is what the guard is called in reports, and its mode.
func (o Options) gate() (name, mode string) {
	if o.Unguarded {
		return "none", ""
	}
	return "ours", "enforce"
}

// mostHalvings bounds how far a scenario is slowed down for a slow machine: with more, a call alone would take most of the objective.
const mostHalvings = 1

// Run plays s with every seed, and writes a line about each run and one about all; it takes the scenario's duration for each. ctx ends it.
// The error is that of a machine that cannot do it; what the guard reaches is in the report alone.
func Run(ctx context.Context, s scenario.Scenario, v scenario.Variant, o Options) error {
	name, mode := o.gate()
	fmt.Fprintf(o.Out, "%s %v: %s\n", s.Name, v, s.Story)
	if o.Unguarded && s.Clients > 0 {
		fmt.Fprint(o.Out, "  left out: it is about the guard itself\n\n")
		return nil
	}
	s, err := suit(ctx, s, mode, o.Out)
	if err != nil {
		return err
	}
	if s.Clients == 0 { // else there is more to it than a limit
		best := virtual.Best(&s, v, 1)
		fmt.Fprintf(o.Out, "  in virtual time, with hindsight: %v\n", scenario.Judge([]*scenario.Record{best}))
	}
	var valid []*scenario.Record
	for seed := range uint64(o.Seeds) {
		r := scenario.NewRecord(&s, v, name, seed+1)
		c, err := play(ctx, &s, r, setting{network: loopback{}, mode: mode})
		if err != nil {
			return fmt.Errorf("play %s: %w", s.Name, err)
		}
		virtual.Foresee(r)
		why := c.void()
		if why == "" {
			valid = append(valid, r)
		} else {
			why = "   VOID: " + why
		}
		fmt.Fprintf(o.Out, "  seed %d: %v%s\n", seed+1, scenario.Judge([]*scenario.Record{r}), why)
	}
	if len(valid) == 0 {
		fmt.Fprintf(o.Out, "%s %v: every run is void: this machine is too busy\n\n", s.Name, v)
		return nil
	}
	fmt.Fprintf(o.Out, "%d of %d runs, median/worst: %v\n\n", len(valid), o.Seeds, scenario.Judge(valid))
	return nil
}

// suit returns s at a pace that the machine can keep.
func suit(ctx context.Context, s scenario.Scenario, mode string, out io.Writer) (scenario.Scenario, error) {
	for n := 0; ; n++ {
		added, c, err := added(ctx, &s, mode)
		if err != nil {
			return s, fmt.Errorf("see what the machine adds: %w", err)
		}
		fmt.Fprintf(out, "  calls without work at %.0f a second: p99 %v, made %v late, processors busy to %.0f %%\n",
			peak(&s), added.Round(10*time.Microsecond), c.lateness.Round(10*time.Microsecond), 100*c.share)
		if added <= mostAdded && c.void() == "" || n == mostHalvings {
			return s, nil
		}
		s = s.Halved()
		fmt.Fprintf(out, "  too slow: all rates halved, the service time doubled to %v\n", s.Replicas[0].ServiceTime)
	}
}

// trialTime is how long the machine is tried before the first run.
const trialTime = 3 * time.Second

// added measures the 99th percentile of calls that cost no work, at the highest rate of s. The guard decides nothing.
func added(ctx context.Context, s *scenario.Scenario, mode string) (time.Duration, conduct, error) {
	trial := *s
	trial.Classes = []scenario.Class{{Name: "free", Method: s.Classes[0].Method, Rate: loadtest.Steady(peak(s))}}
	trial.Duration, trial.Kills, trial.Restart, trial.Flips, trial.Outages = trialTime, nil, 0, nil, nil
	if mode != "" {
		mode = "off"
	}
	r := scenario.NewRecord(&trial, scenario.Base, "", 1)
	c, err := play(ctx, &trial, r, setting{network: loopback{}, mode: mode, free: true})
	if err != nil {
		return 0, c, err
	}
	var h loadtest.Histogram
	for _, a := range r.Attempts {
		h.Record(a.Ended - a.Made)
	}
	return h.Quantile(0.99), c, nil
}

// peak returns the highest number of calls in a second of s.
func peak(s *scenario.Scenario) float64 {
	var seconds []float64
	for t := time.Duration(0); t < s.Duration; t += time.Second {
		sum := 0.0
		for _, c := range s.Classes {
			sum += c.Rate.Calls(t, t+time.Second)
		}
		seconds = append(seconds, sum)
	}
	return slices.Max(seconds)
}
