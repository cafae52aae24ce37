package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// TestTable prints what the law comes to in front of back-ends of 8 and 32 workers that choke on twice as many calls; it judges nothing.
// Run it with -v after a change of a constant, and compare with docs/design/limit.md.
func TestTable(t *testing.T) {
	if !testing.Verbose() {
		return
	}
	for _, b := range widths[1:] {
		b.crowd = 2 * b.workers
		for _, b.cv = range []float64{0.5, 2} {
			first, rest, mean := overload(b)
			fmt.Printf("%d workers, variation %v: at 3 times the capacity %.3f of it in 5 s, then %.3f, mean limit %.2f of the workers\n",
				b.workers, b.cv, first, rest, mean)
		}
		b.cv = 0.5
		fmt.Printf("%d workers: at 90 %% load %.5f refused, at 30 %% and three times slower for a while %.4f\n",
			b.workers, refused(b, 0.9, 1), refused(b, 0.3, 3))
	}
}

// tableSeeds is how many runs a figure of the table is the mean of.
const tableSeeds = 6

// overload returns the goodput of five seconds, and of 35 s after that, as shares of the capacity, and the mean limit as one of the
// workers.
func overload(b backend) (first, rest, mean float64) {
	for seed := range uint64(tableSeeds) {
		s := newSim(b, limit.Default(), seed)
		v, _ := s.meanLimit(3, 5*time.Second)
		first += float64(v.good) / 5 / s.capacity() / tableSeeds
		v, m := s.meanLimit(3, 35*time.Second)
		rest += float64(v.good) / 35 / s.capacity() / tableSeeds
		mean += m / float64(s.workers) / tableSeeds
	}
	return first, rest, mean
}

// refused returns the share of calls that were refused from the fifth to the fortieth second at a load, where work takes longer from the
// fifteenth to the 25th.
func refused(b backend, load, slower float64) float64 {
	var all second
	for seed := range uint64(tableSeeds) {
		s := newSim(b, limit.Default(), seed)
		s.rate, s.slow = load*s.capacity(), slowFrom(15*time.Second, 25*time.Second, slower)
		s.run(5 * time.Second)
		all.add(s.run(35 * time.Second))
	}
	return all.refusedShare()
}
