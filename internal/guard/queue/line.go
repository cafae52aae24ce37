package queue

import "container/heap"

// line is the waiters of one rank, linked by arrival.
type line[T any] struct {
	rank           int
	oldest, newest *Item[T] // both nil when empty
}

// first returns who is served next, last who is served after all others; the line is not empty.
func (l *line[T]) first(stands bool) *Item[T] {
	if stands {
		return l.newest
	}
	return l.oldest
}

func (l *line[T]) last(stands bool) *Item[T] { return l.first(!stands) }

func (l *line[T]) append(it *Item[T]) {
	it.prev = l.newest
	if l.newest == nil {
		l.oldest = it
	} else {
		l.newest.next = it
	}
	l.newest = it
}

// unlink takes it out and clears its links, so that who still holds it holds nobody else.
func (l *line[T]) unlink(it *Item[T]) {
	if it.prev == nil {
		l.oldest = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.newest = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}

// gives is a heap of everybody in line by Give. Deadlines differ, so who gives up next is not who came first.
type gives[T any] []*Item[T]

func (g *gives[T]) push(it *Item[T])   { heap.Push(g, it) }
func (g *gives[T]) remove(it *Item[T]) { heap.Remove(g, it.at) }

// Len, Less, Swap, Push and Pop are for container/heap only.
func (g gives[T]) Len() int           { return len(g) }
func (g gives[T]) Less(i, j int) bool { return g[i].Give.Before(g[j].Give) }
func (g gives[T]) Swap(i, j int)      { g[i], g[j] = g[j], g[i]; g[i].at, g[j].at = i, j }

func (g *gives[T]) Push(x any) {
	it := x.(*Item[T])
	it.at = len(*g)
	*g = append(*g, it)
}

func (g *gives[T]) Pop() any {
	old := *g
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*g = old[:len(old)-1]
	return it
}
