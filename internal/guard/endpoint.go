package guard

import (
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// EndpointState tells whether calls can reach an endpoint.
type EndpointState uint8

const (
	// Failed is nobody there. It is the zero value: of a new endpoint nothing is known yet.
	Failed EndpointState = iota
	// Connecting is somebody there soon, perhaps: calls go there while no endpoint is Ready, and wait for the connection.
	Connecting
	// Ready is somebody there.
	Ready
)

// Endpoint is one address of the back-end, with a limit and a health of its own. A guard to which none was ever added has one of its own
// that is always ready. Its methods are safe for concurrent use.
type Endpoint struct {
	// Value belongs to who added it, who may set it before the first SetState.
	Value any

	g    *Guard
	name string

	// Guarded by g.mu.
	state   EndpointState
	failed  bool // it was Ready once, and Failed since
	gone    bool // removed
	limiter *limit.Limiter
	limit   int           // as last seen
	learned time.Duration // instant of the last good unary call there; 0 is none, and before that is before the guard was started again
	unary   int           // calls with a permit
	loose   int           // of them, without a slot of the limit
	heavy   int           // units of calls of heavy methods
	streams int           // with a permit
	work    int           // units of the limit that messages and openings of streams take
	health
	standing
}

// EndpointStatus is the state of one endpoint at one moment.
type EndpointStatus struct {
	Name        string
	State       EndpointState
	Limit       limit.Status
	InFlight    int // unary calls with a permit
	OpenStreams int
	StreamWork  int           // units of the limit that messages and openings of streams take
	Latency     time.Duration // of good unary calls, the last ones counting most; 0 while unknown
	Trust       float64       // from 1, full, to 0: falls with failures, returns with successes and with time
	Suspect     bool          // it is so much slower, or fails so much more, than the others that it only gets probes
}

// AddEndpoint adds an endpoint, whose name need not be unique. It is Failed until SetState says otherwise.
func (g *Guard) AddEndpoint(name string) *Endpoint {
	g.mu.Lock()
	defer g.unlock()
	at := g.clock()
	if g.lone != nil {
		g.lone.gone, g.lone = true, nil
		g.all = nil
	}
	e := g.newEndpointLocked(name, at)
	g.all = append(g.all, e)
	g.regroupLocked(at)
	return e
}

// newEndpointLocked returns an endpoint that nobody knows yet.
func (g *Guard) newEndpointLocked(name string, at time.Duration) *Endpoint {
	e := &Endpoint{g: g, name: name, limiter: limit.New(g.settings.share(len(g.pool)), g.now(at)), health: well()}
	e.limit = e.limiter.Limit()
	e.recallLocked(at)
	return e
}

// Name returns the name that it was added with.
func (e *Endpoint) Name() string { return e.name }

// SetState tells whether calls can reach it. One that was Ready and Failed since is another one when it is Ready again: its health is
// forgotten, and its limit begins from below, so that what has just been started is not overrun. Those in line may go there at once.
func (e *Endpoint) SetState(s EndpointState) {
	g := e.g
	g.mu.Lock()
	defer g.unlock()
	if e.gone || e.state == s {
		return
	}
	at := g.clock()
	switch {
	case s == Failed:
		e.failed = e.failed || e.limiter.InFlight() > 0 || e.learned != 0 || e.state == Ready
	case s == Ready && e.failed:
		e.failed = false
		e.health, e.standing = well(), standing{}
		e.limiter.Restart(g.now(at))
	}
	e.state = s
	g.regroupLocked(at)
	g.dispatchLocked(at)
}

// Remove takes it away: no further call goes there. Calls that are there stay until they end.
func (e *Endpoint) Remove() {
	g := e.g
	g.mu.Lock()
	defer g.unlock()
	if e.gone {
		return
	}
	e.gone = true
	g.all = slices.DeleteFunc(g.all, func(x *Endpoint) bool { return x == e })
	at := g.clock()
	g.regroupLocked(at)
	g.dispatchLocked(at)
}

// Status returns the state now, also of one that was removed.
func (e *Endpoint) Status() EndpointStatus {
	e.g.mu.Lock()
	defer e.g.mu.Unlock()
	return e.statusLocked(e.g.clock())
}

func (e *Endpoint) statusLocked(at time.Duration) EndpointStatus {
	return EndpointStatus{
		Name: e.name, State: e.state, Limit: e.limiter.Status(), InFlight: e.unary, OpenStreams: e.streams, StreamWork: e.work,
		Latency: time.Duration(e.latency * float64(time.Second)), Trust: e.trustAt(at), Suspect: e.suspect(at),
	}
}

// regroupLocked finds anew where calls go: to the endpoints that are ready, else to those that are being connected to. They share the
// bounds of the limit.
func (g *Guard) regroupLocked(at time.Duration) {
	best := Connecting
	for _, e := range g.all {
		best = max(best, e.state)
	}
	g.pool = g.pool[:0]
	for _, e := range g.all {
		if e.state == best {
			g.pool = append(g.pool, e)
		}
	}
	for _, e := range g.all {
		e.standing.unjudged()
	}
	g.judge.next = 0
	now := g.now(at)
	g.shareLocked(now)
	g.noteLocked(now, "")
}

// shareLocked gives each endpoint its bounds of the limit.
func (g *Guard) shareLocked(now time.Time) {
	for _, e := range g.all {
		e.limiter.Configure(g.settings.share(len(g.pool)), now)
	}
	g.limit = g.limitLocked()
}

// share returns the settings of the limit of one endpoint out of n: none may go beyond the ceiling of the whole, and together they are not
// below its floor.
func (s *Settings) share(n int) limit.Settings {
	l := s.Limit
	n = max(n, 1)
	l.Min = (l.Min + n - 1) / n
	if l.Law == limit.Fixed {
		l.Initial = (s.ceiling() + n - 1) / n
		l.Initial = max(l.Initial, 1)
	}
	return l
}

// ceiling bounds the units in flight at all endpoints together.
func (s *Settings) ceiling() int {
	l := s.Limit
	if l.Law == limit.Fixed {
		return min(max(l.Initial, l.Min), l.Max)
	}
	return l.Max
}

// limitLocked returns the limit of the back-end: what the endpoints that calls go to bear together.
func (g *Guard) limitLocked() (sum int) {
	of := g.pool
	if len(of) == 0 {
		of = g.all
	}
	for _, e := range of {
		sum += e.limiter.Limit()
	}
	return min(sum, g.settings.ceiling())
}

// fullLocked tells whether so many units more would break the ceiling of the whole. A single endpoint keeps it by itself.
func (g *Guard) fullLocked(units int) bool {
	if len(g.all) == 1 {
		return false
	}
	sum := 0
	for _, e := range g.all {
		sum += e.limiter.InFlight()
	}
	return sum+units > g.settings.ceiling() && sum > 0
}

// room tells whether a call that takes so many units finds a slot there. Calls that were let in without one fill the limit, too.
func (e *Endpoint) room(units int, heavy bool, now time.Time) bool {
	return !e.crowded(units) && e.leaves(units, heavy) && e.limiter.Free(units, now)
}

// acquire takes a slot there if there is room.
func (e *Endpoint) acquire(units int, heavy bool, now time.Time) (limit.Slot, bool) {
	if e.crowded(units) || !e.leaves(units, heavy) {
		return limit.Slot{}, false
	}
	return e.limiter.Acquire(units, now)
}

func (e *Endpoint) crowded(units int) bool {
	return e.loose > 0 && e.loose+e.limiter.InFlight()+units > e.limiter.Limit()
}
