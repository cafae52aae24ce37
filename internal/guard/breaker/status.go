package breaker

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// mostTransitions bounds what is kept for an observer that does not poll; the oldest go first.
const mostTransitions = 256

// Override is an operator's command.
type Override struct {
	State  State // ForcedOpen or ForcedClosed; Closed ends an earlier command; others are none and do nothing
	Actor  string
	Reason string
	Until  time.Time // when it ends by itself; zero is never
}

// over tells whether the command has ended by now.
func (o Override) over(now time.Time) bool { return !o.Until.IsZero() && !now.Before(o.Until) }

// left is the time until the command ends, or otherwise if it has no end.
func (o Override) left(now time.Time, otherwise time.Duration) time.Duration {
	if o.Until.IsZero() {
		return otherwise
	}
	return o.Until.Sub(now)
}

// Force puts o in force, in place of an earlier command; the machine goes on beneath. One whose Until has passed ends an earlier command.
func (b *Breaker) Force(o Override, now time.Time) {
	b.advance(now)
	switch {
	case o.State == Closed, o.State >= ForcedOpen && o.over(now):
		b.forced = Override{}
		b.show(cmp.Or(o.Reason, "force_ended"), o.Actor, now)
	case o.State == ForcedOpen, o.State == ForcedClosed:
		b.forced = o
		b.show(cmp.Or(o.Reason, "forced"), o.Actor, now)
	}
}

// endForced ends a command whose time is over.
func (b *Breaker) endForced(now time.Time) {
	if b.forced.State == Closed || !b.forced.over(now) {
		return
	}
	reason := fmt.Sprintf("force_expired: %v until %v", b.forced.State, b.forced.Until.UTC().Format(time.RFC3339))
	b.forced = Override{}
	b.show(reason, "", now)
}

// show notes the state that observers see, if it has changed.
func (b *Breaker) show(reason, actor string, now time.Time) {
	to := cmp.Or(b.forced.State, b.state)
	if to == b.shown {
		return
	}
	if len(b.transitions) == mostTransitions {
		b.transitions = slices.Delete(b.transitions, 0, 1)
	}
	b.transitions = append(b.transitions, Transition{Time: now, From: b.shown, To: to, Reason: reason, Actor: actor})
	b.shown, b.since = to, now
}

// Status is the state at one moment.
type Status struct {
	State   State
	Since   time.Time
	Reason  string    // a word, a colon and the figures behind it (failure_ratio: ...); of a forced state the operator's own words
	Actor   string    // who forced it
	Until   time.Time // when a forced state ends
	RetryAt time.Time // when an open breaker probes
}

// Status returns the state now. The reason is that of the state itself, not of a command that has ended.
func (b *Breaker) Status(now time.Time) Status {
	b.advance(now)
	s := Status{State: b.shown, Since: b.since, Reason: b.reason, RetryAt: b.retryAt}
	if b.forced.State != Closed {
		s.Reason, s.Actor, s.Until = b.forced.Reason, b.forced.Actor, b.forced.Until
		s.RetryAt = time.Time{}
	}
	return s
}

// Transition is one change of the state that Status shows; what the machine does beneath a forced state is not shown.
type Transition struct {
	Time     time.Time
	From, To State
	Reason   string // a word, a colon and the figures; for a command the operator's words, or forced, or force_ended
	Actor    string // who commanded it; empty if nobody
}

// Transitions returns the changes since the last call, oldest first, at most the last 256. Observers hear of changes in no other way.
func (b *Breaker) Transitions(now time.Time) []Transition {
	b.advance(now)
	t := b.transitions
	b.transitions = nil
	return t
}
