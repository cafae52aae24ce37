package queue

import (
	"cmp"
	"time"
)

// The bounds of starvation: a rank that was passed over for StarveAfter gets the next grant, but starving ranks together get one grant in
// starveShare at most, so that what they cost the others is below one per cent wherever the back-end is slow.
const (
	StarveAfter = time.Second
	starveShare = 100
)

// line is the waiters of one rank, by tenant.
type line[T any] struct {
	rank   int
	turn   sorted[*tenant[T]] // who have waiters, the next to be served first
	over   sorted[*tenant[T]] // the same, the most over its share first
	idle   sorted[*tenant[T]] // who have none, the least ahead first
	clock  float64            // virtual time: the start of the latest service
	latest float64            // the latest time on any tenant's clock

	trend            // while it stands its sets are sorted accordingly
	joined time.Time // when somebody joined last
	hungry time.Time // since when it is passed over
}

func newLine[T any](rank int) *line[T] {
	l := &line[T]{rank: rank}
	l.turn = sorted[*tenant[T]]{less: l.before, index: func(t *tenant[T]) *int { return &t.turn }}
	l.over = sorted[*tenant[T]]{less: l.moreOver, index: func(t *tenant[T]) *int { return &t.over }}
	l.idle = sorted[*tenant[T]]{
		less:  func(a, b *tenant[T]) bool { return a.clock < b.clock },
		index: func(t *tenant[T]) *int { return &t.idle },
	}
	return l
}

// before tells whether a is served before b. Among equals it is as if they were one tenant.
func (l *line[T]) before(a, b *tenant[T]) bool {
	switch {
	case a.clock != b.clock:
		return a.clock < b.clock
	case l.stands:
		return a.newest.arrival > b.newest.arrival
	}
	return a.oldest.arrival < b.oldest.arrival
}

// moreOver tells whether a asks for more than b, of what is fair for each; among equals, whether a is served later.
func (l *line[T]) moreOver(a, b *tenant[T]) bool {
	if a.asks != b.asks {
		return a.asks > b.asks
	}
	return l.before(b, a)
}

func (l *line[T]) empty() bool { return l.turn.empty() }

// single tells whether one waits, and no more.
func (l *line[T]) single() bool {
	return len(l.turn.all) == 1 && l.turn.first().oldest == l.turn.first().newest
}

// first returns who is served next, last who is worst to keep; the line is not empty.
func (l *line[T]) first() *Item[T] { return l.turn.first().first() }
func (l *line[T]) last() *Item[T]  { return l.over.first().last() }

// join puts it in line.
func (l *line[T]) join(it *Item[T], now time.Time) {
	if l.empty() && now.Sub(l.joined) >= StarveAfter {
		l.hungry = now // nobody was passed over for a while
	}
	l.joined = now
	t := it.tenant
	t.came()
	l.follow(l.came())
	absent := t.oldest == nil
	t.append(it)
	if !absent {
		l.turn.fix(t)
		l.over.fix(t)
		return
	}
	l.idle.remove(t)
	t.clock = max(t.clock, l.clock)
	l.turn.add(t)
	l.over.add(t)
}

// leave takes it out of the line. When the line empties everybody has had what it asked for, and all are equal again.
func (l *line[T]) leave(it *Item[T]) {
	t := it.tenant
	t.unlink(it)
	if t.oldest != nil {
		l.turn.fix(t)
		l.over.fix(t)
		return
	}
	l.turn.remove(t)
	l.over.remove(t)
	l.idle.add(t)
	if l.empty() {
		l.clock = l.latest
	}
}

// serve charges the tenant of it.
func (l *line[T]) serve(it *Item[T], now time.Time) {
	t := it.tenant
	l.clock = l.turn.first().clock // its own, unless others were passed over
	t.clock += it.charge
	l.latest = max(l.latest, t.clock)
	l.hungry = now
}

// lose takes note that the patience of one of t has ended, or that there was no room for it.
func (l *line[T]) lose(t *tenant[T]) {
	t.lose()
	l.follow(l.trend.lose())
}

// follow sorts the sets anew if the line has begun to stand, or ended.
func (l *line[T]) follow(turned bool) {
	if turned {
		l.turn.sort()
		l.over.sort()
	}
}

// starves tells whether the line, which is not empty, was passed over for too long.
func (l *line[T]) starves(now time.Time) bool { return now.Sub(l.hungry) >= StarveAfter }

// compareRank orders lines by rank.
func compareRank[T any](l *line[T], rank int) int { return cmp.Compare(l.rank, rank) }
