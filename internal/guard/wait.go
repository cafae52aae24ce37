package guard

import (
	"context"
	"errors"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// maxTellers bounds how many tell Settlers at a time. Without a bound they would be nested as deep as the line is long when each Settler
// ends its call at once and so settles the next.
const maxTellers = 16

// Settler is told the decision on a call that had to wait.
type Settler interface {
	// Settle is called once, with what Ask would have returned, in the goroutine of whatever call of the guard settled somebody, or of a
	// timer. No lock of the guard is held, and it may call the guard. It should be brief: others wait to be told.
	Settle(p Permit, d Decision)
}

// Wait is the wait of one call. It is a value, free to copy; the zero Wait is that of a call that need not wait. Safe for concurrent use.
type Wait struct {
	w   *waiter
	seq uint64 // of the waiter's present use; another one there means that this wait is over
}

// Waiting tells whether the call had to wait, so that its decision is told to its Settler.
func (w Wait) Waiting() bool { return w.w != nil }

// Cancel takes the call out of the line, because its caller is gone: its Settler is told the reason Canceled, or DeadlineUnreachable if the
// deadline of the call has passed. If the call was settled otherwise, that stands.
func (w Wait) Cancel() { w.end(Canceled) }

// end refuses the call for a reason if it still waits.
func (w Wait) end(r Reason) {
	if w.w == nil {
		return
	}
	g := w.w.g
	g.mu.Lock()
	defer g.unlock()
	if w.w.seq == w.seq {
		g.giveUpLocked(w.w, g.clock(), r)
	}
}

// waiter is a call in the queue, and used again for others. Whoever takes it out of the line settles it, under the lock. From then on its
// use belongs to the one that will tell the Settler; the rest stays guarded by the lock, for a Wait and a timer may come late.
type waiter struct {
	g     *Guard
	timer *time.Timer          // runs out when the queue gives up
	seq   uint64               // how many of its uses are over
	item  *queue.Item[*waiter] // nil when not in line
	use
}

// use is one use of a waiter.
type use struct {
	call    Call
	roll    int
	since   time.Duration
	settler Settler

	p    Permit
	d    Decision
	next *waiter // among the settled
}

func newWaiter(g *Guard) *waiter {
	w := &waiter{g: g}
	w.timer = time.AfterFunc(time.Hour, w.runOut)
	w.timer.Stop()
	return w
}

// begin names who will be told.
func (w *waiter) begin(s Settler) Wait {
	w.settler = s
	return Wait{w: w, seq: w.seq}
}

// runOut ends a wait whose time has come. A timer that was stopped too late finds its waiter at rest, or in a use that has still time; that
// use has set the timer again.
func (w *waiter) runOut() {
	g := w.g
	g.mu.Lock()
	defer g.unlock()
	if at := g.clock(); w.item != nil && !w.item.Give.After(g.now(at)) {
		g.giveUpLocked(w, at, QueueTimeout)
	}
}

// tell tells the decision to the Settler, which may make the waiter's next use.
func (w *waiter) tell() {
	s, p, d := w.settler, w.p, w.d
	w.timer.Stop()
	w.use = use{}
	w.g.idlers.Put(w)
	s.Settle(p, d)
}

// waiters is a list in the order of arrival.
type waiters struct{ first, last *waiter }

func (l *waiters) add(w *waiter) {
	if l.first == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
}

func (l *waiters) take() *waiter {
	w := l.first
	l.first = w.next
	return w
}

// unlock unlocks, and tells those who were settled, unless enough others do so already.
func (g *Guard) unlock() {
	if g.settled.first == nil || g.tellers == maxTellers {
		g.mu.Unlock()
		return
	}
	g.tellers++
	for g.settled.first != nil {
		w := g.settled.take()
		g.mu.Unlock()
		w.tell()
		g.mu.Lock()
	}
	g.tellers--
	g.mu.Unlock()
}

// caller is the Settler of an Admit: a channel with room for one answer.
type caller chan answer

type answer struct {
	p Permit
	d Decision
}

func newCaller() caller { return make(caller, 1) }

// Settle wakes the Admit.
func (c caller) Settle(p Permit, d Decision) { c <- answer{p, d} }

// wait blocks until w is settled. What was settled stands: a permit that came together with the end of ctx was given in time, and its
// holder will notice.
func (c caller) wait(ctx context.Context, w Wait) (Permit, Decision) {
	select {
	case a := <-c:
		return a.p, a.d
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.end(DeadlineUnreachable)
	} else {
		w.end(Canceled)
	}
	a := <-c
	return a.p, a.d
}

// everybody matches all who wait.
func everybody(*waiter) bool { return true }

// queueLocked puts a call in line, or refuses it if it is not to wait. In a full line the last leaves, and may be the newcomer.
func (g *Guard) queueLocked(c *Call, a *ask, d *Decision) *waiter {
	if a.stream || g.limiter.Limit() == 0 || g.settings.Queue.MaxWait == 0 {
		g.refuseLocked(a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	a.throw()
	w := g.idlers.Get().(*waiter)
	item, evicted, ok := g.line.Push(w, int(c.Criticality), a.lastMoment(), a.now)
	if !ok {
		g.idlers.Put(w)
		g.refuseLocked(a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	w.call, w.roll, w.since, w.item = *c, a.roll, a.at, item
	if a.attempt > 0 {
		g.retriesInLine++
	}
	w.timer.Reset(item.Give.Sub(a.now))
	if evicted != nil {
		g.turnAwayLocked(evicted.Value, a.at, LimitReached, g.hintLocked(a))
	}
	return w
}

// lastMoment is when an admission would still be of use; zero is always.
func (a *ask) lastMoment() time.Time {
	if a.deadline.IsZero() {
		return time.Time{}
	}
	return a.deadline.Add(-a.need())
}

// giveUpLocked refuses one in line whose time, or whose caller, is gone.
func (g *Guard) giveUpLocked(w *waiter, at time.Duration, r Reason) {
	g.line.Remove(w.item)
	if deadline := w.call.Deadline; !deadline.IsZero() && !g.now(at).Before(deadline) {
		r = DeadlineUnreachable
	}
	after := never
	if r == QueueTimeout {
		a := g.askAgainLocked(w, at)
		after = g.hintLocked(&a)
	}
	g.turnAwayLocked(w, at, r, after)
}

// dispatchLocked gives free slots to those who wait, the best first. A breaker that lets nobody pass sends them away, and a guard that does
// not enforce lets them all in.
func (g *Guard) dispatchLocked(at time.Duration) {
	if g.line.Len() == 0 {
		return
	}
	if g.settings.Mode != Enforce {
		for _, it := range g.line.RemoveFunc(everybody) {
			g.grantLocked(it.Value, at, false)
		}
		return
	}
	now := g.now(at)
	if ok, after := g.readyLocked(now); !ok {
		g.dismissLocked(at, everybody, BreakerOpen, after)
		return
	}
	for g.line.Len() > 0 && g.limiter.InFlight() < g.limiter.Limit() && !g.crowdedLocked() {
		it, ok := g.line.Pop(now)
		if !ok {
			return
		}
		g.grantLocked(it.Value, at, g.limiter.Acquire(now))
	}
}

// grantLocked admits a waiter, if the breaker still lets it pass. Its switch does: whoever it stopped was sent away when it moved.
func (g *Guard) grantLocked(w *waiter, at time.Duration, slotted bool) {
	a := g.askAgainLocked(w, at)
	w.p = g.admitLocked(&a, &w.d, slotted)
	g.settleLocked(w, at)
}

// askAgainLocked is the ask of a waiter at a later moment: the flags may have changed since, and with them whose the feature's entry is.
func (g *Guard) askAgainLocked(w *waiter, at time.Duration) ask {
	a := ask{roll: w.roll}
	g.identifyLocked(&w.call, &a, at)
	a.now, a.stream = g.now(at), false
	return a
}

// dismissLocked sends away all in line that match.
func (g *Guard) dismissLocked(at time.Duration, match func(*waiter) bool, r Reason, after time.Duration) {
	for _, it := range g.line.RemoveFunc(match) {
		g.turnAwayLocked(it.Value, at, r, after)
	}
}

// turnAwayLocked refuses a waiter that is out of the line.
func (g *Guard) turnAwayLocked(w *waiter, at time.Duration, r Reason, after time.Duration) {
	a := g.askAgainLocked(w, at)
	g.refuseLocked(&a, &w.d, r, after)
	g.settleLocked(w, at)
}

// settleLocked ends the wait of one that is out of the line and has its answer.
func (g *Guard) settleLocked(w *waiter, at time.Duration) {
	if w.call.Attempt > 0 {
		g.retriesInLine--
	}
	w.d.Wait = at - w.since
	w.seq++
	w.item = nil
	g.settled.add(w)
}
