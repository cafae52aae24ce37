package queue

import "container/heap"

// sorted keeps a set of elements so that the first of an order is at hand. Each element knows where it is.
type sorted[E any] struct {
	all   []E
	less  func(a, b E) bool
	index func(E) *int // where e keeps its place in all
}

func (s *sorted[E]) empty() bool { return len(s.all) == 0 }
func (s *sorted[E]) add(e E)     { heap.Push(s, e) }
func (s *sorted[E]) remove(e E)  { heap.Remove(s, *s.index(e)) }

// first returns the first; zero if there is none.
func (s *sorted[E]) first() (e E) {
	if len(s.all) > 0 {
		e = s.all[0]
	}
	return e
}

// fix says that e compares otherwise than before, sort that all may.
func (s *sorted[E]) fix(e E) { heap.Fix(s, *s.index(e)) }
func (s *sorted[E]) sort()   { heap.Init(s) }

// Len, Less, Swap, Push and Pop are for container/heap only.
func (s *sorted[E]) Len() int           { return len(s.all) }
func (s *sorted[E]) Less(i, j int) bool { return s.less(s.all[i], s.all[j]) }

func (s *sorted[E]) Swap(i, j int) {
	s.all[i], s.all[j] = s.all[j], s.all[i]
	*s.index(s.all[i]), *s.index(s.all[j]) = i, j
}

func (s *sorted[E]) Push(x any) {
	e := x.(E)
	*s.index(e) = len(s.all)
	s.all = append(s.all, e)
}

func (s *sorted[E]) Pop() any {
	last := len(s.all) - 1
	e := s.all[last]
	clear(s.all[last:]) // whoever left is not held here
	s.all = s.all[:last]
	return e
}
