package queue

import "time"

// deep is how far into the line of one tenant NextFit looks. Beyond it a line has waited in vain for so long that one more round of slots
// makes no difference.
const deep = 64

// NextFit returns whom Pop would take if there were only those who fit: for a slot that not everybody may have. False if there is none. It
// looks at every tenant with waiters; Take takes whom it found.
func (q *Queue[T]) NextFit(now time.Time, fits func(T) bool) (*Item[T], bool) {
	q.Pass(now)
	for _, l := range q.lines {
		if it := l.firstFit(fits); it != nil {
			return it, true
		}
	}
	return nil, false
}

// Take takes one in line out as if it were its turn, and charges its tenant.
func (q *Queue[T]) Take(it *Item[T], now time.Time) {
	q.served++
	if it.tenant.line != q.best() {
		q.served = 0
	}
	it.tenant.line.serve(it, now)
	q.leave(it, gone)
}

// firstFit returns the first of the line who fits, of the tenant whose turn comes first among those with such a one; nil if nobody does.
func (l *line[T]) firstFit(fits func(T) bool) *Item[T] {
	known, stranger := l.known.firstFit(fits), l.strangers.firstFit(fits)
	if known == nil || stranger != nil && l.firstOf(known.tenant, stranger.tenant) == stranger.tenant {
		return stranger
	}
	return known
}

func (c *crowd[T]) firstFit(fits func(T) bool) (best *Item[T]) {
	for _, t := range c.turn.all {
		if best != nil && !c.turn.less(t, best.tenant) {
			continue
		}
		if it := t.firstFit(fits); it != nil {
			best = it
		}
	}
	return best
}

func (t *tenant[T]) firstFit(fits func(T) bool) *Item[T] {
	it := t.first()
	for range deep {
		if it == nil || fits(it.Value) {
			return it
		}
		if t.stands {
			it = it.prev
		} else {
			it = it.next
		}
	}
	return nil
}
