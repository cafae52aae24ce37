package guard

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// maxFeatures bounds the features that are known without a flag: their names come from callers. What is beyond counts as other.
	maxFeatures = 10_000
	// fully is the pass of a switch at 100 %: positions are thousandths of a percent.
	fully = 100_000
	// sweepEvery is how often a full table is searched for features that nobody uses any more.
	sweepEvery = windowLength * time.Second
)

// feature is what is known of one feature.
type feature struct {
	name    string
	flagged bool
	setting Feature // zero without a flag
	pass    int     // of fully
	fresh   bool    // the setting has refused nobody
	way     *cohort
	cost    cost // of its unary calls
	streams int

	passed, blocked uint64 // by the switch when they came, since the start
}

// cohort is the calls of a feature that one position of its switch let pass and that are still on their way to the back-end. Their number
// only falls once the switch has moved on.
type cohort struct {
	n    int
	gone chan struct{} // nil while the position is in force; then closed when n is 0
}

// features is a bounded table. A feature with a flag always has its own entry.
type features struct {
	byName map[string]*feature
	other  *feature
	latest *feature             // the one in byName that was found last: a flood is of few features
	old    map[*cohort]struct{} // of positions no longer in force, not empty
	swept  time.Duration
}

func newFeatures() features {
	return features{
		byName: map[string]*feature{},
		other:  newFeature(other),
		old:    map[*cohort]struct{}{},
	}
}

func newFeature(name string) *feature { return &feature{name: name, pass: fully, way: new(cohort)} }

func (t *features) find(name string, at time.Duration) *feature {
	if f := t.latest; f != nil && f.name == name {
		return f
	}
	if f, ok := t.byName[name]; ok {
		t.latest = f
		return f
	}
	if len(t.byName) >= maxFeatures {
		t.sweep(at)
	}
	if len(t.byName) >= maxFeatures {
		return t.other
	}
	return t.add(name)
}

func (t *features) add(name string) *feature {
	name = strings.Clone(name) // not to hold on to the headers that it is a part of
	f := newFeature(name)
	t.byName[name] = f
	return f
}

// sweep forgets features that have neither flag nor calls, so that invented names do not keep the real ones out for ever.
func (t *features) sweep(at time.Duration) {
	if at-t.swept < sweepEvery {
		return
	}
	t.swept, t.latest = at, nil
	maps.DeleteFunc(t.byName, func(_ string, f *feature) bool {
		return !f.flagged && f.way.n == 0 && f.streams == 0 && f.cost.inFlight == 0 && f.cost.total(at) == load{}
	})
}

// set moves a switch.
func (t *features) set(f *feature, s Feature, flagged bool) {
	pass := fully
	if flagged {
		pass = passOf(s.Percent)
	}
	if pass != f.pass {
		t.retire(f)
	}
	f.fresh = f.fresh || pass != f.pass || s.Revision != f.setting.Revision
	f.setting, f.flagged, f.pass = s, flagged, pass
}

// passOf returns a position in parts of fully. What is no number at all lets nobody pass.
func passOf(percent float64) int {
	if !(percent > 0) {
		return 0
	}
	return int(math.Round(fully / 100 * min(percent, 100)))
}

// retire gives a feature a fresh cohort.
func (t *features) retire(f *feature) {
	if f.way.n == 0 {
		return
	}
	f.way.gone = make(chan struct{})
	t.old[f.way] = struct{}{}
	f.way = new(cohort)
}

// leave takes a call out of its cohort.
func (t *features) leave(c *cohort) {
	c.n--
	if c.n == 0 && c.gone != nil {
		close(c.gone)
		delete(t.old, c)
	}
}

// SetFeatures swaps the positions of all switches, by name; a feature that fs does not name passes. Queued calls that no longer pass are
// refused at once; from its return on no call of a feature at 0 % is admitted.
func (g *Guard) SetFeatures(fs map[string]Feature) {
	g.mu.Lock()
	defer g.unlock()
	at := g.clock()
	t := &g.features
	for name, f := range t.byName {
		if _, named := fs[name]; !named && f.flagged {
			t.set(f, Feature{}, false)
		}
	}
	for name, s := range fs {
		s.Name = cmp.Or(s.Name, name)
		t.set(t.own(name), s, true)
	}
	g.recheckLocked(at)
	g.dispatchLocked(at)
}

// own returns the entry of a feature with a flag. Calls of a new one may be on their way under the name of other.
func (t *features) own(name string) *feature {
	if f, ok := t.byName[name]; ok {
		return f
	}
	t.retire(t.other)
	return t.add(name)
}

// recheckLocked refuses who waits and does not pass its switch any more.
func (g *Guard) recheckLocked(at time.Duration) {
	stopped := func(w *waiter) Reason {
		a := g.askAgainLocked(w, at)
		return a.switched(g.dice)
	}
	for _, r := range []Reason{FeatureOff, FeatureDimmed} {
		g.dismissLocked(at, func(w *waiter) bool { return stopped(w) == r }, r, never)
	}
}

// Quiesce waits until no call that an earlier setting of its feature admitted is still on its way to the back-end: each was answered or
// ended. It gives up when ctx ends, and then reports how many are not known to have arrived.
func (g *Guard) Quiesce(ctx context.Context) (unknown int) {
	g.mu.Lock()
	old := slices.Collect(maps.Keys(g.features.old))
	g.mu.Unlock()
	for _, c := range old {
		select {
		case <-c.gone:
		case <-ctx.Done():
			return g.onTheirWay(old)
		}
	}
	return 0
}

func (g *Guard) onTheirWay(cohorts []*cohort) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range cohorts {
		n += c.n
	}
	return n
}
