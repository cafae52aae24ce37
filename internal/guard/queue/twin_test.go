package queue_test

import (
	"cmp"
	"slices"
	"strings"
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
	known          bool // its tenant; of the same name there may be a stranger
	charge         float64
	patience, left time.Duration
	give           time.Time
	patient        bool // it gives up before its deadline
}

// rank is what is known of one rank.
type rank struct {
	clock          float64            // virtual time among the known
	inner          float64            // the same among strangers
	together       float64            // the clock of all strangers, among the known
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

// turns returns one of each tenant that waits in a rank, of those known or of the strangers, in the order of their turns. Among those that
// have had the same the one with the oldest waiter is first; in a rank that stands the one with the newest.
func (n *naive) turns(rank int, known bool) []waiter {
	r := n.ranks[rank]
	line := slices.DeleteFunc(n.of(rank), func(w waiter) bool { return w.known != known })
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

// clock is how far the tenant of w has come among the known; strangers all as far.
func (n *naive) clock(w waiter) float64 {
	if w.known {
		return n.ranks[w.rank].clocks[w.tenant]
	}
	return n.ranks[w.rank].together
}

// many is the weight of all strangers of a rank together.
func (n *naive) many(rank int) float64 {
	return float64(min(max(len(n.turns(rank, false)), 1), 10))
}

// sooner tells whether a, known or a stranger, has its turn before b, which is the other.
func (n *naive) sooner(a, b waiter) bool {
	if x, y := n.clock(a), n.clock(b); x != y {
		return x < y
	}
	return a.name < b.name != n.ranks[a.rank].trend.stands
}

// turn returns one of the tenant whose turn it is; somebody waits in the rank.
func (n *naive) turn(rank int) waiter {
	known, strangers := n.turns(rank, true), n.turns(rank, false)
	if len(known) == 0 || len(strangers) > 0 && n.sooner(strangers[0], known[0]) {
		return strangers[0]
	}
	return known[0]
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
	n.line = slices.DeleteFunc(n.line, match)
	for i, r := range n.ranks {
		if len(n.turns(i, false)) == 0 {
			r.inner = r.latest(false)
		}
		if len(n.of(i)) == 0 {
			r.clock = max(r.latest(true), r.together)
		}
	}
	return len(n.line) < before
}

// latest returns the latest clock of the known, or of strangers.
func (r *rank) latest(known bool) (latest float64) {
	for tenant, clock := range r.clocks {
		if strings.HasSuffix(tenant, " known") == known {
			latest = max(latest, clock)
		}
	}
	return latest
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
	return n.order(next, n.turn(next).tenant)[0]
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
	r.clock, r.hungry = n.clock(w), now
	if !w.known {
		r.inner = r.clocks[w.tenant]
		r.together += w.charge / n.many(w.rank)
	}
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
	known, most, _ := n.over(worst, true)
	stranger, _, all := n.over(worst, false)
	over := known
	all /= n.many(worst)
	if all > most || all == most && n.sooner(known, stranger) {
		over = stranger
	}
	order := n.order(worst, over.tenant)
	return order[len(order)-1]
}

// over returns one of the tenant that asks for most, of those known or of the strangers of a rank, what it asks for, and what all do.
func (n *naive) over(rank int, known bool) (over waiter, most, all float64) {
	for _, turn := range n.turns(rank, known) {
		asks := 0.0
		for _, w := range n.of(rank, turn.tenant) {
			asks += w.charge
		}
		if asks >= most {
			most, over = asks, turn
		}
		all += asks
	}
	return over, most, all
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
	if len(n.turns(w.rank, false)) == 0 && !w.known {
		r.together = max(r.together, r.clock)
	}
	if len(n.of(w.rank, w.tenant)) == 0 {
		clock := r.inner
		if w.known {
			clock = r.clock
		}
		r.clocks[w.tenant] = max(r.clocks[w.tenant], clock)
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
