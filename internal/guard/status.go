package guard

import (
	"cmp"
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// Status is the state of a guard at one moment.
type Status struct {
	Mode        Mode
	Draining    bool
	Breaker     breaker.Status
	Limit       limit.Status
	MaxStreams  int
	InFlight    int // unary calls with a permit
	OpenStreams int
	// StreamWork is how many units of the limit messages and openings of streams take, StreamWorkMean the same over the last second or so.
	// While one of them is StreamWorkLimit or more no stream is opened.
	StreamWork      int
	StreamWorkMean  float64
	StreamWorkLimit int

	Queued        int
	DoubleReturns uint64 // permits given back twice since the start: bugs
	// InFlightTime is what all unary calls together have of FeatureStatus.InFlightTime.
	InFlightTime float64
	Endpoints    []EndpointStatus // in the order of their addition; nil while there are none of a name
	// Totals count since the start.
	Totals Totals
	// Recent counts over the last Span, at most ten seconds.
	Recent Totals
	Span   time.Duration
}

// Totals count calls.
type Totals struct {
	Admitted, Succeeded, Overloaded, Failed, Ignored uint64
	Refused                                          [reasons]uint64 // by Reason
	WouldRefuse                                      [reasons]uint64 // in mode observe, where these calls are among the admitted
	WouldWait                                        uint64          // and those for which a wait in line would have found a slot
}

const reasons = int(Canceled) + 1

// of returns the counter of an outcome.
func (t *Totals) of(o Outcome) *uint64 {
	switch o {
	case Success, Missing:
		return &t.Succeeded
	case Overload:
		return &t.Overloaded
	case Failure:
		return &t.Failed
	}
	return &t.Ignored
}

func (t *Totals) add(u *Totals) {
	t.Admitted += u.Admitted
	t.Succeeded += u.Succeeded
	t.Overloaded += u.Overloaded
	t.Failed += u.Failed
	t.Ignored += u.Ignored
	t.WouldWait += u.WouldWait
	for r := range reasons {
		t.Refused[r] += u.Refused[r]
		t.WouldRefuse[r] += u.WouldRefuse[r]
	}
}

// subtract takes off what was counted before.
func (t *Totals) subtract(u *Totals) {
	t.Admitted -= u.Admitted
	t.Succeeded -= u.Succeeded
	t.Overloaded -= u.Overloaded
	t.Failed -= u.Failed
	t.Ignored -= u.Ignored
	t.WouldWait -= u.WouldWait
	for r := range reasons {
		t.Refused[r] -= u.Refused[r]
		t.WouldRefuse[r] -= u.WouldRefuse[r]
	}
}

// past is what the totals were at the beginning of each of the last ten seconds. Calls are counted in one place, their method's; from that
// and this the totals and their last ten seconds follow.
type past struct{ window[Totals] }

// keep notes what the totals are when a second begins that nothing was counted in yet.
func (p *past) keep(m *methods, at time.Duration) {
	if !p.runs(at) {
		p.mark(m, at)
	}
}

func (p *past) mark(m *methods, at time.Duration) {
	now, last := m.totals(), p.second
	p.at(at)
	for s := max(last+1, p.second-windowLength+1); s <= p.second; s++ {
		p.buckets[s%windowLength] = now
	}
}

// oldest returns the totals at the beginning of the window.
func (p *past) oldest() *Totals { return &p.buckets[(p.second+1)%windowLength] }

// FeatureStatus is what one feature does and costs. Features without a flag are listed from their first call on.
type FeatureStatus struct {
	Name             string
	InFlight         int // unary calls with a permit
	OpenStreams      int
	CallsPerSecond   float64 // admitted, over the last ten seconds
	RefusedPerSecond float64
	Passed, Blocked  uint64 // since the start: by the feature's switch alone, as it was when they came
	// InFlightTime is the time the feature's unary calls spent at the back-end over the last ten seconds, those still there included, in
	// seconds per second: its mean number in flight. Divide by Status.InFlightTime for its share.
	InFlightTime float64
}

// MethodStatus counts the decisions on one method since the start.
type MethodStatus struct {
	Method string
	Totals Totals
}

// Status returns the state now.
func (g *Guard) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.statusLocked(g.clock())
}

func (g *Guard) statusLocked(at time.Duration) Status {
	now := g.now(at)
	g.noteLocked(now, "")
	s := Status{
		Mode:          g.settings.Mode,
		Draining:      g.drained != nil,
		Breaker:       g.breaker.Status(now),
		Limit:         g.limitStatusLocked(),
		MaxStreams:    g.settings.MaxStreams,
		InFlight:      g.unary,
		OpenStreams:   g.streams,
		Queued:        g.queuedLocked(),
		DoubleReturns: g.double,
		InFlightTime:  perSecond(g.cost.total(at).busy.Seconds(), at),
		Totals:        g.methods.totals(),
		Span:          span(at),
	}
	g.past.keep(&g.methods, at)
	s.Recent = s.Totals
	s.Recent.subtract(g.past.oldest())
	s.StreamWork, s.StreamWorkMean, s.StreamWorkLimit = g.work.units, g.work.meanAt(at), g.streamLimitLocked()
	if g.lone == nil {
		for _, e := range g.all {
			s.Endpoints = append(s.Endpoints, e.statusLocked(at))
		}
	}
	return s
}

// limitStatusLocked returns the state of the limit of the back-end as a whole; its reason is that of the last move.
func (g *Guard) limitStatusLocked() limit.Status {
	s := limit.Status{Law: g.settings.Limit.Law, Reason: "no endpoint"}
	for _, e := range g.all {
		l := e.limiter.Status()
		s.Charged += l.Charged
		if !l.Changed.Before(s.Changed) {
			s.Changed, s.Reason = l.Changed, l.Reason
		}
	}
	s.Limit, s.Min, s.Max = g.limit, g.settings.Limit.Min, g.settings.Limit.Max
	return s
}

// Features returns what each feature does and costs, by name; features beyond a bound count together as "other".
func (g *Guard) Features() []FeatureStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.clock()
	list := make([]FeatureStatus, 0, len(g.features.byName)+1)
	for _, f := range g.features.byName {
		list = append(list, f.status(at))
	}
	if others := g.features.other.status(at); others != (FeatureStatus{Name: other}) {
		list = append(list, others)
	}
	slices.SortFunc(list, func(a, b FeatureStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (f *feature) status(at time.Duration) FeatureStatus {
	sum := f.cost.total(at)
	return FeatureStatus{
		Name:             f.name,
		InFlight:         f.cost.inFlight,
		OpenStreams:      f.streams,
		CallsPerSecond:   perSecond(float64(sum.admitted), at),
		RefusedPerSecond: perSecond(float64(sum.refused), at),
		Passed:           f.passed,
		Blocked:          f.blocked,
		InFlightTime:     perSecond(sum.busy.Seconds(), at),
	}
}

// Methods returns the decisions per method, by name; methods beyond a bound count together as "other".
func (g *Guard) Methods() []MethodStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]MethodStatus, 0, len(g.methods.byName)+1)
	for _, m := range g.methods.byName {
		list = append(list, MethodStatus{Method: m.name, Totals: *m.totals})
	}
	if others := g.methods.other; *others.totals != (Totals{}) {
		list = append(list, MethodStatus{Method: others.name, Totals: *others.totals})
	}
	slices.SortFunc(list, func(a, b MethodStatus) int { return cmp.Compare(a.Method, b.Method) })
	return list
}
