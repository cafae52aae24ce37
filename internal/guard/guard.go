// Package guard decides which calls may go to one back-end.
//
// It moves the waiting, and the saying no, from the back-end, which cannot choose, to a place that can. Every call asks, by Ask or by
// Admit, which blocks while the call waits, and if admitted holds a Permit until Done:
//
//	Ask ► flag ► deadline ► breaker ► retry budget ► limit ──► permit ► Answered ► Done ► limit, breaker, statistics
//	                                                   └ queue ─┘
//
// # The checks, in their order
//
//   - Flag. A switch at 0 % lets nobody pass, at 100 % everybody, in between each call by a throw of the dice. When it
//     moves, those in line are measured by their throw again.
//   - Deadline. A call is refused that has less time left than half of its method's recent calls needed: it would more likely be late than
//     good. Methods with fewer than ten recent answers, and streams, need nothing.
//   - Breaker. An open one refuses. The ticket of a call, and thereby a probe of a half-open one, is taken last of all, after any wait.
//   - Retry budget. While the limit held calls back within the last second, retries pass only up to a share of the first attempts.
//   - Limit. A unary call needs a slot of the limit, a stream a place in the account of streams.
//   - Queue. Who finds no slot waits in line, for as long as the queue and the call's deadline allow. Slots that come free go to the
//     line first.
//
// # Outcomes
//
// Done feeds limit and breaker with what the answer told and the time from the permit on; waiting and refusals are in no sample. A stream
// occupies no slot and is no sample of latency: its success is told when it is answered, so that a probe that becomes a long stream
// holds up nobody. A stream that breaks after that counts as one more failure, unless the breaker changed since it was admitted or
// the stream had only reached its own deadline.
//
// When the breaker lets calls pass again, the limit begins from below and the line is served most critical first: the load ramps.
//
// # Modes
//
// In mode observe all is computed and counted, but only flags refuse: a call that found no slot goes without one, and nobody waits. In
// mode off only flags are asked. Calls in flight without a slot still fill the limit when the mode returns to enforce.
//
// # Invariants
//
//   - Permits out equal calls in flight; each is given back once, a second Done changes nothing and is counted.
//   - Every Ask and every Admit ends in exactly one counted decision; who had to wait is told it exactly once.
//   - After SetFeatures no call of a feature at 0 % is admitted; after Quiesce none is on its way to the back-end.
//   - Memory is bounded: features, methods, events; permits by the limits; waiters by the queue.
//
// # Locks
//
// One mutex, Guard.mu, guards everything, the leaves included. While it is held nothing is called back, logged or waited for. Whoever
// takes a call out of the line leaves it in a list of the settled, whose Settlers are told after unlocking: by any method that frees a
// slot or changes a rule, or by another that is just at it. So a Settler may call the guard itself. The clock is read under the lock, so
// that time never runs backwards for the leaves.
//
// A call that waits costs memory and a timer, no goroutine.
//
// # What this package does not do
//
// It knows neither gRPC nor flags (it is told percentages), forwards nothing and logs nothing; state changes are polled with Events. It
// has no goroutine of its own: what time alone changes takes effect at the next call, or when somebody looks. It does not tell tenants
// apart. Whoever holds a permit must see to its Done, by defer: no permit expires.
package guard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
	"github.com/capguard/capguard/internal/guard/queue"
)

// Guard protects one back-end. Safe for concurrent use.
type Guard struct {
	start time.Time // instants inside are durations since then

	mu       sync.Mutex
	settings Settings
	breaker  *breaker.Breaker
	limiter  *limit.Limiter
	line     *queue.Queue[*waiter]
	settled  waiters // out of line, and still to be told
	tellers  int     // who tell them
	features features
	methods  methods
	permits  slab

	unary   int           // unary calls with a permit
	loose   int           // those of them without a slot of the limit
	streams int           // streams with a permit
	shortAt time.Duration // when the limit last held a call back

	retriesInLine int

	totals Totals
	recent window[Totals]
	flow   window[flow]
	cost   cost // of all unary calls
	double uint64

	state   breaker.State // as last seen
	changes uint64        // of state, so far
	limit   int           // as last seen
	events  events

	drained chan struct{} // nil unless draining; closed when the last permit is back

	idlers  sync.Pool // of *waiter
	callers sync.Pool // of caller
}

// flow counts what passes in one second.
type flow struct{ first, retries, ended uint32 }

// New returns a guard with settings that are valid.
func New(s Settings) *Guard {
	now := time.Now()
	g := &Guard{
		start:    now,
		settings: s,
		breaker:  breaker.New(s.Breaker, now),
		limiter:  limit.New(s.Limit, now),
		line:     queue.New[*waiter](s.Queue),
		features: newFeatures(),
		methods:  newMethods(),
		permits:  newSlab(),
		shortAt:  -shortFor,
		events:   newEvents(),
	}
	g.limit = g.limiter.Limit()
	g.idlers.New = func() any { return newWaiter(g) }
	g.callers.New = func() any { return newCaller() }
	return g
}

// clock returns the time since the start. It costs half of time.Now, and now, its sum with the start, is just as good but for steps of the
// wall clock.
func (g *Guard) clock() time.Duration { return time.Since(g.start) }

func (g *Guard) now(at time.Duration) time.Time { return g.start.Add(at) }

// Configure swaps the settings, which must be valid; statistics, permits in flight and the queue stay. A limit below what is in flight
// cuts nothing: new calls wait until enough have ended. actor and reason go into the events. Leaving mode enforce admits who waits.
func (g *Guard) Configure(s Settings, actor, reason string) {
	g.mu.Lock()
	defer g.unlock()
	at := g.clock()
	now := g.now(at)
	from := g.settings.Mode
	g.settings = s
	g.breaker.Configure(s.Breaker, now)
	g.limiter.Configure(s.Limit, now)
	g.line.Configure(s.Queue)
	if from != s.Mode {
		g.events.add(Event{Time: now, Kind: ModeChanged, From: from.String(), To: s.Mode.String(), Reason: reason, Actor: actor})
	}
	g.noteLocked(now, actor)
	g.dispatchLocked(at)
}

// Settings returns the settings in force.
func (g *Guard) Settings() Settings {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.settings
}

// ForceBreaker holds the breaker as o says; an o of state Closed (not forced) ends an earlier command. Who waits while it is forced
// open is refused.
func (g *Guard) ForceBreaker(o breaker.Override) {
	g.mu.Lock()
	defer g.unlock()
	at := g.clock()
	now := g.now(at)
	g.breaker.Force(o, now)
	g.noteLocked(now, "")
	g.dispatchLocked(at)
}

// Drain refuses every new call and all who wait with Draining, and waits until the last permit is back or ctx ends. It cannot be undone.
func (g *Guard) Drain(ctx context.Context) error {
	drained := g.startDrain()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unary+g.streams == 0 {
		return nil
	}
	return fmt.Errorf("drain guard: %d calls and %d streams still in flight: %w", g.unary, g.streams, context.Cause(ctx))
}

func (g *Guard) startDrain() <-chan struct{} {
	g.mu.Lock()
	defer g.unlock()
	if g.drained == nil {
		g.drained = make(chan struct{})
		g.dismissLocked(g.clock(), everybody, Draining, 0)
		g.lastOutLocked()
	}
	return g.drained
}

// lastOutLocked ends a drain when no permit is out.
func (g *Guard) lastOutLocked() {
	if g.drained == nil || g.unary+g.streams > 0 {
		return
	}
	select {
	case <-g.drained:
	default:
		close(g.drained)
	}
}
