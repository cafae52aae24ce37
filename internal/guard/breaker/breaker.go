// Package breaker opens the circuit to a back-end that fails or crawls, and closes it again when probes come back well.
//
// A breaker is the last resort behind the limit: it is for a back-end that is down, not for one that is busy. It is a leaf: no
// goroutine, no timer, no lock, no callback, no log. Its owner calls it under the owner's lock and passes the instant.
//
// # The machine
//
//	         too many failures or slow calls
//	closed ─────────────────────────────────► open ◄─┐
//	   ▲                                        │    │ a probe failed, was too slow,
//	   │                                OpenFor │    │ or gave no result within ProbeTimeout
//	   │           Probes successes             ▼    │
//	   └──────────────────────────────────── half-open
//
// The three states and the permits of half-open are those of github.com/sony/gobreaker/v2; one machine of it runs inside. Three of
// its ideas carry this package: a generation that makes results from before a change of state void, half-open permits that are counted
// and never renewed by a success, and results that are excluded and hand their permit back. Around it stands what it lacks:
//
//   - A rolling window of calls, failures and slow calls, with a minimum of calls. In closed state the window alone decides, and
//     gobreaker is shown just the call that tipped it: its closed state neither counts for us nor ends by time, so skipping it saves
//     a closure and two readings of the clock in every call and changes nothing.
//   - A time-out for probes. gobreaker waits for ever for a probe whose caller vanished; here half-open always ends.
//   - Slow calls. They open like failures do, at a ratio of their own; and of the probes no such share may be slow either.
//   - Forced states, with actor, reason and expiry. They lie over the machine, which goes on beneath them with whatever results it
//     gets; when they end, its state is what counts.
//   - Transitions are polled. Nothing is called back, so no observer can deadlock, reorder or slow down a decision.
//
// # Time
//
// gobreaker reads the clock itself when it opens and when its open time is over. Hence now must always be the current time, as of
// this call or shortly before; inside a testing/synctest bubble both agree to the nanosecond. Where they differ, by the nanoseconds
// between two readings, the later one counts and a call is refused for a moment longer.
//
// Nothing happens between calls: a time that has run out takes effect, and is dated, when the breaker is next asked anything. Whoever
// wants prompt transitions polls Transitions.
//
// # Invariants
//
//   - In half-open, successes plus probes under way never exceed Probes.
//   - While half-open has no permit left, a probe is under way, hence a time by which half-open is over.
//   - A result counts at most for the state in which its call passed.
//   - Ignored results change nothing but give a probe's permit back.
//   - Fewer than MinCalls calls in the window never open.
//
// # What this package does not do
//
// It does not classify answers (a status code becomes a Result at its owner), limit concurrency, spread the load after recovery (the
// limit grows from the probes), watch several endpoints, or notice that a Ticket was used twice in closed state.
package breaker

import "time"

// State of a breaker.
type State uint8

// The states. Open, HalfOpen and Closed are the machine's own, the forced ones an operator's.
const (
	Closed State = iota
	Open
	HalfOpen
	ForcedOpen
	ForcedClosed
)

// String returns closed, open, half-open, forced-open or forced-closed.
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	case ForcedOpen:
		return "forced-open"
	case ForcedClosed:
		return "forced-closed"
	}
	return "unknown"
}

// Result is what a call told about the back-end.
type Result uint8

// The results. The zero value tells nothing.
const (
	Ignored Result = iota
	Success
	Failure
)

// Ticket is the pass of one call; it is used for one Done. The zero Ticket is none: Done with it does nothing.
type Ticket struct {
	generation uint64 // of the breaker when the call passed; 0: none
	probe      uint64 // its number in half-open; 0: no probe
}

// Breaker is not safe for concurrent use: its owner's lock guards it.
type Breaker struct {
	settings Settings
	machine  machine
	window   window // counts in Closed; empty otherwise

	state      State     // the machine's own: Closed, Open or HalfOpen
	forced     Override  // State Closed: none
	generation uint64    // number of the machine's present state, from 1
	reason     string    // why the machine is in its state
	retryAt    time.Time // Open: when half-open begins
	probes     []probe   // HalfOpen: those under way, oldest first
	lastProbe  uint64    // number of the last probe
	slowProbes int       // HalfOpen: successes that were slow

	shown       State     // last state that observers could see
	since       time.Time // when it began
	transitions []Transition
}

// New returns a closed breaker. s must be valid.
func New(s Settings, now time.Time) *Breaker {
	return &Breaker{
		settings:   s,
		machine:    newMachine(s),
		window:     newWindow(s.Window, now),
		generation: 1,
		reason:     "started",
		since:      now,
	}
}

// Configure swaps the settings, which must be valid; statistics and state stay.
//
// A new Window keeps of the old statistics what both windows cover. New ratios and MinCalls judge from the next bad result on: a
// change of settings opens nothing by itself. OpenFor and Probes: an open breaker stays open and starts its open time again if one of
// them changed; a half-open one ends as it began, and they hold from then on.
func (b *Breaker) Configure(s Settings, now time.Time) {
	b.advance(now)
	if s.Window != b.settings.Window {
		b.window = b.window.resized(s.Window, now)
	}
	b.settings = s
	b.refit(now)
}

// Ready tells whether Allow would let a call pass, without taking a probe; if not, retryAfter is when to try again, always more than 0:
// the rest of the open time; the time by which the oldest probe must have told if all probes are taken; the rest of a forced open
// state, or OpenFor if that has no end.
func (b *Breaker) Ready(now time.Time) (ok bool, retryAfter time.Duration) {
	if b.untroubled() {
		return true, 0
	}
	b.advance(now)
	switch {
	case b.forced.State == ForcedClosed:
		return true, 0
	case b.forced.State == ForcedOpen:
		return false, b.forced.left(now, b.settings.OpenFor)
	case b.state == Open, b.state == HalfOpen && !b.machine.free():
		return false, b.wait(now)
	}
	return true, 0
}

// Allow lets a call pass or not; retryAfter is that of Ready. In half-open a ticket is one probe, and needs a Done with a result soon:
// after ProbeTimeout it has failed. So a call that may rightly last for longer, like a stream, reports as soon as the back-end has
// shown that it is well. A forced closed breaker lets calls pass that the machine beneath would refuse; their ticket is the zero one.
func (b *Breaker) Allow(now time.Time) (t Ticket, ok bool, retryAfter time.Duration) {
	if b.untroubled() {
		return Ticket{generation: b.generation}, true, 0
	}
	if ok, retryAfter = b.Ready(now); !ok {
		return Ticket{}, false, retryAfter
	}
	switch b.state {
	case Closed:
		t.generation = b.generation
	case HalfOpen:
		t = b.startProbe(now)
	}
	return t, true, 0
}

// Done reports the result of a call and how long it took. Results of calls that passed before the machine's last change of state count
// for nothing; forced states do not change the machine.
func (b *Breaker) Done(t Ticket, r Result, took time.Duration, now time.Time) {
	b.advance(now)
	switch {
	case t.generation != b.generation:
	case t.probe != 0:
		b.doneProbe(t, r, took, now)
	case r != Ignored:
		b.count(r, took, now)
	}
}

// count adds a result to the window and opens when that tips it. Only a bad result can: nobody expects a good answer to open.
func (b *Breaker) count(r Result, took time.Duration, now time.Time) {
	slow := b.settings.slow(took)
	b.window.add(r == Failure, slow, now)
	if r != Failure && !slow {
		return
	}
	if cause := b.window.total.verdict(b.settings); cause != "" {
		b.machine.trip()
		b.become(Open, cause, now)
	}
}

// untroubled is the common case, in which time moves nothing.
func (b *Breaker) untroubled() bool { return b.state == Closed && b.forced.State == Closed }

// advance lets run out what has run out by now: first the machine's times, so that the end of a forced state shows where it stands.
func (b *Breaker) advance(now time.Time) {
	if b.untroubled() {
		return
	}
	switch b.state {
	case Open:
		b.endOpen(now)
	case HalfOpen:
		b.endProbe(now)
	}
	b.endForced(now)
}

// become is the one place where the machine's state changes.
func (b *Breaker) become(to State, reason string, now time.Time) {
	b.state, b.reason = to, reason
	b.generation++
	b.window = newWindow(b.settings.Window, now)
	b.retryAt = time.Time{}
	if to == Open {
		b.retryAt = now.Add(b.machine.openFor)
	}
	b.probes, b.slowProbes = nil, 0
	b.refit(now)
	b.show(reason, "", now)
}

// refit builds a new machine if the settings ask for it and its state can be rebuilt: no way leads straight into half-open.
func (b *Breaker) refit(now time.Time) {
	if b.state == HalfOpen || b.machine.fits(b.settings) {
		return
	}
	b.machine = newMachine(b.settings)
	if b.state == Open {
		b.machine.trip()
		b.retryAt = now.Add(b.machine.openFor)
	}
}
