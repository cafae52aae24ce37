package guard

import (
	"context"
	"errors"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// maxIdlers bounds the waiters that are kept for later use.
const maxIdlers = 1000

// waiter is a call in the queue. Whoever takes it out of the line settles it, under the lock; it then has its answer in ready.
type waiter struct {
	call  Call
	roll  int
	since time.Duration
	item  *queue.Item[*waiter]

	settled bool
	p       Permit
	d       Decision
	ready   chan struct{} // room for one
	timer   *time.Timer   // runs out when the queue gives up
}

// everybody matches all who wait.
func everybody(*waiter) bool { return true }

// queueLocked puts a call in line, or refuses it if it is not to wait. In a full line the last leaves, and may be the newcomer.
func (g *Guard) queueLocked(a *ask, d *Decision) *waiter {
	if a.stream || g.limiter.Limit() == 0 || g.settings.Queue.MaxWait == 0 {
		g.refuseLocked(a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	a.throw()
	w := g.waiterLocked()
	w.call, w.roll, w.since = a.call, a.roll, a.at
	item, evicted, ok := g.line.Push(w, int(a.call.Criticality), a.lastMoment(), a.now)
	if !ok {
		g.restLocked(w)
		g.refuseLocked(a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	w.item = item
	if a.call.Attempt > 0 {
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
	if a.call.Deadline.IsZero() {
		return time.Time{}
	}
	return a.call.Deadline.Add(-a.need())
}

func (g *Guard) waiterLocked() *waiter {
	if n := len(g.idlers); n > 0 {
		w := g.idlers[n-1]
		g.idlers = g.idlers[:n-1]
		return w
	}
	return &waiter{ready: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
}

// restLocked keeps a waiter for later use.
func (g *Guard) restLocked(w *waiter) {
	w.timer.Stop()
	select {
	case <-w.ready:
	default:
	}
	*w = waiter{ready: w.ready, timer: w.timer}
	if len(g.idlers) < maxIdlers {
		g.idlers = append(g.idlers, w)
	}
}

// wait blocks until somebody settles w, or gives up. What was settled stands: a permit that came together with the end of ctx was given in
// time, and its holder will notice.
func (g *Guard) wait(ctx context.Context, w *waiter) (Permit, Decision) {
	select {
	case <-w.ready:
	case <-w.timer.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !w.settled {
		g.line.Remove(w.item)
		g.giveUpLocked(w, ctx.Err())
	}
	p, d := w.p, w.d
	g.restLocked(w)
	return p, d
}

// giveUpLocked refuses a waiter whose time, or whose caller, is gone.
func (g *Guard) giveUpLocked(w *waiter, ended error) {
	at := g.clock()
	deadline := w.call.Deadline
	switch {
	case errors.Is(ended, context.DeadlineExceeded), !deadline.IsZero() && !g.now(at).Before(deadline):
		g.turnAwayLocked(w, at, DeadlineUnreachable, never)
	case ended != nil:
		g.turnAwayLocked(w, at, Canceled, never)
	default:
		a := g.askAgainLocked(w, at)
		g.turnAwayLocked(w, at, QueueTimeout, g.hintLocked(&a))
	}
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
	a := ask{call: w.call, roll: w.roll}
	g.identifyLocked(&a, at)
	a.stream = false
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

// settleLocked wakes a waiter that is out of the line and has its answer.
func (g *Guard) settleLocked(w *waiter, at time.Duration) {
	if w.call.Attempt > 0 {
		g.retriesInLine--
	}
	w.settled = true
	w.d.Wait = at - w.since
	w.ready <- struct{}{}
}
