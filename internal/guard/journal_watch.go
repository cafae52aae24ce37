package guard

import (
	"errors"
	"slices"
	"time"
)

// Bounds of those who watch refusals: each costs every refusal a comparison, under the lock.
const (
	maxWatchers = 16
	// MaxWatchRate is the most refusals a second that a Watcher is told.
	MaxWatchRate = 100
)

// ErrTooManyWatchers tells that sixteen watch the refusals of this guard already.
var ErrTooManyWatchers = errors.New("watch refusals: 16 watch them already")

// Filter says which refusals are wanted: those that match all of its fields; a zero field matches everything.
type Filter struct {
	Method, Feature, Tenant string
	Reason                  Reason
	Trace                   [16]byte
	// Enforced leaves out what mode observe let pass.
	Enforced bool
}

// matches tells whether a refusal is wanted. It sees the call's own names, whatever the bounds of the tables.
func (f *Filter) matches(c *Call, d *Decision) bool {
	return f.fits(c.Method, c.Feature, &c.Trace, d) && (f.Tenant == "" || f.Tenant == c.Tenant)
}

// matchesEntry is matches for what is recorded.
func (f *Filter) matchesEntry(e *entry) bool {
	return f.fits(e.method.name, e.featureName(), &e.trace, &e.d) && (f.Tenant == "" || f.Tenant == e.tenantName())
}

func (f *Filter) fits(method, feature string, t *Trace, d *Decision) bool {
	return (f.Trace == [16]byte{} || f.Trace == t.ID) &&
		(f.Reason == None || f.Reason == d.Reason) &&
		(f.Method == "" || f.Method == method) &&
		(f.Feature == "" || f.Feature == feature) &&
		!(f.Enforced && d.Admitted)
}

// Watcher is told refusals as they happen. Nobody is called: its one reader takes what has come, and what came too fast, or while the
// reader was slow, is only counted. Safe for concurrent use.
type Watcher struct {
	g       *Guard
	filter  Filter
	allowed allowance
	came    []entry // up to its capacity
	skipped uint64
}

// Watch begins to follow the refusals that match f, at most perSecond of them a second, 1 to MaxWatchRate. Close the Watcher after use. The
// error is ErrTooManyWatchers.
func (g *Guard) Watch(f Filter, perSecond int) (*Watcher, error) {
	perSecond = min(max(perSecond, 1), MaxWatchRate)
	w := &Watcher{
		g: g, filter: f, allowed: newAllowance(time.Second/time.Duration(perSecond), perSecond),
		came: make([]entry, 0, 2*perSecond),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.journal.watchers) == maxWatchers {
		return nil, ErrTooManyWatchers
	}
	g.journal.watchers = append(g.journal.watchers, w)
	return w, nil
}

// Close ends the watch.
func (w *Watcher) Close() {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.g.journal.watchers = slices.DeleteFunc(w.g.journal.watchers, func(other *Watcher) bool { return other == w })
}

// note takes a refusal for the reader if it is wanted.
func (w *Watcher) note(c *Call, a *ask, d *Decision) {
	if !w.filter.matches(c, d) {
		return
	}
	if len(w.came) == cap(w.came) || !w.allowed.take(a.at) {
		w.skipped++
		return
	}
	w.came = w.came[:len(w.came)+1]
	w.came[len(w.came)-1].fill(c, a, d)
}

// Take returns what came since the last Take, oldest first, and how many more matched but were skipped.
func (w *Watcher) Take() (came []Refusal, skipped uint64) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	for i := range w.came {
		came = append(came, w.came[i].refusal(w.g))
	}
	skipped, w.skipped = w.skipped, 0
	w.came = w.came[:0]
	return came, skipped
}
