package loadtest

import (
	"math/bits"
	"time"
)

// The buckets of a Histogram: whole microseconds up to 2^(subBits+1), and from there on each doubling in 2^subBits equal parts. So a
// value is known to 1/2^subBits, which is 0.4 %.
const (
	subBits   = 8
	subCount  = 1 << subBits
	maxMicros = 1<<32 - 1 // an hour and eleven minutes; what is longer counts as this
	buckets   = (32 - subBits + 1) * subCount
)

// Histogram counts durations. The zero value is empty and ready. Not safe for concurrent use.
type Histogram struct {
	counts []uint64 // nil while empty
	n      uint64
	max    time.Duration
}

// Record counts d; a negative one as 0.
func (h *Histogram) Record(d time.Duration) {
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Max returns the longest duration exactly; 0 if there is none.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q, 0 to 1, of those recorded does not exceed, to 0.4 % or a microsecond,
// never too little; 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := max(1, uint64(q*float64(h.n)+0.999999)) // the rank-th smallest is wanted
	for i, c := range h.counts {
		if c >= rank {
			return min(top(i), h.max)
		}
		rank -= c
	}
	return h.max
}

// bucket returns the index for d.
func bucket(d time.Duration) int {
	us := uint64(min(max(0, d.Microseconds()), maxMicros))
	shift := max(0, bits.Len64(us)-subBits-1)
	return shift*subCount + int(us>>shift)
}

// top returns the longest duration that bucket i takes.
func top(i int) time.Duration {
	shift := max(0, i/subCount-1)
	us := uint64(i-shift*subCount+1) << shift
	return time.Duration(us)*time.Microsecond - 1
}
