package queue

import (
	"cmp"
	"slices"
	"time"
)

// Queue orders waiters of type T. Not safe for concurrent use: its owner's lock guards it.
type Queue[T any] struct {
	s        Settings
	lines    []*line[T]       // by rank, ascending; a line stays when it empties
	gives    sorted[*Item[T]] // everybody in line, the next to give up first. Deadlines differ, so that is not who came first
	tenants  map[account]*tenant[T]
	arrivals uint64
	served   int // since a starving rank was
}

// Item is one waiter in line. Its owner reads the exported fields and changes none.
type Item[T any] struct {
	Value T
	Rank  int       // criticality: lower is served first
	Give  time.Time // when to give up: the earlier of the longest wait and the deadline; set by Push

	tenant     *tenant[T]
	charge     float64
	arrival    uint64
	patient    bool     // Give is the end of its patience, not its deadline
	prev, next *Item[T] // older and newer of the same tenant, while in line
	at         int      // place in gives while in line
	place      place
}

// place tells where an item is.
type place uint8

const (
	inLine place = iota
	gaveUp       // out of line, its waiter has still to be told
	gone         // popped, evicted or removed
)

// New returns an empty queue. s must be valid.
func New[T any](s Settings) *Queue[T] {
	return &Queue[T]{
		s: s,
		gives: sorted[*Item[T]]{
			less:  func(a, b *Item[T]) bool { return a.Give.Before(b.Give) },
			index: func(it *Item[T]) *int { return &it.at },
		},
		tenants: map[account]*tenant[T]{},
	}
}

// Configure swaps the settings; who waits stays, and keeps its Give. s must be valid.
func (q *Queue[T]) Configure(s Settings) { q.s = s }

// Push puts v in line with what it claims. ok is false when v got no place: with nil, nil because it could not wait at all (there is no
// line, or no patience, or the deadline has come), or as evicted because the line is full and v is the worst to keep. When the line is full
// and v is not the worst, the worst leaves and is returned as evicted beside v's item.
func (q *Queue[T]) Push(v T, c Claim, now time.Time) (item, evicted *Item[T], ok bool) {
	q.Pass(now)
	l := q.line(c.Rank)
	t := q.tenant(l, c)
	give := now.Add(q.s.wait(c.Patience, t.stands))
	patient := c.Deadline.IsZero() || give.Before(c.Deadline)
	if !patient {
		give = c.Deadline
	}
	if !give.After(now) {
		return nil, nil, false
	}
	q.arrivals++
	item = &Item[T]{Value: v, Rank: c.Rank, Give: give, tenant: t, charge: c.charge(), arrival: q.arrivals, patient: patient}
	l.join(item, now)
	q.gives.add(item)
	if q.Len() <= q.s.MaxLength {
		return item, nil, true
	}
	evicted = q.worst(now)
	evicted.tenant.line.lose(evicted.tenant)
	q.leave(evicted, gone)
	if evicted == item {
		return nil, item, false
	}
	return item, evicted, true
}

// Next returns whom Pop would take; false if there is none.
func (q *Queue[T]) Next(now time.Time) (*Item[T], bool) {
	q.Pass(now)
	if q.Len() == 0 {
		return nil, false
	}
	return q.next(now).first(), true
}

// Pop takes the best waiter that has not given up out of the line and charges its tenant; false if there is none.
func (q *Queue[T]) Pop(now time.Time) (*Item[T], bool) {
	it, ok := q.Next(now)
	if ok {
		q.Take(it, now)
	}
	return it, ok
}

// Remove takes it out of the line. It is true if it was still to be told what became of it, which includes that it gave up; false if it
// was popped, evicted or removed before. it must come from this queue.
func (q *Queue[T]) Remove(it *Item[T]) bool {
	switch it.place {
	case inLine:
		q.leave(it, gone)
		return true
	case gaveUp:
		it.place = gone
		return true
	}
	return false
}

// RemoveFunc takes out all in line that match and returns them, most critical first, then by arrival. O(n), plus O(log n) for each match.
func (q *Queue[T]) RemoveFunc(match func(T) bool) []*Item[T] {
	var out []*Item[T]
	for _, it := range q.gives.all {
		if match(it.Value) {
			out = append(out, it)
		}
	}
	for _, it := range out {
		q.leave(it, gone)
	}
	slices.SortFunc(out, func(a, b *Item[T]) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.arrival, b.arrival))
	})
	return out
}

// Len returns how many wait. Who has given up since the last Push, Next or Pop is still counted.
func (q *Queue[T]) Len() int { return q.gives.Len() }

// Pass lets time pass: whose time has come is out of line. Push, Next and Pop do so too; whoever watches a Give does it at that moment, for
// a line that nobody touches otherwise.
func (q *Queue[T]) Pass(now time.Time) {
	for !q.gives.empty() && !q.gives.first().Give.After(now) {
		it := q.gives.first()
		if it.patient {
			it.tenant.line.lose(it.tenant)
		}
		q.leave(it, gaveUp)
	}
}

// best returns the line of the highest rank in line; somebody is.
func (q *Queue[T]) best() *line[T] {
	for _, l := range q.lines {
		if !l.empty() {
			return l
		}
	}
	panic("queue: nobody in line")
}

// next returns the line that is served next; somebody is in line.
func (q *Queue[T]) next(now time.Time) *line[T] {
	next := q.best()
	if q.served < starveShare-1 {
		return next
	}
	best := next
	for _, l := range q.lines {
		if !l.empty() && l.starves(now) && (next == best || l.hungry.Before(next.hungry)) {
			next = l
		}
	}
	return next
}

// worst returns whom to evict from a full line. The last of a rank that starves is spared: it would never be there to be served.
func (q *Queue[T]) worst(now time.Time) *Item[T] {
	var spared *line[T]
	for _, l := range slices.Backward(q.lines) {
		switch {
		case l.empty():
		case l.single() && l.starves(now):
			spared = cmp.Or(spared, l)
		default:
			return l.last()
		}
	}
	return spared.last()
}

// line returns the line of a rank.
func (q *Queue[T]) line(rank int) *line[T] {
	i, found := slices.BinarySearchFunc(q.lines, rank, compareRank[T])
	if !found {
		q.lines = slices.Insert(q.lines, i, newLine[T](rank))
	}
	return q.lines[i]
}

// leave is the only way out of the line.
func (q *Queue[T]) leave(it *Item[T], to place) {
	it.tenant.line.leave(it)
	q.gives.remove(it)
	it.tenant, it.place = nil, to
}
