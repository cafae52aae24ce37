package guard

import (
	"maps"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxMethods and maxMethodName bound the table of methods: their names come from callers.
	maxMethods    = 1000
	maxMethodName = 256 // bytes
	// methodsRest is how long a method must have been idle to make room in a full table.
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
	totals  Totals
	gone    bool // swept: what it counts counts as other
	streams bool // its back-end has shown it to be a streaming method
	service median
	spent   spent                  // by its successes
	last    time.Duration          // instant of the last call
	noted   [reasons]time.Duration // when the journal last had news of it, by reason
}

// methods is a bounded table; what does not fit counts as other.
type methods struct {
	byName map[string]*method
	other  *method
	latest *method // the one that was found last: a flood is of few methods
	swept  time.Duration
}

func newMethods() methods {
	others := &method{name: other}
	return methods{byName: map[string]*method{}, other: others, latest: others}
}

func (t *methods) find(name string, at time.Duration) *method {
	m := t.latest
	if m.name != name || m.gone {
		m = t.look(name, at)
		t.latest = m
	}
	m.last = at
	return m
}

func (t *methods) look(name string, at time.Duration) *method {
	if m, ok := t.byName[name]; ok {
		return m
	}
	return t.add(name, at)
}

func (t *methods) add(name string, at time.Duration) *method {
	if len(t.byName) >= maxMethods {
		t.sweep(at)
	}
	if len(t.byName) >= maxMethods || len(name) > maxMethodName || !utf8.ValidString(name) {
		return t.other
	}
	name = strings.Clone(name) // not to hold on to the headers that it is a part of
	m := &method{name: name}
	t.byName[name] = m
	return m
}

// sweep forgets methods that nobody calls any more, so that invented names do not keep the real ones out for ever. What they counted counts
// as other.
func (t *methods) sweep(at time.Duration) {
	if at-t.swept < sweepEvery {
		return
	}
	t.swept = at
	maps.DeleteFunc(t.byName, func(_ string, m *method) bool {
		idle := at-m.last > methodsRest
		if idle {
			t.other.totals.add(&m.totals)
			m.gone = true
		}
		return idle
	})
}

// counts returns where the calls of m count.
func (t *methods) counts(m *method) *Totals {
	if m.gone {
		m = t.other
	}
	return &m.totals
}

// totals returns what all methods have counted together.
func (t *methods) totals() (sum Totals) {
	sum = t.other.totals
	for _, m := range t.byName {
		sum.add(&m.totals)
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
