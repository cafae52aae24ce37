package guard

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

const (
	// shortFor is how long after the limit held a call back it counts as short: long against a call, short against a burst.
	shortFor = time.Second

	// A hint to retry after the expected drain time lies between these, spread over one to two times that. Below the first nothing is
	// gained, beyond the second nothing can be foreseen.
	hintLeast = 10 * time.Millisecond
	hintMost  = 5 * time.Second
)

// ask is one call under decision. It leaves the names of the Call behind, not to copy them in every decision.
type ask struct {
	at       time.Duration
	now      time.Time // the same; unset while only the flag was asked
	feature  *feature  // nil without one
	method   *method
	stream   bool
	attempt  int
	deadline time.Time
	roll     int // the throw of the dice against the feature's switch, from 0 up to fully; unthrown before
}

// unthrown is the roll of a call that met no switch in a middle position.
const unthrown = -1

// Ask decides on c, in the order of the package documentation, and never blocks. If d.Admitted the caller owes exactly one p.Done;
// otherwise p is empty and d.Reason says why. If the call has to wait, p and d say nothing and w.Waiting is true: then s is told the
// decision, exactly once, perhaps before Ask returns. The wait ends by itself, at the latest after the queue's longest wait or at the
// call's deadline.
func (g *Guard) Ask(c Call, s Settler) (p Permit, d Decision, w Wait) {
	a := ask{roll: unthrown}
	g.mu.Lock()
	p, waiting := g.decideLocked(&c, &a, &d)
	if waiting != nil {
		w = waiting.begin(s)
	}
	g.unlock()
	return p, d, w
}

// Admit is Ask for callers that may block: it waits until a permit is free, ctx ends, or the queue gives up. ctx matters only while the
// call waits; its deadline should be c.Deadline.
func (g *Guard) Admit(ctx context.Context, c Call) (p Permit, d Decision) {
	a := ask{roll: unthrown}
	g.mu.Lock()
	p, waiting := g.decideLocked(&c, &a, &d)
	if waiting == nil {
		g.mu.Unlock() // It settled nobody: only a newcomer in line can push another out.
		return p, d
	}
	s := g.callers.Get().(caller)
	w := waiting.begin(s)
	g.unlock()
	p, d = s.wait(ctx, w)
	g.callers.Put(s)
	return p, d
}

// decideLocked is the way of a call. It returns a waiter if the call has to wait.
func (g *Guard) decideLocked(c *Call, a *ask, d *Decision) (p Permit, w *waiter) {
	g.identifyLocked(c, a, g.clock())
	if g.drained != nil {
		g.refuseLocked(a, d, Draining, 0)
		return p, nil
	}
	if r := a.switched(); r != None {
		a.feature.blocked++
		g.refuseLocked(a, d, r, never)
		return p, nil
	}
	if a.feature != nil {
		a.feature.passed++
	}
	a.now = g.now(a.at)
	r, after := None, time.Duration(0)
	if g.settings.Mode != Off {
		r, after = g.checkLocked(a)
	}
	switch {
	case r == None:
	case g.settings.Mode == Observe:
		g.wouldLocked(a, r)
	case r == LimitReached:
		return p, g.queueLocked(c, a, d)
	default:
		g.refuseLocked(a, d, r, after)
		return p, nil
	}
	p = g.admitLocked(a, d, r == None && !a.stream && g.settings.Mode != Off)
	if d.Admitted {
		d.Reason = r
	}
	return p, nil
}

// admitLocked gives out a permit, unless the breaker has no ticket for it: that comes last, not to waste a probe. A slot of the limit that
// was taken for the call is given back then.
func (g *Guard) admitLocked(a *ask, d *Decision, slotted bool) Permit {
	ticket, after, ok := g.ticketLocked(a.now)
	if !ok {
		if slotted {
			g.limiter.Release(limit.Ignored, 0, a.now)
		}
		g.refuseLocked(a, d, BreakerOpen, after)
		return Permit{}
	}
	g.figuresLocked(a, d)
	d.Admitted = true
	return g.seatLocked(a, ticket, slotted)
}

// ticketLocked asks the breaker for a ticket; only mode enforce needs one.
func (g *Guard) ticketLocked(now time.Time) (t breaker.Ticket, after time.Duration, ok bool) {
	if g.settings.Mode == Off {
		return t, 0, true
	}
	t, ok, after = g.breaker.Allow(now)
	return t, after, ok || g.settings.Mode == Observe
}

// identifyLocked finds what is known of the call's feature and method.
func (g *Guard) identifyLocked(c *Call, a *ask, at time.Duration) {
	a.at = at
	a.method = g.methods.find(c.Method, at)
	a.stream = c.Stream || a.method.streams
	a.attempt, a.deadline = c.Attempt, c.Deadline
	if c.Feature != "" {
		a.feature = g.features.find(c.Feature, at)
	}
}

// switched tells whether the switch of the call's feature stops it.
func (a *ask) switched() Reason {
	f := a.feature
	if f == nil || f.pass == fully {
		return None
	}
	if f.pass == 0 {
		return FeatureOff
	}
	a.throw()
	if a.roll >= f.pass {
		return FeatureDimmed
	}
	return None
}

// throw throws the dice once for each call, so that a call that waits is not dimmed twice.
func (a *ask) throw() {
	if a.roll == unthrown {
		a.roll = rand.IntN(fully)
	}
}

// checkLocked returns the first check that holds the call back and when to try again, which for a limit has still to be foreseen. If none
// does, it has taken a slot of the limit.
func (g *Guard) checkLocked(a *ask) (r Reason, after time.Duration) {
	if a.late() {
		return DeadlineUnreachable, never
	}
	if ok, after := g.readyLocked(a.now); !ok {
		return BreakerOpen, after
	}
	if a.attempt > 0 && !g.spareLocked(a.at) {
		return RetryBudgetExhausted, never
	}
	if !g.takeLocked(a) {
		return LimitReached, 0
	}
	return None, 0
}

// late tells whether the time left is none, or less than its method's median.
func (a *ask) late() bool {
	if a.deadline.IsZero() {
		return false
	}
	left := a.deadline.Sub(a.now)
	return left <= 0 || left < a.need()
}

// need is the time that a call must have left to be of use.
func (a *ask) need() time.Duration {
	if median, known := a.method.service.value(a.at); known && !a.stream {
		return median
	}
	return 0
}

// readyLocked asks the breaker. What it did meanwhile takes effect first: a limit that has to begin from below does so before the call.
func (g *Guard) readyLocked(now time.Time) (ok bool, after time.Duration) {
	ok, after = g.breaker.Ready(now)
	if g.state != calm {
		g.noteLocked(now, "")
	}
	return ok, after
}

// spareLocked tells whether one more retry can be borne. All can while nothing is short.
func (g *Guard) spareLocked(at time.Duration) bool {
	if at-g.shortAt >= shortFor {
		return true
	}
	var sum flow
	for _, f := range g.flow.all(at) {
		sum.first += f.first
		sum.retries += f.retries
	}
	return float64(int(sum.retries)+g.retriesInLine+1) <= g.settings.RetryRatio*float64(sum.first)
}

// takeLocked takes a slot for a unary call, or finds room for a stream. A slot is free only while nobody waits: whatever frees one gives
// it on under the same lock.
func (g *Guard) takeLocked(a *ask) bool {
	if a.stream {
		return g.streams < g.settings.MaxStreams
	}
	if g.crowdedLocked() || !g.limiter.Acquire(a.now) {
		g.shortAt = a.at
		return false
	}
	return true
}

// crowdedLocked tells whether calls that were let in without a slot fill the limit.
func (g *Guard) crowdedLocked() bool { return g.loose > 0 && g.unary >= g.limiter.Limit() }

// hintLocked returns when a retry may find room: when those now waiting and in flight will be through, at the rate of the last seconds.
// Of streams nobody knows when they end.
func (g *Guard) hintLocked(a *ask) time.Duration {
	drain := hintMost / 2
	if ended := g.endedLocked(a.at); ended > 0 && !a.stream {
		ahead := float64(g.line.Len() + g.unary)
		drain = time.Duration(min(float64(drain), ahead*float64(span(a.at))/float64(ended)))
	}
	drain = max(drain, hintLeast)
	return drain + rand.N(drain)
}

func (g *Guard) endedLocked(at time.Duration) (n uint32) {
	for _, f := range g.flow.all(at) {
		n += f.ended
	}
	return n
}

// figuresLocked tells the figures that a decision is made on. Those of a stream are of the account of streams.
func (g *Guard) figuresLocked(a *ask, d *Decision) {
	d.Limit, d.InFlight, d.Breaker = g.limiter.Limit(), g.unary, g.state
	if a.stream {
		d.Limit, d.InFlight = g.settings.MaxStreams, g.streams
	}
	if a.feature != nil && a.feature.flagged {
		d.Feature = a.feature.setting
	}
}

// refuseLocked decides on a refusal, and counts it.
func (g *Guard) refuseLocked(a *ask, d *Decision, r Reason, after time.Duration) {
	g.figuresLocked(a, d)
	d.Reason, d.RetryAfter = r, after
	for _, t := range g.tallies(a.method, a.at) {
		t.Refused[r]++
	}
	if f := a.feature; f != nil {
		f.cost.recent.at(a.at).refused++
		d.First = f.fresh && (r == FeatureOff || r == FeatureDimmed)
		f.fresh = f.fresh && !d.First
	}
}

// wouldLocked counts what mode observe lets pass.
func (g *Guard) wouldLocked(a *ask, r Reason) {
	for _, t := range g.tallies(a.method, a.at) {
		t.WouldRefuse[r]++
	}
}

// tallies returns what counts decisions and outcomes.
func (g *Guard) tallies(m *method, at time.Duration) [3]*Totals {
	return [3]*Totals{&g.totals, g.recent.at(at), &m.totals}
}
