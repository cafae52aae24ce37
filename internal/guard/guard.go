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
//   - Retry budget. While the limit held calls back within the last second, retries pass only up to a share of the first attempts that
//     were admitted: of all, over the last ten seconds, and of their tenant, since the shortage began. A tenant may always have one.
//   - Limit. A unary call needs a slot of the limit of some endpoint, a stream a place in the account of streams.
//   - Queue. Who finds no slot waits in line, for as long as the queue and the call's deadline allow. Slots that come free go to the
//     line first. Calls of heavy methods leave some slots to light ones, which then pass them by. A stream that finds the others at work
//     waits in a line of its own, for a moment.
//
// # Endpoints
//
// A back-end has one or more endpoints, each with a limit and a health of its own; a guard that was told of none has one that is always
// ready. A call is admitted when some ready endpoint has room, and its permit tells where it goes: to the less loaded of two random ones
// with room, by calls in flight times latency over trust squared (Mitzenmacher's two choices; the measure is that of Prequal, Wydrowski et
// al. 2024, with trust added, so that an endpoint that fails fast, and looks idle for it, attracts nothing).
//
// An endpoint that looks bad beside the others, in the mean latency of its calls or in the trust that failures take away, gets probes
// only: one call at a time, and spaced out while they go badly. Calls wait in line rather than going there. If all look bad, none does:
// routing by itself refuses nothing. Where none is ready calls go to one that is being connected to; where nobody can be reached they are
// admitted to nowhere, and the data path says so, which the breaker hears as a failure.
//
// The bounds of the limit that an operator sets are those of the back-end as a whole. An endpoint that was gone and is ready again begins
// from the lowest limit: its load ramps.
//
// # Streams
//
// A stream is opened, lives, and ends. Its life occupies nothing: established streams are bounded in number, and neither cut nor held up
// for load. Its work is its messages: one that the back-end has and has not answered takes a unit of the endpoint's limit, beyond it if
// need be, so that unary calls give way; the limit learns nothing from it. What is never answered is work for a while only. Streams are
// opened while the work of those that are open leaves room for calls.
//
// # Outcomes
//
// Done feeds limit, endpoint and breaker with what the answer told and the time from the permit on; waiting and refusals are in no sample.
// A call that was abandoned, or had less time than such calls usually take, tells of its caller, and nothing of the back-end; but that may
// work on, so its slot is kept for as long as a typical call would have had it.
//
// The life of a stream is no sample of latency: its success is told when it is answered, so that a probe that becomes a long stream holds
// up nobody. A stream that breaks after that counts as one more failure, unless the breaker changed since it was admitted or the stream
// had only reached its own deadline.
//
// When the breaker lets calls pass again, the limit begins from below and the line is served most critical first: the load ramps.
//
// # Modes
//
// In mode observe all is computed and counted, but only flags refuse: a call that found no slot goes without one, and nobody waits. Those
// in flight beyond the limit are the line that there would be: a call counts as one that would have waited if so many are through within
// the longest wait, and else as one that would have been refused. In mode off only flags are asked; endpoints are chosen all the same. Calls in
// flight without a slot still fill the limit when the mode returns to enforce.
//
// # Explanations
//
// Refusals, and what mode observe let pass, go into a bounded journal with the figures behind them; of a flood a part, sampled traces
// first, and the rest is counted. Refusals looks them up, a Watcher is told them as they happen, and Explain walks through the checks for
// a call that does not come, and takes nothing. (docs/design/explanations.md)
//
// # Restarts
//
// State is what was learned: limits, costs of methods, and how old they are. Restore has the next guard go on from it: what is young as if
// the guard had run all the time, what is old as a hint. (docs/design/memory.md)
//
// # Invariants
//
//   - Permits out equal calls in flight, at each endpoint, too; each is given back once, a second Done changes nothing and is counted.
//   - Every Ask and every Admit ends in exactly one counted decision; who had to wait is told it exactly once.
//   - After SetFeatures no call of a feature at 0 % is admitted; after Quiesce none is on its way to the back-end.
//   - Memory is bounded: features, methods, tenants, events, refusals on record; permits by the limits; waiters by the queue.
//
// # Locks
//
// One mutex, Guard.mu, guards everything, the leaves included. While it is held nothing is called back, logged or waited for. Whoever
// takes a call out of the line leaves it in a list of the settled, whose Settlers are told after unlocking: by any method that frees a
// slot or changes a rule, or by another that is just at it. So a Settler may call the guard itself. The clock is read under the lock, so
// that time never runs backwards for the leaves.
//
// A call that waits costs memory and a timer, no goroutine. One more timer, set while somebody waits, has the line looked at when a slot
// comes free by time alone.
//
// # What this package does not do
//
// It knows neither gRPC nor flags (it is told percentages), forwards nothing and logs nothing; state changes are polled with Events. It
// has no goroutine of its own: what else time alone changes takes effect at the next call, or when somebody looks. It connects to nothing
// and resolves no name: it is told of endpoints. It believes what a call says of itself: one that calls every attempt its first is bounded
// by the limit and its tenant's share of it alone. Whoever holds a permit must see to its Done, by defer: no permit expires.
package guard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/queue"
)

// Guard protects one back-end. Safe for concurrent use.
type Guard struct {
	start time.Time // instants inside are durations since then

	mu       sync.Mutex
	settings Settings
	breaker  *breaker.Breaker
	line     *queue.Queue[*waiter] // of unary calls
	openings *queue.Queue[*waiter] // of streams
	settled  waiters               // out of line, and still to be told
	tellers  int                   // who tell them
	features features
	methods  methods
	permits  slab

	all   []*Endpoint
	pool  []*Endpoint // those that calls go to
	lone  *Endpoint   // the only one, as long as none was added
	judge judge

	unary   int           // unary calls with a permit
	streams int           // streams with a permit
	work    work          // of streams
	memory  memory        // of the endpoints before the guard was started again
	shortAt time.Duration // when the limit last held a call back
	spent   spent         // by all unary successes

	retriesInLine int
	accounts      accounts
	promised      time.Duration // until when those who were told to come back may be through
	alarm         *time.Timer   // when the line is to be looked at; nil before the first
	alarmAt       time.Duration // when it rings; 0 is never

	past   past // of the totals
	flow   window[flow]
	cost   cost // of all unary calls
	double uint64

	state   breaker.State // as last seen
	changes uint64        // of state, so far
	limit   int           // of the back-end, as last seen
	events  events
	journal journal
	classes classes

	drained chan struct{} // nil unless draining; closed when the last permit is back

	pace    pace
	dice    dice
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
		line:     queue.New[*waiter](s.Queue),
		openings: queue.New[*waiter](s.Queue),
		features: newFeatures(),
		methods:  newMethods(),
		permits:  newSlab(),
		shortAt:  -shortFor,
		events:   newEvents(),
		journal:  newJournal(),
		dice:     newDice(),
		accounts: newAccounts(),
	}
	g.lone = g.newEndpointLocked("", 0)
	g.lone.state = Ready
	g.all = append(g.all, g.lone)
	g.regroupLocked(0)
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
	from := g.settings
	g.settings = s
	g.breaker.Configure(s.Breaker, now)
	g.shareLocked(now)
	for _, l := range g.lines() {
		l.Configure(s.Queue)
	}
	if from.Mode != s.Mode {
		g.events.add(Event{Time: now, Kind: ModeChanged, From: from.Mode.String(), To: s.Mode.String(), Reason: reason, Actor: actor})
	}
	if from.Bounds() != s.Bounds() {
		g.events.add(Event{Time: now, Kind: BoundsChanged, From: from.Bounds(), To: s.Bounds(), Reason: reason, Actor: actor})
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
