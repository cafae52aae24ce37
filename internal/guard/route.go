package guard

import (
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

const (
	// An endpoint is suspect when its mean latency is slowTimes the median of the others', or its trust below half of theirs. Three times is
	// beyond what load, noise and uneven machines do to one of several; two failures in a row bring full trust to a quarter.
	slowTimes  = 3.0
	doubtShare = 0.5

	// judgeEvery is how often the endpoints are compared with each other.
	judgeEvery = 10 * time.Millisecond

	// A suspect endpoint gets one call at a time. While these go badly they are spaced, from the first to the longest pause: it costs one
	// call in two seconds to see that it is still bad, and two seconds and some calls more to see that it is well.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// standing is how an endpoint looks beside the others, and when it is probed if it looks bad.
type standing struct {
	slowFrom   float64       // seconds: a mean latency that is suspect; 0 is none
	doubtBelow float64       // a trust that is
	probe      time.Duration // not before
	pause      time.Duration
}

func (s *standing) unjudged() { s.slowFrom, s.doubtBelow = 0, 0 }

// slow tells whether a latency is suspect.
func (s *standing) slow(seconds float64) bool { return s.slowFrom > 0 && seconds > s.slowFrom }

// suspect tells whether e looks so bad beside the others that it only gets probes.
func (e *Endpoint) suspect(at time.Duration) bool {
	return e.slow(e.latency) || e.doubtBelow > 0 && e.trustAt(at) < e.doubtBelow
}

// due tells whether a suspect endpoint may be probed.
func (e *Endpoint) due(at time.Duration) bool { return e.unary == 0 && at >= e.probe }

// probing notes that a probe is sent.
func (e *Endpoint) probing(at time.Duration) { e.probe = at + max(e.pause, firstPause) }

// learnLocked takes in how a call at e ended; took is 0 if that tells nothing.
func (e *Endpoint) learnLocked(o Outcome, took, at time.Duration) {
	suspect := e.suspect(at)
	e.learn(o, at)
	if o == Success && took > 0 {
		e.learned = at
	}
	switch {
	case o != Success || took == 0:
	case suspect:
		e.time(took, probeWeight)
	default:
		e.time(took, latencyWeight)
	}
	switch {
	case !suspect:
		e.pause = 0
	case o == Success && !e.slow(took.Seconds()):
		e.probe = at
	case o == Overload || o == Failure:
		e.pause = min(max(2*e.pause, firstPause), longestPause)
		e.probe = at + e.pause
	}
	e.g.judge.troubled = e.g.judge.troubled || e.suspect(at)
}

// judge is what is needed to compare the endpoints.
type judge struct {
	next              time.Duration
	latencies, trusts []float64
	troubled          bool // some may be suspect; if not none is, for by time alone an endpoint only regains trust
}

// judgeLocked compares the endpoints with each other.
func (g *Guard) judgeLocked(at time.Duration) {
	j := &g.judge
	if at < j.next {
		return
	}
	j.next = at + judgeEvery
	j.latencies, j.trusts = j.latencies[:0], j.trusts[:0]
	for _, e := range g.pool {
		if e.known() {
			j.latencies = append(j.latencies, e.latency)
		}
		j.trusts = append(j.trusts, e.trustAt(at))
	}
	slices.Sort(j.latencies)
	slices.Sort(j.trusts)
	for _, e := range g.pool {
		e.unjudged()
		if e.known() && len(j.latencies) > 1 {
			e.slowFrom = slowTimes * without(j.latencies, e.latency, (len(j.latencies)-1)/2)
		}
		e.doubtBelow = doubtShare * without(j.trusts, e.trustAt(at), len(j.trusts)/2-1)
	}
	j.troubled = slices.ContainsFunc(g.pool, func(e *Endpoint) bool { return e.suspect(at) })
}

// without returns element i of sorted as it is without one x.
func without(sorted []float64, x float64, i int) float64 {
	if at, _ := slices.BinarySearch(sorted, x); at <= i {
		return sorted[i+1]
	}
	return sorted[i]
}

// journey is what a call wants of an endpoint.
type journey struct {
	at     time.Duration
	now    time.Time
	units  int
	heavy  bool
	roomy  bool      // only where a slot is free
	fresh  bool      // it has just come: whoever has to turn it away hears of demand held back
	probes bool      // it may be a probe
	tried  *Endpoint // not there
}

// pickLocked returns where a call goes; nil if there is nobody, or no room. Of those that look well it takes the less loaded of two random
// ones, unless a suspect one is due for a probe; if that has no room, of those that have. If all are suspect none is: a call is never
// refused for the sake of routing.
func (g *Guard) pickLocked(j journey) *Endpoint {
	if len(g.pool) == 1 {
		if e := g.pool[0]; e != j.tried && (!j.roomy || e.room(j.units, j.heavy, j.now)) {
			return e
		}
		return nil
	}
	g.judgeLocked(j.at)
	if !g.judge.troubled && j.tried == nil && len(g.pool) > 1 {
		return g.roomyLocked(&j, g.twoLocked(j.at), true)
	}
	suspects, probe := 0, (*Endpoint)(nil)
	for _, e := range g.pool {
		if e.suspect(j.at) {
			suspects++
			if j.probes && e.due(j.at) && e.room(j.units, j.heavy, j.now) {
				probe = e
			}
		}
	}
	well := suspects < len(g.pool)
	if well && probe != nil {
		probe.probing(j.at)
		return probe
	}
	return g.roomyLocked(&j, g.drawLocked(&j, well, false), well)
}

// roomyLocked returns best, or another one if that has no room and the call needs some.
func (g *Guard) roomyLocked(j *journey, best *Endpoint, well bool) *Endpoint {
	switch {
	case best == nil && !j.roomy: // What looks well was tried.
		return g.drawLocked(j, false, false)
	case best == nil || !j.roomy || best.room(j.units, j.heavy, j.now):
		return best
	}
	if j.fresh {
		best.limiter.Held()
	}
	return g.drawLocked(j, well, true)
}

// twoLocked returns the less loaded of two at random, of several.
func (g *Guard) twoLocked(at time.Duration) *Endpoint {
	n := int64(len(g.pool))
	i, k := g.dice.below(n), g.dice.below(n-1)
	if k >= i {
		k++
	}
	a, b := g.pool[i], g.pool[k]
	if b.lighter(a, at) {
		return b
	}
	return a
}

// drawLocked returns the less loaded of two at random, of those that look well or of all, with room or not.
func (g *Guard) drawLocked(j *journey, well, roomy bool) *Endpoint {
	p := pair{dice: g.dice}
	for _, e := range g.pool {
		if e != j.tried && !(well && e.suspect(j.at)) && (!roomy || e.room(j.units, j.heavy, j.now)) {
			p.add(e)
		}
	}
	return p.lighter(j.at)
}

// pair is two at random out of an unknown number.
type pair struct {
	dice dice
	a, b *Endpoint
	n    int
}

func (p *pair) add(e *Endpoint) {
	p.n++
	if p.n <= 2 {
		p.a, p.b = e, p.a
		return
	}
	switch p.dice.below(int64(p.n)) {
	case 0:
		p.a = e
	case 1:
		p.b = e
	}
}

// lighter returns the less loaded of the two; of two that are equal, either.
func (p *pair) lighter(at time.Duration) *Endpoint {
	if p.b == nil {
		return p.a
	}
	if p.dice.below(2) == 0 {
		p.a, p.b = p.b, p.a
	}
	if p.b.lighter(p.a, at) {
		return p.b
	}
	return p.a
}

// Endpoint returns where the call goes; nil if no endpoint can be reached, or the permit was given back.
func (p Permit) Endpoint() *Endpoint {
	if p.g == nil {
		return nil
	}
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	if s := p.g.permits.find(p); s != nil {
		return s.to
	}
	return nil
}

// Elsewhere moves a call that did not reach its endpoint, which so tells nothing of that. It goes where there is room, else beyond the
// limit; to a suspect endpoint, one that is being connected to, or once more to the same, only if there is no better one. ok is false if
// there is none at all.
func (p Permit) Elsewhere() (e *Endpoint, ok bool) {
	if p.g == nil {
		return nil, false
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	s := p.g.permits.find(p)
	if s == nil {
		return nil, false
	}
	p.g.moveLocked(s)
	return s.to, s.to != nil
}

// moveLocked takes a call to another endpoint.
func (g *Guard) moveLocked(s *slot) {
	at := g.clock()
	now := g.now(at)
	slotted := s.slot != limit.Slot{}
	to := g.elsewhereLocked(s.to, s.units, at)
	g.occupyLocked(s, -1, at)
	g.releaseLocked(s, limit.Ignored, 0, now)
	g.silenceLocked(s, now)
	s.to, s.at = to, at
	if slotted && to != nil {
		s.slot = to.limiter.Force(s.units, now)
	}
	g.occupyLocked(s, 1, at)
	g.noteLocked(now, "")
	g.dispatchLocked(at)
}

// Route returns where a call goes that passes outside of all decisions, like a health check, other than the one that was tried if it can
// be; nil if no endpoint can be reached.
func (g *Guard) Route(tried *Endpoint) *Endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.elsewhereLocked(tried, 1, g.clock())
}

// elsewhereLocked returns the best endpoint but the one that was tried, else one that is being connected to, else that one.
func (g *Guard) elsewhereLocked(tried *Endpoint, units int, at time.Duration) *Endpoint {
	j := journey{at: at, now: g.now(at), units: units, tried: tried, roomy: true}
	if e := g.pickLocked(j); e != nil {
		return e
	}
	j.roomy = false
	if e := g.pickLocked(j); e != nil {
		return e
	}
	hope := pair{dice: g.dice}
	for _, e := range g.all {
		if e.state == Connecting && e != tried {
			hope.add(e)
		}
	}
	if hope.n == 0 && tried != nil && !tried.gone && tried.state != Failed {
		return tried
	}
	return hope.lighter(at)
}
