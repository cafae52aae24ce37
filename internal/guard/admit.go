package guard

import (
	"context"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// ask is one call under decision. It leaves the names of the Call behind, not to copy them in every decision.
type ask struct {
	at       time.Duration
	now      time.Time // the same; unset while only the flag was asked
	feature  *feature  // nil without one
	method   *method
	stream   bool
	attempt  int
	cost     int
	heavy    bool // its method is, among those that wait for slots
	deadline time.Time
	to       *Endpoint  // where it goes, once that is known
	slot     limit.Slot // that was taken for it there; none for a stream, or outside mode enforce
	roll     int        // the throw of the dice against the feature's switch, from 0 up to fully; unthrown before
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
		g.unlock()
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
		g.refuseLocked(c, a, d, Draining, 0)
		return p, nil
	}
	if r := a.switched(g.dice); r != None {
		a.feature.blocked++
		g.refuseLocked(c, a, d, r, never)
		return p, nil
	}
	if a.feature != nil {
		a.feature.passed++
	}
	a.now = g.now(a.at)
	r, after := None, time.Duration(0)
	if g.settings.Mode != Off {
		r, after = g.checkLocked(c, a)
	}
	switch {
	case r == None:
	case g.settings.Mode == Observe:
		r = g.wouldLocked(a, r)
	case r == LimitReached:
		return p, g.queueLocked(c, a, d)
	default:
		g.refuseLocked(c, a, d, r, after)
		return p, nil
	}
	p = g.admitLocked(c, a, d)
	if d.Admitted && r != None {
		g.observeLocked(c, a, d, r)
	}
	return p, nil
}

// admitLocked gives out a permit, unless the breaker has no ticket for it: that comes last, not to waste a probe. A slot of the limit that
// was taken for the call is given back then.
func (g *Guard) admitLocked(c *Call, a *ask, d *Decision) Permit {
	ticket, after, ok := g.ticketLocked(a.now)
	if !ok {
		g.forgoLocked(a)
		g.refuseLocked(c, a, d, BreakerOpen, after)
		return Permit{}
	}
	if a.to == nil {
		a.to = g.pickLocked(journey{at: a.at, now: a.now, probes: true})
	}
	g.figuresLocked(a, d)
	d.Admitted = true
	return g.seatLocked(c, a, ticket)
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
	g.past.keep(&g.methods, at)
	a.method = g.methods.find(c.Method, at)
	a.stream = c.Stream || a.method.streams
	a.attempt, a.cost, a.deadline = c.Attempt, c.Cost, c.Deadline
	if c.Feature != "" {
		a.feature = g.features.find(c.Feature, at)
	}
}

// switched tells whether the switch of the call's feature stops it.
func (a *ask) switched(d dice) Reason {
	f := a.feature
	if f == nil || f.pass == fully {
		return None
	}
	if f.pass == 0 {
		return FeatureOff
	}
	a.throw(d)
	if a.roll >= f.pass {
		return FeatureDimmed
	}
	return None
}

// throw throws the dice once for each call, so that a call that waits is not dimmed twice.
func (a *ask) throw(d dice) {
	if a.roll == unthrown {
		a.roll = int(d.below(fully))
	}
}

// checkLocked returns the first check that holds the call back and when to try again, which for a limit has still to be foreseen. If none
// does, it has taken a slot of the limit.
func (g *Guard) checkLocked(c *Call, a *ask) (r Reason, after time.Duration) {
	if a.late() {
		return DeadlineUnreachable, never
	}
	if ok, after := g.readyLocked(a.now); !ok {
		return BreakerOpen, after
	}
	if a.attempt > 0 && !g.spareLocked(c.Tenant, a.at) {
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

// takeLocked takes a slot for a unary call, or finds room for a stream. Whatever frees a slot gives it to the line under the same lock; one
// that time alone has freed goes to the line first, too.
func (g *Guard) takeLocked(a *ask) bool {
	g.expireLocked(a.at)
	if a.stream {
		return g.placeLocked(a)
	}
	ok := g.slotLocked(a, true)
	if ok && g.line.Len() > 0 && g.settings.Mode == Enforce {
		g.forgoLocked(a)
		g.dispatchLocked(a.at)
		ok = g.slotLocked(a, true)
	}
	if !ok {
		g.shortAt = a.at
	}
	return ok
}

// slotLocked takes a slot of the limit where the call is to go, if one is free. Where nobody can be reached none is needed. The limit that
// turns a fresh call away hears of it.
func (g *Guard) slotLocked(a *ask, fresh bool) (ok bool) {
	g.weighLocked(a)
	switch len(g.pool) {
	case 0:
		return true
	case 1:
		a.to = g.pool[0]
		if a.slot, ok = a.to.acquire(a.units(), a.heavy, a.now); !ok && fresh {
			a.to.limiter.Held()
		}
		return ok
	}
	a.to = nil
	if !g.fullLocked(a.units()) {
		a.to = g.pickLocked(journey{at: a.at, now: a.now, units: a.units(), heavy: a.heavy, roomy: true, fresh: fresh, probes: true})
	}
	if a.to != nil {
		a.slot, ok = a.to.acquire(a.units(), a.heavy, a.now)
	}
	return ok
}

// units is how many units of the limit the call takes.
func (a *ask) units() int { return min(max(a.cost, 1), MostCost) }

// figuresLocked tells the figures that a decision is made on. Those of a stream are of the account of streams.
func (g *Guard) figuresLocked(a *ask, d *Decision) {
	d.Limit, d.InFlight, d.Breaker = g.limit, g.unary, g.state
	if d.Stream = a.stream; a.stream {
		d.Limit, d.InFlight = g.streamFiguresLocked(a.at)
	}
	if a.feature != nil && a.feature.flagged {
		d.Feature = a.feature.setting
	}
}

// refuseLocked decides on a refusal, and counts it.
func (g *Guard) refuseLocked(c *Call, a *ask, d *Decision, r Reason, after time.Duration) {
	g.figuresLocked(a, d)
	d.Reason, d.RetryAfter = r, after
	a.method.totals.Refused[r]++
	if f := a.feature; f != nil {
		f.cost.recent.at(a.at).refused++
		d.First = f.fresh && (r == FeatureOff || r == FeatureDimmed)
		f.fresh = f.fresh && !d.First
	}
	g.recordLocked(c, a, d)
}

// wouldLocked counts what mode observe lets pass, and returns for which reason it would have been refused: none if it would have waited.
func (g *Guard) wouldLocked(a *ask, r Reason) Reason {
	if r == LimitReached && !a.stream && g.bearableLocked(a.at) {
		a.method.totals.WouldWait++
		return None
	}
	a.method.totals.WouldRefuse[r]++
	return r
}

// bearableLocked tells whether the line that there would be, of all who are in flight beyond the limit, moves on within the longest wait.
// While nothing is known of how fast that is, it does not.
func (g *Guard) bearableLocked(at time.Duration) bool {
	pace := g.paceLocked(at)
	beyond := float64(g.unary + 1 - g.limit)
	each := pace * float64(g.limit) / float64(max(g.unary, g.limit)) // as pace is of a full limit, and more may be in flight
	return pace > 0 && beyond*each <= float64(g.settings.Queue.MaxWait)
}
