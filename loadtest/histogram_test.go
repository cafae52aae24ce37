package loadtest_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/loadtest"
)

// TestQuantilesAgainstSorting compares quantiles with those of the sorted values, for values of all magnitudes.
func TestQuantilesAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var h loadtest.Histogram
		values := make([]time.Duration, 1+rng.IntN(300))
		for i := range values {
			values[i] = time.Duration(rng.Int64N(int64(time.Microsecond) << rng.IntN(31)))
			h.Record(values[i])
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.25, 0.5, 0.9, 0.99, 1} {
			want := values[max(1, int(q*float64(len(values))+0.999999))-1]
			if got := h.Quantile(q); got < want || got > want+want/256+time.Microsecond {
				t.Fatalf("quantile %v of %d values is %v, want %v", q, len(values), got, want)
			}
		}
		if h.Max() != values[len(values)-1] || h.Count() != uint64(len(values)) {
			t.Fatalf("max %v count %d", h.Max(), h.Count())
		}
	}
}

func TestMergeIsRecordingTogether(t *testing.T) {
	var a, b, both, empty loadtest.Histogram
	for i := range 1000 {
		d := time.Duration(i*i) * time.Microsecond
		both.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	empty.Merge(&a)
	empty.Merge(&b)
	empty.Merge(&loadtest.Histogram{})
	for q := 0.0; q <= 1; q += 0.01 {
		if empty.Quantile(q) != both.Quantile(q) {
			t.Fatalf("quantile %v is %v, want %v", q, empty.Quantile(q), both.Quantile(q))
		}
	}
	if empty.Count() != both.Count() || empty.Max() != both.Max() {
		t.Errorf("count %d max %v, want %d and %v", empty.Count(), empty.Max(), both.Count(), both.Max())
	}
}

func TestHistogramAtItsBounds(t *testing.T) {
	var h loadtest.Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("the empty histogram has a quantile")
	}
	h.Record(-time.Second)
	if h.Quantile(1) != 0 {
		t.Errorf("a negative duration counts as %v", h.Quantile(1))
	}
	h.Record(1000 * time.Hour)
	if h.Quantile(0.5) >= time.Microsecond || h.Max() != 1000*time.Hour || h.Count() != 2 {
		t.Errorf("median %v max %v count %d", h.Quantile(0.5), h.Max(), h.Count())
	}
}
