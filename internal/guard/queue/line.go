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

// line is the waiters of one rank, by tenant. All strangers together are one among those who are known, and take turns with each other when
// it is theirs.
type line[T any] struct {
	rank      int
	known     crowd[T] // its virtual time is that of the line
	strangers crowd[T]
	together  share // of all strangers, among the known

	trend            // while it stands its sets are sorted accordingly
	joined time.Time // when somebody joined last
	hungry time.Time // since when it is passed over
}

func newLine[T any](rank int) *line[T] {
	l := &line[T]{rank: rank}
	l.known = newCrowd(l.before, l.moreOver)
	l.strangers = newCrowd(l.before, l.moreOver)
	return l
}

// crowd returns among whom t takes its turns.
func (l *line[T]) crowd(t *tenant[T]) *crowd[T] {
	if t.known {
		return &l.known
	}
	return &l.strangers
}

// before tells whether a is served before b, both known or both strangers. Among equals it is as if they were one tenant.
func (l *line[T]) before(a, b *tenant[T]) bool {
	if a.clock != b.clock {
		return a.clock < b.clock
	}
	return l.sooner(a, b)
}

// moreOver tells whether a asks for more than b, of what is fair for each; among equals, whether a is served later.
func (l *line[T]) moreOver(a, b *tenant[T]) bool {
	if a.asks != b.asks {
		return a.asks > b.asks
	}
	return l.before(b, a)
}

// sooner tells whether a is served before b if both have had the same.
func (l *line[T]) sooner(a, b *tenant[T]) bool {
	if l.stands {
		return a.newest.arrival > b.newest.arrival
	}
	return a.oldest.arrival < b.oldest.arrival
}

// firstOf returns which of one who is known and a stranger, each the first of its crowd, is served first; nil is none.
func (l *line[T]) firstOf(known, stranger *tenant[T]) *tenant[T] {
	switch {
	case stranger == nil:
		return known
	case known == nil, l.together.clock < known.clock, l.together.clock == known.clock && l.sooner(stranger, known):
		return stranger
	}
	return known
}

func (l *line[T]) empty() bool { return l.known.empty() && l.strangers.empty() }

// single tells whether one waits, and no more.
func (l *line[T]) single() bool {
	t := l.turn()
	return t.oldest == t.newest && l.known.turn.Len()+l.strangers.turn.Len() == 1
}

// turn returns whose turn it is; the line is not empty.
func (l *line[T]) turn() *tenant[T] { return l.firstOf(l.known.turn.first(), l.strangers.turn.first()) }

// over returns who is the most over its share; the line is not empty.
func (l *line[T]) over() *tenant[T] {
	known, stranger := l.known.over.first(), l.strangers.over.first()
	asks := l.together.asks / l.many()
	switch {
	case stranger == nil:
		return known
	case known == nil, asks > known.asks, asks == known.asks && l.firstOf(known, stranger) == known:
		return stranger
	}
	return known
}

// first returns who is served next, last who is worst to keep; the line is not empty.
func (l *line[T]) first() *Item[T] { return l.turn().first() }
func (l *line[T]) last() *Item[T]  { return l.over().last() }

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
	if !t.known {
		l.gather(it)
	}
	if c := l.crowd(t); absent {
		c.enter(t)
	} else {
		c.fix(t)
	}
}

// gather takes note of it in the share of all strangers. As a tenant they have no credit for having been away.
func (l *line[T]) gather(it *Item[T]) {
	if l.strangers.empty() {
		l.together = share{clock: max(l.together.clock, l.known.clock)}
	}
	l.together.asks += it.charge
}

// leave takes it out of the line.
func (l *line[T]) leave(it *Item[T]) {
	t := it.tenant
	c := l.crowd(t)
	t.unlink(it)
	if !t.known {
		l.together.asks -= it.charge
	}
	if t.oldest != nil {
		c.fix(t)
		return
	}
	c.rest(t)
	if l.strangers.empty() {
		l.strangers.settle()
	}
	if l.empty() {
		l.known.settle()
	}
}

// serve charges the tenant of it; a stranger is charged to all strangers, too.
func (l *line[T]) serve(it *Item[T], now time.Time) {
	l.hungry = now
	l.known.clock = l.start()
	t := it.tenant
	if t.known {
		l.known.pay(&t.share, it.charge)
		return
	}
	l.strangers.clock = l.strangers.turn.first().clock
	l.strangers.pay(&t.share, it.charge)
	l.known.pay(&l.together, it.charge/l.many())
}

// mostAlike is the greatest weight of all strangers together.
const mostAlike = 10

// many is the weight of all strangers together: 1 for each who waits, but names can be had without end.
func (l *line[T]) many() float64 { return float64(min(max(l.strangers.turn.Len(), 1), mostAlike)) }

// start is the clock of whose turn it is: of the one who is served, unless others were passed over.
func (l *line[T]) start() float64 {
	if t := l.turn(); t.known {
		return t.clock
	}
	return l.together.clock
}

// lose takes note that the patience of one of t has ended, or that there was no room for it.
func (l *line[T]) lose(t *tenant[T]) {
	t.lose()
	l.follow(l.trend.lose())
}

// follow sorts the sets anew if the line has begun to stand, or ended.
func (l *line[T]) follow(turned bool) {
	if turned {
		l.known.sort()
		l.strangers.sort()
	}
}

// starves tells whether the line, which is not empty, was passed over for too long.
func (l *line[T]) starves(now time.Time) bool { return now.Sub(l.hungry) >= StarveAfter }

// compareRank orders lines by rank.
func compareRank[T any](l *line[T], rank int) int { return cmp.Compare(l.rank, rank) }
