package queue

import (
	"cmp"
	"slices"
	"time"
)

// Queue orders waiters of type T. Not safe for concurrent use: its owner's lock guards it.
type Queue[T any] struct {
	s     Settings
	lines []line[T] // by rank, ascending; a line stays when it empties
	gives gives[T]  // everybody in line, the next to give up first
}

// Item is one waiter in line. Its owner reads the exported fields and changes none.
type Item[T any] struct {
	Value T
	Rank  int       // criticality: lower is served first, strictly
	Give  time.Time // when to give up: the earlier of the longest wait and the deadline; set by Push

	since      time.Time
	prev, next *Item[T] // older and newer of the same rank, while in line
	at         int      // index in gives while in line
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
func New[T any](s Settings) *Queue[T] { return &Queue[T]{s: s} }

// Configure swaps the settings; who waits stays, and keeps its Give. s must be valid.
func (q *Queue[T]) Configure(s Settings) { q.s = s }

// Push puts v in line. deadline, zero for none, is the last moment at which being served still helps; the wait ends there or after
// MaxWait, whichever is earlier. ok is false when v got no place: with nil, nil because it could not wait at all (MaxWait is zero or the
// deadline has come), or as evicted because the line is full and v would be served last. When the line is full and v is not the last,
// the last leaves and is returned as evicted beside v's item.
func (q *Queue[T]) Push(v T, rank int, deadline, now time.Time) (item, evicted *Item[T], ok bool) {
	give := now.Add(q.s.MaxWait)
	if !deadline.IsZero() && deadline.Before(give) {
		give = deadline
	}
	if !give.After(now) {
		return nil, nil, false
	}
	q.expire(now)
	item = &Item[T]{Value: v, Rank: rank, Give: give, since: now}
	if q.Len() < q.s.MaxLength {
		q.enter(item)
		return item, nil, true
	}
	evicted = q.after(rank, now)
	if evicted == nil {
		item.place = gone
		return nil, item, false
	}
	q.leave(evicted, gone)
	q.enter(item)
	return item, evicted, true
}

// Pop takes the best waiter that has not given up out of the line; false if there is none.
func (q *Queue[T]) Pop(now time.Time) (*Item[T], bool) {
	q.expire(now)
	for i := range q.lines {
		if l := &q.lines[i]; l.oldest != nil {
			it := l.first(q.stands(l, now))
			q.leave(it, gone)
			return it, true
		}
	}
	return nil, false
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
	for i := range q.lines {
		for it := q.lines[i].oldest; it != nil; {
			next := it.next
			if match(it.Value) {
				q.leave(it, gone)
				out = append(out, it)
			}
			it = next
		}
	}
	return out
}

// Len returns how many wait. Who has given up since the last Push or Pop is still counted.
func (q *Queue[T]) Len() int { return len(q.gives) }

// expire takes everybody out of the line whose time has come.
func (q *Queue[T]) expire(now time.Time) {
	for len(q.gives) > 0 && !q.gives[0].Give.After(now) {
		q.leave(q.gives[0], gaveUp)
	}
}

// after returns who would be served last, if that is after a newcomer of rank; else nil.
func (q *Queue[T]) after(rank int, now time.Time) *Item[T] {
	for _, l := range slices.Backward(q.lines) {
		if l.oldest == nil {
			continue
		}
		if stands := q.stands(&l, now); l.rank > rank || l.rank == rank && stands {
			return l.last(stands)
		}
		return nil
	}
	return nil
}

// stands reports whether the oldest of l, which is not empty, has waited half of MaxWait.
func (q *Queue[T]) stands(l *line[T], now time.Time) bool {
	return now.Sub(l.oldest.since) >= q.s.MaxWait/2
}

// find returns where the line of rank is, or would be.
func (q *Queue[T]) find(rank int) (i int, found bool) {
	return slices.BinarySearchFunc(q.lines, rank, func(l line[T], rank int) int { return cmp.Compare(l.rank, rank) })
}

// enter puts it at the end of its rank's line.
func (q *Queue[T]) enter(it *Item[T]) {
	i, found := q.find(it.Rank)
	if !found {
		q.lines = slices.Insert(q.lines, i, line[T]{rank: it.Rank})
	}
	q.lines[i].append(it)
	q.gives.push(it)
}

// leave is the only way out of the line.
func (q *Queue[T]) leave(it *Item[T], to place) {
	i, _ := q.find(it.Rank)
	q.lines[i].unlink(it)
	q.gives.remove(it)
	it.place = to
}
