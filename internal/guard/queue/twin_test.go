package queue_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// naive is the queue as its documentation tells it: a slice in order of arrival that is searched from end to end, and tenants that are
// never forgotten.
type naive struct {
	s      queue.Settings
	line   []waiter
	ranks  map[int]*rank
	served int // since a starving rank was
}

// waiter is one in line; its name is its number of arrival.
type waiter struct {
	name, rank     int
	tenant         string
	charge         float64
	patience, left time.Duration
	give           time.Time
	patient        bool // it gives up before its deadline
}

// rank is what is known of one rank.
type rank struct {
	clock          float64
	clocks         map[string]float64 // of its tenants
	trend          trend
	trends         map[string]*trend // of its tenants
	joined, hungry time.Time
}

// trend is the share of lost comers; it stands from one in twenty on, until it is no more than one in fifty.
type trend struct {
	lost   float64
	stands bool
}

func (t *trend) came() {
	if t.lost -= t.lost / 100; t.lost <= 0.02 {
		t.stands = false
	}
}

func (t *trend) lose() {
	if t.lost += 0.01; t.lost >= 0.05 {
		t.stands = true
	}
}

func newNaive(s queue.Settings) *naive { return &naive{s: s, ranks: map[int]*rank{}} }

func (n *naive) rank(i int) *rank {
	if n.ranks[i] == nil {
		n.ranks[i] = &rank{clocks: map[string]float64{}, trends: map[string]*trend{}}
	}
	return n.ranks[i]
}

// of returns who waits in a rank, by arrival; all of it, or one tenant of it.
func (n *naive) of(rank int, tenant ...string) (of []waiter) {
	for _, w := range n.line {
		if w.rank == rank && (len(tenant) == 0 || w.tenant == tenant[0]) {
			of = append(of, w)
		}
	}
	return of
}

// order returns who waits of a tenant, the next to be served first.
func (n *naive) order(rank int, tenant string) []waiter {
	of := n.of(rank, tenant)
	if n.ranks[rank].trends[tenant].stands {
		slices.Reverse(of)
	}
	return of
}

// turns returns one of each tenant that waits in a rank, in the order of their turns. Among those that have had the same the one with the
// oldest waiter is first; in a rank that stands the one with the newest.
func (n *naive) turns(rank int) []waiter {
	r, line := n.ranks[rank], n.of(rank)
	if r.trend.stands {
		slices.Reverse(line)
	}
	slices.SortStableFunc(line, func(a, b waiter) int { return cmp.Compare(r.clocks[a.tenant], r.clocks[b.tenant]) })
	var turns []waiter
	for _, w := range line {
		if !slices.ContainsFunc(turns, func(o waiter) bool { return o.tenant == w.tenant }) {
			turns = append(turns, w)
		}
	}
	return turns
}

// inLine returns the ranks in which somebody waits, the highest first.
func (n *naive) inLine() (ranks []int) {
	for i := range n.ranks {
		if len(n.of(i)) > 0 {
			ranks = append(ranks, i)
		}
	}
	slices.Sort(ranks)
	return ranks
}

// drop takes out whoever matches.
func (n *naive) drop(match func(waiter) bool) (dropped bool) {
	before := len(n.line)
	busy := n.inLine()
	n.line = slices.DeleteFunc(n.line, match)
	for _, i := range busy {
		if r := n.ranks[i]; len(n.of(i)) == 0 {
			for _, clock := range r.clocks {
				r.clock = max(r.clock, clock)
			}
		}
	}
	return len(n.line) < before
}

func (n *naive) remove(name int) bool { return n.drop(func(w waiter) bool { return w.name == name }) }

// lose notes that w was not served for want of time or room.
func (n *naive) lose(w waiter) {
	n.ranks[w.rank].trend.lose()
	n.ranks[w.rank].trends[w.tenant].lose()
}

func (n *naive) pass(now time.Time) {
	over := func(w waiter) bool { return !now.Before(w.give) }
	for _, w := range n.line {
		if over(w) && w.patient {
			n.lose(w)
		}
	}
	n.drop(over)
}

func (n *naive) starves(rank int, now time.Time) bool {
	return now.Sub(n.ranks[rank].hungry) >= queue.StarveAfter
}

// next returns who is served next; somebody waits.
func (n *naive) next(now time.Time) waiter {
	ranks := n.inLine()
	next := ranks[0]
	if n.served >= 99 {
		for _, i := range ranks[1:] {
			if n.starves(i, now) && (next == ranks[0] || n.ranks[i].hungry.Before(n.ranks[next].hungry)) {
				next = i
			}
		}
	}
	return n.order(next, n.turns(next)[0].tenant)[0]
}

func (n *naive) pop(now time.Time) (waiter, bool) {
	n.pass(now)
	if len(n.line) == 0 {
		return waiter{}, false
	}
	w := n.next(now)
	n.served++
	if w.rank != n.inLine()[0] {
		n.served = 0
	}
	r := n.ranks[w.rank]
	r.clock, r.hungry = r.clocks[w.tenant], now
	r.clocks[w.tenant] += w.charge
	n.remove(w.name)
	return w, true
}

// worst returns who leaves a full line.
func (n *naive) worst(now time.Time) waiter {
	ranks := n.inLine()
	worst := ranks[len(ranks)-1]
	for _, i := range slices.Backward(ranks) {
		if len(n.of(i)) > 1 || !n.starves(i, now) {
			worst = i
			break
		}
	}
	most, over := 0.0, ""
	for _, turn := range n.turns(worst) {
		asks := 0.0
		for _, w := range n.of(worst, turn.tenant) {
			asks += w.charge
		}
		if asks >= most {
			most, over = asks, turn.tenant
		}
	}
	order := n.order(worst, over)
	return order[len(order)-1]
}

// wait is how long w waits at most.
func (n *naive) wait(w waiter) time.Duration {
	if n.s.MaxWait == 0 {
		return 0
	}
	t, known := n.rank(w.rank).trends[w.tenant]
	if s := n.s.StandingWait; known && t.stands && s > 0 && s < n.s.MaxWait {
		return time.Duration(float64(w.patience) * float64(s) / float64(n.s.MaxWait))
	}
	return w.patience
}

// push returns who leaves, or -1, and whether w found a place.
func (n *naive) push(w waiter, now time.Time) (give time.Time, evicted int, ok bool) {
	n.pass(now)
	wait := n.wait(w)
	w.give, w.patient = now.Add(min(wait, w.left)), wait < w.left
	if !w.give.After(now) {
		return now, -1, false
	}
	r := n.rank(w.rank)
	if len(n.of(w.rank)) == 0 && now.Sub(r.joined) >= queue.StarveAfter {
		r.hungry = now
	}
	r.joined = now
	if r.trends[w.tenant] == nil {
		r.trends[w.tenant] = new(trend)
	}
	r.trend.came()
	r.trends[w.tenant].came()
	if len(n.of(w.rank, w.tenant)) == 0 {
		r.clocks[w.tenant] = max(r.clocks[w.tenant], r.clock)
	}
	n.line = append(n.line, w)
	if len(n.line) <= n.s.MaxLength {
		return w.give, -1, true
	}
	worst := n.worst(now) // one only, also if the length was lowered
	evicted = worst.name
	n.lose(worst)
	n.remove(evicted)
	return w.give, evicted, evicted != w.name
}
