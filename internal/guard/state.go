package guard

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/capguard/capguard/internal/guard/limit"
)

// State is what a guard has learned of its back-end, for the guard that comes after it. It names methods and endpoints, and nobody else.
// Two States of a guard that learned nothing in between are alike. (docs/design/memory.md)
type State struct {
	Calls     LearnedCost     `json:"calls"`     // of all methods together
	Methods   []LearnedMethod `json:"methods"`   // in the order of their names; at most 1,000
	Endpoints []LearnedLimit  `json:"endpoints"` // in the order of their names; at most 1,000
}

// LearnedCost is how long calls occupy the back-end.
type LearnedCost struct {
	Mean    time.Duration `json:"mean_ns"`
	Samples int           `json:"samples"` // good answers that it was learned from, the last thousand at most; 0 is unknown
	Learned time.Time     `json:"learned"` // time of the last of them
}

// LearnedMethod is what is known of one method.
type LearnedMethod struct {
	Name    string      `json:"name"`
	Streams bool        `json:"streams"` // its back-end has shown it to be a streaming method
	Cost    LearnedCost `json:"cost"`
}

// LearnedLimit is the limit of one endpoint.
type LearnedLimit struct {
	Endpoint string    `json:"endpoint"`
	Law      limit.Law `json:"law"`     // which has found it: the limit of one tells nothing to another
	Limit    int       `json:"limit"`   // in units, 1 to 1,000,000
	Ramp     bool      `json:"ramp"`    // the back-end was given up, or was coming back: to be begun from below
	Learned  time.Time `json:"learned"` // when a call there last ended well
}

const (
	// believedFor is the age up to which what was learned is gone on from as if the guard had run all the time. Releases and restarts of a
	// guard take seconds, a bad night's repairs some minutes; in an hour a back-end seldom becomes another one.
	believedFor = time.Hour
	// rememberedFor is the age up to which it is a hint: a limit that makes the first one lower, never higher, and costs that the first few
	// new answers outweigh. A day later the load of the day is back, and so may be a release.
	rememberedFor = 24 * time.Hour
	// maxLimits bounds the limits in a State.
	maxLimits = 1000
	// mostLimit is the largest bound that a limit can have.
	mostLimit = 1_000_000
	// longestMean is beyond any mean that calls can have.
	longestMean = 24 * time.Hour
)

// memory is the limits of endpoints before the guard was started again, by name, for those that are added later.
type memory map[string]LearnedLimit

// State returns what was learned so far.
func (g *Guard) State() State {
	s := g.learnedNow()
	slices.SortFunc(s.Methods, func(a, b LearnedMethod) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Endpoints, func(a, b LearnedLimit) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	s.Endpoints = s.Endpoints[:min(len(s.Endpoints), maxLimits)]
	return s
}

// learnedNow is a State in no order.
func (g *Guard) learnedNow() State {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := State{Calls: g.costLocked(g.spent)}
	for name, m := range g.methods.byName {
		if m.spent.n >= spentLeast || m.streams {
			s.Methods = append(s.Methods, LearnedMethod{Name: name, Streams: m.streams, Cost: g.costLocked(m.spent)})
		}
	}
	s.Endpoints = slices.AppendSeq(s.Endpoints, maps.Values(g.limitsLocked()))
	return s
}

func (g *Guard) costLocked(s spent) LearnedCost {
	return LearnedCost{Mean: time.Duration(math.Round(s.mean * 1e9)), Samples: int(s.n), Learned: g.wallLocked(s.last)}
}

// wallLocked is an instant in a form that is the same after it was written down and read.
func (g *Guard) wallLocked(at time.Duration) time.Time { return g.now(at).Round(0).UTC() }

// limitsLocked returns the limits of the endpoints, by name, and of those that have not come back yet.
func (g *Guard) limitsLocked() memory {
	limits := maps.Clone(g.memory)
	if limits == nil {
		limits = memory{}
	}
	for _, e := range g.all {
		if l, ok := e.learnedLocked(); ok {
			limits[e.name] = l
		}
	}
	return limits
}

// learnedLocked returns what was learned of an endpoint, if anything was: that the first limit is the limit still tells nothing, unless
// there was another one before the guard was started, and calls have shown since that it is no more.
func (e *Endpoint) learnedLocked() (LearnedLimit, bool) {
	s := &e.g.settings.Limit
	n := e.limiter.Known()
	_, remembered := e.g.memory[e.name]
	if n == 0 || n == s.Initial && !(remembered && e.learned > 0) || len(e.name) > maxMethodName {
		return LearnedLimit{}, false
	}
	return LearnedLimit{
		Endpoint: e.name, Law: s.Law, Limit: n, Learned: e.g.wallLocked(e.learned),
		Ramp: 2*e.limiter.Limit() < n || e.state != Ready || refuses(e.g.state),
	}, true
}

// Restore has a guard go on from the State of one that protected the same back-end before it. It belongs before the first call; endpoints
// may be added before or after. What is too old, or cannot be, is left out, entry by entry. It returns how many entries it took: of methods,
// and of endpoints whose limit was found by the law in force.
func (g *Guard) Restore(s State) (methods, endpoints int) {
	g.mu.Lock()
	defer g.unlock()
	at := g.clock()
	methods = g.recallMethodsLocked(s, at)
	g.memory = memory{}
	for _, l := range s.Endpoints {
		if len(g.memory) < maxLimits && g.believableLocked(l, at) {
			g.memory[l.Endpoint] = l
		}
	}
	for _, l := range g.memory {
		if l.Law == g.settings.Limit.Law {
			endpoints++
		}
	}
	for _, e := range g.all {
		if e.limiter.InFlight() == 0 {
			e.recallLocked(at)
		}
	}
	g.noteLocked(g.now(at), "")
	return methods, endpoints
}

func (g *Guard) believableLocked(l LearnedLimit, at time.Duration) bool {
	return l.Limit >= 1 && l.Limit <= mostLimit && nameable(l.Endpoint) && g.ageLocked(l.Learned, at) <= rememberedFor
}

func nameable(name string) bool { return len(name) <= maxMethodName && utf8.ValidString(name) }

// ageLocked returns how old is what was learned at a time. Of a time that is still to come a clock that was put back is to blame: it is as
// doubtful as one that has passed.
func (g *Guard) ageLocked(learned time.Time, at time.Duration) time.Duration {
	return g.now(at).Sub(learned).Abs()
}

// recallMethodsLocked takes in the costs and kinds of methods, and returns of how many. Costs are compared with the mean of all, and without
// it tell nothing.
func (g *Guard) recallMethodsLocked(s State, at time.Duration) (taken int) {
	all, costs := g.recallCostLocked(s.Calls, at)
	if costs {
		g.spent = all
	}
	for _, m := range s.Methods {
		cost, ok := g.recallCostLocked(m.Cost, at)
		ok = ok && costs
		if age := g.ageLocked(m.Cost.Learned, at); !ok && m.Streams && age <= rememberedFor {
			cost, ok = spent{last: at - age}, true
		}
		if ok && g.recallMethodLocked(m, cost, at) {
			taken++
		}
	}
	return taken
}

// recallMethodLocked tells whether there was room for the method.
func (g *Guard) recallMethodLocked(m LearnedMethod, cost spent, at time.Duration) bool {
	if len(g.methods.byName) >= maxProven {
		return false
	}
	entry := g.methods.look(m.Name)
	if entry == g.methods.other {
		return false
	}
	entry.streams, entry.spent, entry.last = m.Streams, cost, cost.last
	g.methods.prove(entry, at)
	return true
}

// recallCostLocked returns a cost that is still worth something.
func (g *Guard) recallCostLocked(c LearnedCost, at time.Duration) (spent, bool) {
	age := g.ageLocked(c.Learned, at)
	if age > rememberedFor || c.Samples < spentLeast || c.Mean <= 0 || c.Mean > longestMean {
		return spent{}, false
	}
	n := min(c.Samples, spentLength)
	if age > believedFor {
		n = spentLeast
	}
	return spent{mean: c.Mean.Seconds(), n: float64(n), last: at - age}, true
}

// recallLocked has the limiter of an endpoint that nobody has called yet begin from what is remembered.
func (e *Endpoint) recallLocked(at time.Duration) {
	g := e.g
	l, ok := g.memory[e.name]
	age := g.ageLocked(l.Learned, at)
	s := &g.settings.Limit
	switch {
	case !ok || age > rememberedFor || l.Law != s.Law:
		return
	case age > believedFor:
		e.limiter.Resume(min(l.Limit, s.Initial), g.now(at))
	default:
		e.limiter.Resume(l.Limit, g.now(at))
	}
	if l.Ramp {
		e.limiter.Restart(g.now(at))
	}
	e.learned = at - age
}
