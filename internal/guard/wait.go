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
	stream  bool // it waits to be opened
	since   time.Duration
	settler Settler
	retry   *account // that counts it in line; nil for a first attempt

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
		for _, l := range g.lines() {
			l.Pass(g.now(at))
		}
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
	if g.settled.first != nil && g.tellers < maxTellers {
		g.tellLocked()
	}
	g.mu.Unlock()
}

// tellLocked unlocks while it tells.
func (g *Guard) tellLocked() {
	g.tellers++
	for g.settled.first != nil {
		w := g.settled.take()
		g.mu.Unlock()
		w.tell()
		g.mu.Lock()
	}
	g.tellers--
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
	if a.stream && !g.countsLocked() || g.limit == 0 || g.settings.Queue.MaxWait == 0 {
		g.refuseLocked(c, a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	a.throw(g.dice)
	w := g.idlers.Get().(*waiter)
	claim := queue.Claim{
		Rank:     int(c.Criticality),
		Tenant:   c.Tenant,
		Weight:   g.settings.Tenants[c.Tenant],
		Cost:     float64(a.units()) * g.usual(a.method),
		Deadline: a.lastMoment(),
		Patience: g.patienceLocked(c),
	}
	line := g.line
	if a.stream {
		line, claim.Patience = g.openings, min(openPatience, g.settings.Queue.MaxWait)
	}
	item, evicted, ok := line.Push(w, claim, a.now)
	if !ok {
		g.idlers.Put(w)
		g.refuseLocked(c, a, d, LimitReached, g.hintLocked(a))
		return nil
	}
	w.call, w.roll, w.stream, w.since, w.item = *c, a.roll, a.stream, a.at, item
	w.retry = g.waitsLocked(c, a.at)
	w.timer.Reset(item.Give.Sub(a.now))
	g.alarmLocked(a.at)
	if evicted != nil {
		g.turnAwayLocked(evicted.Value, a.at, LimitReached, g.hintLocked(a))
	}
	return w
}

// outranking is how many times as long as others a call may wait that is more critical than some who were admitted of late. What comes free
// goes to it first, but it comes free only as those end who took it, and they may be slow. Where sheddable calls of five times their cost
// hold the slots, 0.93 to 0.98 of critical ones are answered in time with once, 0.997 at least with twice, all but one in ten thousand with
// three times, and all with four.
const outranking = 3

// patienceLocked returns how long a call may wait; 0 is as long as all.
func (g *Guard) patienceLocked(c *Call) time.Duration {
	if !g.classes.outranks(c.Criticality) {
		return 0
	}
	return outranking * g.settings.Queue.MaxWait
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
	if w.stream {
		g.openings.Remove(w.item)
	} else {
		g.line.Remove(w.item)
	}
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
