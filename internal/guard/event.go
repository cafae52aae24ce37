package guard

import (
	"slices"
	"strconv"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// maxEvents bounds the changes that nobody has taken yet: an hour of a limit that moves every ten seconds. Beyond it the oldest go.
const maxEvents = 360

// calm is the state of a breaker in which time alone changes nothing.
const calm = breaker.Closed

// Event is a change of state worth a log line: of the breaker, the limit, the mode, the bounds.
type Event struct {
	Time   time.Time
	Kind   EventKind
	From   string // state, limit or mode before
	To     string
	Reason string // a word and the figures behind it
	Actor  string // who, if it was an operator
	// Endpoint is whose limit it is; "" when the back-end has none of a name.
	Endpoint string
}

// EventKind is what changed.
type EventKind string

// The kinds of events.
const (
	BreakerChanged EventKind = "breaker"
	LimitChanged   EventKind = "limit"
	ModeChanged    EventKind = "mode"
	BoundsChanged  EventKind = "bounds" // those that were set for the limit, whether it moved or not, and for open streams
)

// events are the changes that nobody has taken yet, and the last ones for whoever asks.
type events struct {
	list []Event
	more chan struct{} // closed at the next one
	past history
}

func newEvents() events { return events{more: make(chan struct{})} }

func (e *events) add(ev Event) {
	if len(e.list) == maxEvents {
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, ev)
	e.past.add(ev)
	if len(e.list) == 1 {
		close(e.more)
	}
}

// Events returns the state changes since the last call, oldest first and at most some hundred, and a channel that is closed at the next
// one. One reader only. What time alone changes is noticed by the next call, Status or Events.
func (g *Guard) Events() ([]Event, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noteLocked(g.now(g.clock()), "")
	list := g.events.list
	if len(list) > 0 {
		g.events.list, g.events.more = nil, make(chan struct{})
	}
	return list, g.events.more
}

// noteLocked takes in what limit and breaker did by themselves. When a breaker that refused lets calls pass again, the limit begins from
// below: the load ramps, and never returns all at once.
func (g *Guard) noteLocked(now time.Time, actor string) {
	for _, t := range g.breaker.Transitions(now) {
		g.state = t.To
		g.changes++
		if refuses(t.From) && !refuses(t.To) {
			for _, e := range g.all {
				e.limiter.Restart(now)
			}
		}
		g.events.add(Event{Time: t.Time, Kind: BreakerChanged, From: t.From.String(), To: t.To.String(), Reason: t.Reason, Actor: t.Actor})
	}
	for _, e := range g.all {
		if e.limiter.Limit() != e.limit {
			g.noteLimitLocked(e, actor)
		}
	}
}

// noteLimitLocked takes in that the limit of an endpoint has moved.
func (g *Guard) noteLimitLocked(e *Endpoint, actor string) {
	e.limit = e.limiter.Limit()
	g.limit = g.limitLocked()
	for _, c := range e.limiter.Changes() {
		g.events.add(Event{
			Time: c.Time, Kind: LimitChanged, Endpoint: e.name,
			From: strconv.Itoa(c.From), To: strconv.Itoa(c.To), Reason: c.Reason, Actor: actor,
		})
	}
}

// refuses tells whether a breaker in state s holds all calls back, or all but its probes.
func refuses(s breaker.State) bool {
	return s == breaker.Open || s == breaker.HalfOpen || s == breaker.ForcedOpen
}
