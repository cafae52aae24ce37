package guard

import (
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// Permit is the right of one admitted call to occupy the back-end. It is a value, free to copy; the first Done of any copy gives it
// back, later ones do nothing but count as a bug. The zero Permit is empty: its methods do nothing. Safe for concurrent use.
type Permit struct {
	g   *Guard
	seq uint64 // of the slot's owner; another one there means that this permit was given back
	i   int32
}

// slot is what the guard knows of a permit that is out.
type slot struct {
	seq      uint64 // of the permit in it; 0: free
	next     int32  // free: the next free one, or none
	stream   bool
	answered bool
	at       time.Duration // when it was admitted
	deadline time.Duration // of its call; 0 is none
	changes  uint64        // of the breaker's state, when it was admitted
	ticket   breaker.Ticket
	to       *Endpoint  // where it went; nil if nobody could be reached
	units    int        // of the limit
	heavy    bool       // as it was when it took them
	slot     limit.Slot // of the limit there; none if it went without
	talk     *talk      // the messages of a stream; nil for none
	method   *method
	feature  *feature // nil without one
	way      *cohort  // nil when it has arrived, or has no feature
}

// none ends the list of free slots.
const none int32 = -1

// slab holds the slots. They are used again, so that a permit costs no allocation; the sequence number tells a slot's owners apart.
type slab struct {
	slots []slot
	free  int32
	seq   uint64
}

func newSlab() slab { return slab{free: none} }

// take returns a slot for a new permit. The pointer is good until the next take.
func (s *slab) take() (*slot, int32) {
	if s.free == none {
		s.slots = append(s.slots, slot{next: none})
		s.free = int32(len(s.slots) - 1)
	}
	i := s.free
	taken := &s.slots[i]
	s.free = taken.next
	s.seq++
	*taken = slot{seq: s.seq}
	return taken, i
}

// give puts a slot back.
func (s *slab) give(i int32) {
	s.slots[i] = slot{next: s.free}
	s.free = i
}

// find returns the slot of p, or nil if p was given back.
func (s *slab) find(p Permit) *slot {
	if taken := &s.slots[p.i]; taken.seq == p.seq {
		return taken
	}
	return nil
}

// seatLocked gives out a permit and counts the call as admitted and in flight.
func (g *Guard) seatLocked(c *Call, a *ask, ticket breaker.Ticket) Permit {
	s, i := g.permits.take()
	s.stream, s.at, s.to, s.units, s.heavy, s.slot = a.stream, a.at, a.to, a.units(), a.heavy, a.slot
	s.ticket, s.changes, s.method, s.feature = ticket, g.changes, a.method, a.feature
	if !a.deadline.IsZero() {
		s.deadline = a.deadline.Sub(g.start)
	}
	a.method.totals.Admitted++
	g.classes.note(c.Criticality)
	g.admittedLocked(c, a.at)
	if f := a.feature; f != nil {
		f.cost.recent.at(a.at).admitted++
		f.way.n++
		s.way = f.way
	}
	g.occupyLocked(s, 1, a.at)
	if s.stream {
		g.openLocked(s, a.at)
	}
	return Permit{g: g, seq: s.seq, i: i}
}

// occupyLocked counts n calls more in flight of the kind that s is.
func (g *Guard) occupyLocked(s *slot, n int, at time.Duration) {
	if s.stream {
		g.streams += n
		if s.feature != nil {
			s.feature.streams += n
		}
		if s.to != nil {
			s.to.streams += n
		}
		return
	}
	g.unary += n
	g.cost.change(n, at)
	if s.feature != nil {
		s.feature.cost.change(n, at)
	}
	s.to.occupy(n, s)
}

// occupy counts n unary calls more there, like that of s.
func (e *Endpoint) occupy(n int, s *slot) {
	if e == nil {
		return
	}
	e.unary += n
	if s.slot == (limit.Slot{}) {
		e.loose += n
	}
	if s.heavy {
		e.heavy += n * s.units
	}
}

// releaseLocked gives the slot of a call back to where it was taken.
func (g *Guard) releaseLocked(s *slot, r limit.Result, took time.Duration, now time.Time) {
	if s.to != nil {
		s.to.limiter.Release(s.slot, r, took, g.usual(s.method), now)
	}
	s.slot = limit.Slot{}
}

// Answered tells that the back-end certainly has the call and works on it: it sent headers. For a stream this is its success at the
// breaker; an answer of trailers alone needs only Done.
func (p Permit) Answered() {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	s := p.g.permits.find(p)
	if s == nil || s.answered {
		return
	}
	s.answered = true
	p.g.arriveLocked(s)
	p.g.openedLocked(s.talk, p.g.now(p.g.clock()))
	if s.stream {
		p.g.vouchLocked(s)
	}
}

// vouchLocked tells the breaker that a stream was opened well. How long that took is up to its service.
func (g *Guard) vouchLocked(s *slot) {
	at := g.clock()
	now := g.now(at)
	g.breaker.Done(s.ticket, breaker.Success, 0, now)
	s.ticket = breaker.Ticket{}
	g.noteLocked(now, "")
	g.dispatchLocked(at)
}

// arriveLocked takes a call off the way to the back-end.
func (g *Guard) arriveLocked(s *slot) {
	if s.way != nil {
		g.features.leave(s.way)
		s.way = nil
	}
}

// Stream tells that the call has shown to be a stream: it moves to the account of streams, and its lifetime is no latency. The account may
// so grow beyond its bound: no established stream is cut. Of other calls it tells nothing: a caller that is slow, or says more than it
// should, must not lift the limit from its method.
func (p Permit) Stream() {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	p.g.streamLocked(p)
}

// MethodStreams tells that the back-end itself has shown the call's method to be a streaming one: it sent more than one message. The call
// is a stream, and later calls of its method are taken for streams from the start.
func (p Permit) MethodStreams() {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	if s := p.g.permits.find(p); s != nil && s.method != p.g.methods.other { // which is of many kinds
		s.method = p.g.methods.prove(s.method, p.g.clock())
		s.method.streams = true
		s.method.spent.last = p.g.clock()
	}
	p.g.streamLocked(p)
}

// streamLocked moves a call to the account of streams.
func (g *Guard) streamLocked(p Permit) {
	s := g.permits.find(p)
	if s == nil || s.stream {
		return
	}
	at := g.clock()
	g.occupyLocked(s, -1, at)
	g.releaseLocked(s, limit.Ignored, 0, g.now(at))
	s.stream = true
	g.occupyLocked(s, 1, at)
	if s.answered {
		g.vouchLocked(s)
		return
	}
	g.dispatchLocked(at)
}

// Done gives the permit back with what the answer told.
func (p Permit) Done(o Outcome) {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	p.g.doneLocked(p, o)
}

func (g *Guard) doneLocked(p Permit, o Outcome) {
	s := g.permits.find(p)
	if s == nil {
		g.double++
		return
	}
	at := g.clock()
	now := g.now(at)
	g.countLocked(s, o, at)
	g.arriveLocked(s)
	g.occupyLocked(s, -1, at)
	g.silenceLocked(s, now)
	g.teachLocked(s, o, now)
	g.permits.give(p.i)
	g.noteLocked(now, "")
	g.dispatchLocked(at)
	g.lastOutLocked()
}

func (g *Guard) countLocked(s *slot, o Outcome, at time.Duration) {
	g.past.keep(&g.methods, at)
	*s.method.totals.of(o)++
	if o == Success {
		s.method = g.methods.prove(s.method, at)
	}
	if !s.stream {
		g.flow.at(at).ended++
	}
}

// teachLocked tells limit, breaker and method what the call told.
func (g *Guard) teachLocked(s *slot, o Outcome, now time.Time) {
	at := now.Sub(g.start)
	took := at - s.at
	if !s.stream && o == Overload && s.expired(at) && g.hastyLocked(s) {
		o = Abandoned
	}
	served := o == Success
	if o == Missing {
		o = Success
	}
	s.tellEndpoint(o, at)
	switch {
	case !s.stream:
		g.breaker.Done(s.ticket, o.forBreaker(), took, now)
		g.releaseLocked(s, s.forLimit(o, at), took, now)
		if served && s.method != g.methods.other {
			s.method.service.learn(took, at)
			g.spentLocked(s.method, took, at)
		}
	case !s.answered:
		g.breaker.Done(s.ticket, o.forBreaker(), 0, now)
	case g.brokeLocked(s, o, at):
		ticket, _, _ := g.breaker.Allow(now)
		g.breaker.Done(ticket, breaker.Failure, 0, now)
	}
}

// hastyLocked tells whether a call that expired says more of its caller than of the back-end: it had less time than calls of its method, or
// while that is not known all calls, usually take. Who asks for the impossible must not open the breaker for the others.
func (g *Guard) hastyLocked(s *slot) bool {
	usual := &s.method.spent
	if usual.n < minSamples {
		usual = &g.spent
	}
	least := unknownCall.Seconds()
	if usual.n >= minSamples {
		least = usual.mean
	}
	return (s.deadline - s.at).Seconds() < least
}

// unknownCall is how long a call takes at least as long as nothing is known of any: a network and some work. A caller who gives less would
// else open the breaker of a guard that was just started, and keep everybody out who could show better.
const unknownCall = 10 * time.Millisecond

// tellEndpoint tells the endpoint how the call ended there, and of a unary one how long it took.
func (s *slot) tellEndpoint(o Outcome, at time.Duration) {
	switch {
	case s.to == nil:
	case s.stream:
		s.to.learnLocked(o, 0, at)
	default:
		s.to.learnLocked(o, at-s.at, at)
	}
}

// brokeLocked tells whether the end of an established stream is a failure of the back-end as it now is.
func (g *Guard) brokeLocked(s *slot, o Outcome, at time.Duration) bool {
	expired := o == Overload && s.deadline > 0 && at >= s.deadline
	return o.forBreaker() == breaker.Failure && !expired && s.changes == g.changes && g.settings.Mode != Off
}

func (o Outcome) forBreaker() breaker.Result {
	switch o {
	case Success:
		return breaker.Success
	case Overload, Failure:
		return breaker.Failure
	}
	return breaker.Ignored
}

// forLimit returns what an outcome is for the limit. A call that ran out of time may still be worked on.
func (s *slot) forLimit(o Outcome, at time.Duration) limit.Result {
	if o == Overload && s.expired(at) {
		return limit.TimedOut
	}
	return o.forLimit()
}

// expired tells whether a call that ends now has run out of time.
func (s *slot) expired(at time.Duration) bool {
	return s.deadline > 0 && at >= s.deadline-min((s.deadline-s.at)/10, mostSlack)
}

// mostSlack is how long before its deadline a call that ended as an overload may have run out of time: its caller's clock may strike first.
const mostSlack = 50 * time.Millisecond

func (o Outcome) forLimit() limit.Result {
	switch o {
	case Success:
		return limit.Success
	case Overload:
		return limit.Overload
	case Failure:
		return limit.Failure
	case Abandoned:
		return limit.Abandoned
	}
	return limit.Ignored
}
