package queue

// share is what a tenant, or all strangers together, has had and asks for.
type share struct {
	clock float64 // when, in the virtual time of its crowd, it is served next
	asks  float64 // the charges of all its waiters
}

// crowd is tenants that take turns.
type crowd[T any] struct {
	turn   sorted[*tenant[T]] // who have waiters, the next to be served first
	over   sorted[*tenant[T]] // the same, the most over its share first
	idle   sorted[*tenant[T]] // who have none, the least ahead first
	clock  float64            // virtual time: the start of the latest service
	latest float64            // the latest time on any clock
}

func newCrowd[T any](before, moreOver func(a, b *tenant[T]) bool) crowd[T] {
	return crowd[T]{
		turn: sorted[*tenant[T]]{less: before, index: func(t *tenant[T]) *int { return &t.turn }},
		over: sorted[*tenant[T]]{less: moreOver, index: func(t *tenant[T]) *int { return &t.over }},
		idle: sorted[*tenant[T]]{
			less:  func(a, b *tenant[T]) bool { return a.clock < b.clock },
			index: func(t *tenant[T]) *int { return &t.idle },
		},
	}
}

func (c *crowd[T]) empty() bool { return c.turn.empty() }

// enter says that t has waiters from now on. It has no credit for having been away.
func (c *crowd[T]) enter(t *tenant[T]) {
	c.idle.remove(t)
	t.clock = max(t.clock, c.clock)
	c.turn.add(t)
	c.over.add(t)
}

// rest says that t has none any more.
func (c *crowd[T]) rest(t *tenant[T]) {
	c.turn.remove(t)
	c.over.remove(t)
	c.idle.add(t)
}

// fix says that the waiters of t are others than before.
func (c *crowd[T]) fix(t *tenant[T]) {
	c.turn.fix(t)
	c.over.fix(t)
}

// sort says that the order is another.
func (c *crowd[T]) sort() {
	c.turn.sort()
	c.over.sort()
}

// pay charges one of the crowd.
func (c *crowd[T]) pay(s *share, charge float64) {
	s.clock += charge
	c.latest = max(c.latest, s.clock)
}

// settle says that everybody has had what it asked for, and all are equal again.
func (c *crowd[T]) settle() { c.clock = c.latest }
