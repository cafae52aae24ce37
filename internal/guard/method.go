package guard

import (
	"container/list"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxMethods is how many methods a guard tells apart, as their names come from callers. Methods lists one more when others, or what
	// they counted before they made room, count together.
	MaxMethods    = 1000
	maxMethodName = 256 // bytes
	// maxProven is how many of them may be proven: a place is left to those that still have to be.
	maxProven = MaxMethods - 1
	// methodsRest is how long a proven method must have been idle to give way to another one.
	methodsRest = time.Minute
	// other names what is counted together beyond a bound.
	other = "other"
	// minSamples is how many answers a median needs to be acted upon: fewer tell nothing.
	minSamples = 10
	// medianFresh is how long a median is believed without a new answer. A median that is too high refuses the very calls that could
	// correct it: then it goes stale, calls pass, and it is learned anew.
	medianFresh = time.Second
)

// method is what is known of one method.
type method struct {
	name    string
	totals  *Totals       // those of other, once the method is gone
	place   *list.Element // in the order of the last calls; nil: it is other, or gone from the table
	proven  bool          // the back-end has shown to have such a method
	streams bool          // its back-end has shown it to be a streaming method
	service median
	spent   spent         // by its successes
	last    time.Duration // instant of the last call
	noted   *noted        // those of other, if it came to a full table and is not proven: names without end would be news without end
}

// noted is when the journal last had news, by reason.
type noted [reasons]time.Duration

// methods is a bounded table; what does not fit counts as other. A full table forgets the unproven method that was not called for longest:
// invented names, however many, push out each other and never a method that exists. What a forgotten one counted counts as other, and so
// does what its calls in flight come to; the first of them that succeeds brings it back.
type methods struct {
	byName           map[string]*method
	unproven, proven list.List // of *method, by the last call
	other            *method
	latest           *method // the one that was found last: a flood is of few methods
}

func newMethods() methods {
	others := &method{name: other, totals: new(Totals), noted: new(noted)}
	return methods{byName: map[string]*method{}, other: others, latest: others}
}

func (t *methods) find(name string, at time.Duration) *method {
	m := t.latest
	if m.name != name || m.place == nil {
		m = t.look(name)
		t.latest = m
	}
	m.last = at
	return m
}

// known is find for those who only look: it adds nothing.
func (t *methods) known(name string) *method {
	if m, ok := t.byName[name]; ok {
		return m
	}
	return t.other
}

func (t *methods) look(name string) *method {
	if m, ok := t.byName[name]; ok {
		t.order(m).MoveToBack(m.place)
		return m
	}
	if len(name) > maxMethodName || !utf8.ValidString(name) {
		return t.other
	}
	news := t.other.noted
	if len(t.byName) >= MaxMethods {
		t.forget(&t.unproven)
	} else {
		news = new(noted)
	}
	return t.add(&method{name: strings.Clone(name), totals: new(Totals), noted: news}) // not to hold on to the headers that it is a part of
}

func (t *methods) add(m *method) *method {
	m.place = t.unproven.PushBack(m)
	t.byName[m.name] = m
	return m
}

func (t *methods) order(m *method) *list.List {
	if m.proven {
		return &t.proven
	}
	return &t.unproven
}

// forget makes room for one, by that of an order that was not called for longest.
func (t *methods) forget(order *list.List) {
	m := order.Remove(order.Front()).(*method)
	delete(t.byName, m.name)
	t.other.totals.add(m.totals)
	m.totals, m.noted, m.place, m.proven = t.other.totals, t.other.noted, nil, false
}

// prove takes in that the back-end has the method of a call, and returns where to learn from that call. Where too many are proven already,
// and none of them is at rest, the method stays unproven.
func (t *methods) prove(m *method, at time.Duration) *method {
	if m.proven || m == t.other {
		return m
	}
	if m.place == nil {
		return t.prove(t.find(m.name, at), at)
	}
	if t.proven.Len() == maxProven {
		if at-t.proven.Front().Value.(*method).last <= methodsRest {
			return m
		}
		t.forget(&t.proven)
	}
	t.unproven.Remove(m.place)
	m.proven, m.noted, m.place = true, new(noted), t.proven.PushBack(m)
	return m
}

// totals returns what all methods have counted together.
func (t *methods) totals() (sum Totals) {
	sum = *t.other.totals
	for _, m := range t.byName {
		sum.add(m.totals)
	}
	return sum
}

// spent is the mean time of many answers: what a call costs the back-end. It follows slowly, so that the limit can measure how calls become
// slower with more of them in flight: only how methods compare is read from it.
type spent struct {
	mean, n float64
	last    time.Duration // instant of the last answer
}

const (
	spentLength = 1000 // answers that it remembers
	spentLeast  = 30   // answers without which it tells nothing
)

func (s *spent) learn(took, at time.Duration) {
	s.last = at
	s.n = min(s.n+1, spentLength)
	s.mean += (took.Seconds() - s.mean) / s.n
}

// spentLocked takes in what a call has cost.
func (g *Guard) spentLocked(m *method, took, at time.Duration) {
	if m != g.methods.other {
		g.spent.learn(took, at)
		m.spent.learn(took, at)
	}
}

// usual returns how long calls of a method take beside all calls; 1 while that is not known. Of calls that are all alike it is 1 to the last
// digit.
func (g *Guard) usual(m *method) float64 {
	if m.spent.n < spentLeast || g.spent.mean == 0 || m.spent == g.spent {
		return 1
	}
	return m.spent.mean / g.spent.mean
}

// median follows the median of service times: each sample moves it one step up or down, by a share of itself, so that it rests where as
// many samples lie above as below. The share falls from a half to a twentieth: quick at first, then noise of some percent, and a change by
// half is followed within some fifteen samples. It needs no memory of samples. (Frugal streaming, Ma, Muthukrishnan and Sandler 2013,
// with steps relative to the estimate.)
type median struct {
	estimate time.Duration
	samples  int
	last     time.Duration // instant of the last sample
}

func (m *median) learn(took, at time.Duration) {
	if m.stale(at) {
		m.samples = 0
	}
	m.last = at
	m.samples++
	if m.samples == 1 {
		m.estimate = took
		return
	}
	step := m.estimate / 20
	if m.samples < 10 {
		step = m.estimate / time.Duration(2*m.samples)
	}
	switch {
	case took > m.estimate:
		m.estimate = min(m.estimate+max(step, 1), took)
	case took < m.estimate:
		m.estimate = max(m.estimate-step, took)
	}
}

func (m *median) stale(at time.Duration) bool { return at-m.last > medianFresh+m.estimate }

// value returns the median, or false while too little is known.
func (m *median) value(at time.Duration) (time.Duration, bool) {
	return m.estimate, m.samples >= minSamples && !m.stale(at)
}
