package guard

import (
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/internal/guard/queue"
)

// lines returns the lines: of unary calls, which wait for a slot, and of openings of streams.
func (g *Guard) lines() [2]*queue.Queue[*waiter] { return [2]*queue.Queue[*waiter]{g.line, g.openings} }

// queuedLocked returns how many wait.
func (g *Guard) queuedLocked() int { return g.line.Len() + g.openings.Len() }

// dispatchLocked gives what is free to those who wait, the best first. A breaker that lets nobody pass sends them away, and a guard that does
// not enforce lets them all in.
func (g *Guard) dispatchLocked(at time.Duration) {
	if g.queuedLocked() == 0 {
		return
	}
	now := g.now(at)
	if g.settings.Mode != Enforce {
		g.releaseLinesLocked(at)
		return
	}
	if ok, after := g.readyLocked(now); !ok {
		g.dismissLocked(at, everybody, BreakerOpen, after)
		return
	}
	g.expireLocked(at)
	for g.line.Len() > 0 && g.serveLocked(at, now) {
	}
	for g.openings.Len() > 0 && g.roomForStreamLocked(at) {
		it, ok := g.openings.Pop(now)
		if !ok {
			break
		}
		g.grantLocked(it.Value, at, ask{})
	}
	g.alarmLocked(at)
}

// serveLocked admits the first in line, if there is a slot for it. One that takes many units is waited for: nobody passes it by, or it would
// never find so many free. Only one of a heavy method is, by light calls, when heavy ones have all the slots that they may have.
func (g *Guard) serveLocked(at time.Duration, now time.Time) bool {
	it, ok := g.line.Next(now)
	if !ok {
		return false
	}
	place := g.placeOfLocked(it.Value, at, now)
	if !g.slotLocked(&place, false) {
		return place.heavy && g.passLocked(place)
	}
	g.line.Pop(now)
	g.grantLocked(it.Value, at, place)
	return true
}

// placeOfLocked is the ask for a slot of one in line.
func (g *Guard) placeOfLocked(w *waiter, at time.Duration, now time.Time) ask {
	return ask{at: at, now: now, cost: w.call.Cost, method: g.methods.find(w.call.Method, at)}
}

// releaseLinesLocked admits everybody in line.
func (g *Guard) releaseLinesLocked(at time.Duration) {
	for _, l := range g.lines() {
		for _, it := range l.RemoveFunc(everybody) {
			g.grantLocked(it.Value, at, ask{})
		}
	}
}

// forgoLocked gives back a slot that was taken for a call that is not admitted after all.
func (g *Guard) forgoLocked(a *ask) {
	if a.to != nil {
		a.to.limiter.Release(a.slot, limit.Ignored, 0, 0, a.now)
	}
	a.slot = limit.Slot{}
}

// alarmLocked sees to it that the line is looked at when a slot comes free by time alone: when a charge ends.
func (g *Guard) alarmLocked(at time.Duration) {
	if g.queuedLocked() == 0 {
		return
	}
	due := g.work.due
	for _, e := range g.pool {
		if t, ok := e.limiter.Due(); ok && (due == 0 || t.Sub(g.start) < due) {
			due = t.Sub(g.start)
		}
	}
	if due <= at || g.alarmAt > at && g.alarmAt <= due {
		return // No time, or one that is past; or the alarm is set early enough.
	}
	g.alarmAt = due
	if g.alarm == nil {
		g.alarm = time.AfterFunc(due-at, g.ring)
		return
	}
	g.alarm.Reset(due - at)
}

// ring is what the alarm does.
func (g *Guard) ring() {
	g.mu.Lock()
	defer g.unlock()
	g.alarmAt = 0
	g.dispatchLocked(g.clock())
}

// grantLocked admits a waiter at its place, if the breaker still lets it pass. Its switch does: whoever it stopped was sent away when it
// moved.
func (g *Guard) grantLocked(w *waiter, at time.Duration, place ask) {
	a := g.askAgainLocked(w, at)
	a.to, a.slot, a.heavy = place.to, place.slot, place.heavy
	w.p = g.admitLocked(&w.call, &a, &w.d)
	g.settleLocked(w, at)
}

// askAgainLocked is the ask of a waiter at a later moment: the flags may have changed since, and with them whose the feature's entry is.
func (g *Guard) askAgainLocked(w *waiter, at time.Duration) ask {
	a := ask{roll: w.roll}
	g.identifyLocked(&w.call, &a, at)
	a.now, a.stream = g.now(at), w.stream
	return a
}

// dismissLocked sends away all in line that match.
func (g *Guard) dismissLocked(at time.Duration, match func(*waiter) bool, r Reason, after time.Duration) {
	for _, l := range g.lines() {
		for _, it := range l.RemoveFunc(match) {
			g.turnAwayLocked(it.Value, at, r, after)
		}
	}
}

// turnAwayLocked refuses a waiter that is out of the line.
func (g *Guard) turnAwayLocked(w *waiter, at time.Duration, r Reason, after time.Duration) {
	a := g.askAgainLocked(w, at)
	w.d.Wait = at - w.since
	g.refuseLocked(&w.call, &a, &w.d, r, after)
	g.settleLocked(w, at)
}

// settleLocked ends the wait of one that is out of the line and has its answer.
func (g *Guard) settleLocked(w *waiter, at time.Duration) {
	g.leavesLocked(w.retry)
	w.d.Wait = at - w.since
	w.seq++
	w.item = nil
	g.settled.add(w)
}
