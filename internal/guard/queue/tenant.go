package queue

import "strings"

// How many tenants have accounts. Names come from callers, and may be without end.
const (
	mostTenants = 1_000 // unknown ones with an account of their own, in all ranks; some 300 bytes each
	mostShared  = 64    // accounts a rank that those beyond share
)

// account names a tenant of a rank, or one of the shared accounts.
type account struct {
	rank   int
	name   string
	known  bool  // by a weight; who is named while its calls wait has another account from then on
	shared uint8 // 1 to mostShared; 0 is an account of its own
}

// tenant is the waiters of one tenant in one rank, linked by arrival, and what it has had.
type tenant[T any] struct {
	account
	line           *line[T]
	oldest, newest *Item[T] // both nil when none
	share
	trend
	turn, over int // places in the sets of its crowd while it has waiters
	idle       int // place in that of the idle while it has none
}

// first returns who of t, which has waiters, is served next.
func (t *tenant[T]) first() *Item[T] {
	if t.stands {
		return t.newest
	}
	return t.oldest
}

// last returns who of t is served after all others.
func (t *tenant[T]) last() *Item[T] {
	if t.stands {
		return t.oldest
	}
	return t.newest
}

func (t *tenant[T]) append(it *Item[T]) {
	it.prev = t.newest
	if t.newest == nil {
		t.oldest = it
	} else {
		t.newest.next = it
	}
	t.newest = it
	t.asks += it.charge
}

// unlink takes it out and clears its links, so that who still holds it holds nobody else.
func (t *tenant[T]) unlink(it *Item[T]) {
	if it.prev == nil {
		t.oldest = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		t.newest = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
	t.asks -= it.charge
	if t.oldest == nil {
		t.asks = 0 // of which rounding may have left something
	}
}

// tenant returns the account that c is charged to.
func (q *Queue[T]) tenant(l *line[T], c Claim) *tenant[T] {
	a := account{rank: l.rank, name: c.Tenant, known: c.Weight != 0}
	if t := q.tenants[a]; t != nil {
		return t
	}
	for len(q.tenants) >= mostTenants && q.forget() {
	}
	if len(q.tenants) >= mostTenants && !a.known {
		a.name, a.shared = "", uint8(1+hash(c.Tenant)%mostShared)
		if t := q.tenants[a]; t != nil {
			return t
		}
	}
	a.name = strings.Clone(a.name) // the caller's may be part of something large
	t := &tenant[T]{account: a, line: l}
	q.tenants[a] = t
	l.crowd(t).idle.add(t)
	return t
}

// forget drops the account of a tenant that would come back as one that was never there, of a stranger first; false if there is none.
func (q *Queue[T]) forget() bool {
	for _, l := range q.lines {
		if q.forgetOf(&l.strangers) {
			return true
		}
	}
	for _, l := range q.lines {
		if q.forgetOf(&l.known) {
			return true
		}
	}
	return false
}

func (q *Queue[T]) forgetOf(c *crowd[T]) bool {
	if c.idle.empty() || c.idle.first().clock > c.clock {
		return false
	}
	t := c.idle.first()
	c.idle.remove(t)
	delete(q.tenants, t.account)
	return true
}

// hash is FNV-1a. Names made to meet in one account only share it with each other.
func hash(name string) int {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h >> 1)
}
