package course

import (
	"slices"
	"time"

	"github.com/capguard/capguard/benchmarks/load"
)

// Sample is what one round measured.
type Sample struct {
	PerSecond float64       // calls, or messages of streams
	Share     float64       // of what went directly in the same repetition; 0 if unknown
	CPU       time.Duration // of the rival for each of them
	P50, P99  time.Duration
	Peak      int64 // bytes of memory
	Err       error // if the round failed; nothing else means anything then
}

// Figures are the rounds of a rival in a cell, in the order of the repetitions.
type Figures struct {
	Rival   string
	Samples []Sample
}

// Good returns the rounds that did not fail.
func (f *Figures) Good() []Sample {
	return slices.DeleteFunc(slices.Clone(f.Samples), func(s Sample) bool { return s.Err != nil })
}

// Row is a cell with the figures of each rival.
type Row struct {
	Cell
	Rivals []*Figures
}

// Of returns the figures of a rival; nil if it had no part.
func (r Row) Of(name string) *Figures {
	for _, f := range r.Rivals {
		if f.Rival == name {
			return f
		}
	}
	return nil
}

// Median returns the median of each figure by itself, over the rounds that did not fail.
func (f *Figures) Median() Sample {
	good := f.Good()
	return Sample{
		PerSecond: median(good, func(s Sample) float64 { return s.PerSecond }),
		Share:     median(good, func(s Sample) float64 { return s.Share }),
		CPU:       median(good, func(s Sample) time.Duration { return s.CPU }),
		P50:       median(good, func(s Sample) time.Duration { return s.P50 }),
		P99:       median(good, func(s Sample) time.Duration { return s.P99 }),
		Peak:      median(good, func(s Sample) int64 { return s.Peak }),
	}
}

// CPUAgainst returns the median, over the repetitions, of what a call costs beside what it cost the other rival in the same repetition;
// 0 if there is no repetition in which neither failed.
func (f *Figures) CPUAgainst(other *Figures) float64 {
	var ratios []float64
	for i, s := range f.Samples {
		if o := other.Samples[i]; s.Err == nil && o.Err == nil {
			ratios = append(ratios, float64(s.CPU)/float64(o.CPU))
		}
	}
	return median(ratios, func(r float64) float64 { return r })
}

// median returns the median of what of tells; the higher of two.
func median[S any, N int64 | float64 | time.Duration](samples []S, of func(S) N) N {
	if len(samples) == 0 {
		return 0
	}
	var all []N
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// sample returns the figures of one round.
func sample(r load.Result, peak int64) Sample {
	s := Sample{PerSecond: float64(r.Calls) / r.Took.Seconds(), P50: r.Latency.Quantile(0.5), P99: r.Latency.Quantile(0.99), Peak: peak}
	if r.Calls > 0 {
		s.CPU = r.CPU / time.Duration(r.Calls)
	}
	return s
}
