package guard

import "time"

// ring keeps the newest entries, as far as its allowance goes. Its memory comes in chunks, as it is needed.
type ring struct {
	chunks  [journalSize / chunkSize]*[chunkSize]entry
	written int // so far
	allowed allowance
}

// chunkSize is how many entries come at once: few enough that a call does not notice.
const chunkSize = 64

// next returns the entry to write at, or nil if it is not allowed.
func (r *ring) next(at time.Duration) *entry {
	if !r.allowed.take(at) {
		return nil
	}
	chunk := &r.chunks[r.written%journalSize/chunkSize]
	if *chunk == nil {
		*chunk = new([chunkSize]entry)
	}
	e := r.entry(r.written)
	r.written++
	return e
}

// entry returns the i-th entry that was ever written, if it is one of the newest.
func (r *ring) entry(i int) *entry { return &r.chunks[i%journalSize/chunkSize][i%chunkSize] }

// oldest is the number of the oldest entry that is kept.
func (r *ring) oldest() int { return max(0, r.written-journalSize) }

// newest appends to dst the newest entries that match f, the newest first, at most n.
func (r *ring) newest(dst []*entry, n int, f *Filter) []*entry {
	for i := r.written - 1; i >= r.oldest() && n > 0; i-- {
		if e := r.entry(i); f.matchesEntry(e) {
			dst = append(dst, e)
			n--
		}
	}
	return dst
}

// allowance lets a burst pass, and then one each interval. (The generic cell rate algorithm of ITU-T I.371, as a virtual clock.)
type allowance struct {
	interval, depth time.Duration
	due             time.Duration // when all that was taken will have been earned
}

func newAllowance(interval time.Duration, burst int) allowance {
	return allowance{interval: interval, depth: time.Duration(burst-1) * interval}
}

func (l *allowance) take(at time.Duration) bool {
	if l.due-at > l.depth {
		return false
	}
	l.due = max(l.due, at) + l.interval
	return true
}
