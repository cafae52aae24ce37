package guard

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// What the journal keeps. A human who asks comes half a minute late at best; an incident begins with its most telling refusals.
const (
	// journalSize is how many refusals each of its two rings holds.
	journalSize = 4096
	// journalBurst is how many refusals in a row are recorded whole.
	journalBurst = 1024
	// journalEvery is how often more are recorded after that: so none is overwritten before (4096-1024)/100 s, half a minute.
	journalEvery = 10 * time.Millisecond
	// journalFirst is how long after one refusal of a method for a reason the next such counts as news.
	journalFirst = time.Second
	// maxTenant bounds what is kept of the name of a tenant, in bytes.
	maxTenant = 128
)

// Refusal is one call that was refused, or in mode observe would have been, with the figures that it was decided on.
type Refusal struct {
	Time     time.Time
	Call     Call // without its deadline; Method and Feature are "other" beyond the bounds of their tables
	Decision Decision
}

// Observed tells whether mode observe let the call pass.
func (r Refusal) Observed() bool { return r.Decision.Admitted }

// entry is a Refusal as it is kept: it allocates nothing and holds on to no header of its call.
type entry struct {
	number      uint64 // of all refusals, in the order in which they came
	at          time.Duration
	d           Decision
	method      *method
	feature     *feature
	tenant      [maxTenant]byte
	tenantSize  uint8
	criticality Criticality
	attempt     int
	stream      bool
	trace       Trace
}

// fill writes an entry in place.
func (e *entry) fill(c *Call, a *ask, d *Decision) {
	e.at, e.d, e.method, e.feature = a.at, *d, a.method, a.feature
	e.tenantSize = uint8(copy(e.tenant[:], c.Tenant))
	e.criticality, e.attempt, e.stream, e.trace = c.Criticality, c.Attempt, a.stream, c.Trace
}

// refusal is what an entry tells.
func (e *entry) refusal(g *Guard) Refusal {
	return Refusal{Time: g.now(e.at), Decision: e.d, Call: Call{
		Method: e.method.name, Feature: e.featureName(), Tenant: e.tenantName(), Criticality: e.criticality, Attempt: e.attempt,
		Stream: e.stream, Trace: e.trace,
	}}
}

// featureName returns the name of the feature, "" without one.
func (e *entry) featureName() string {
	if e.feature == nil {
		return ""
	}
	return e.feature.name
}

// tenantName returns what was kept of the tenant's name.
func (e *entry) tenantName() string { return strings.ToValidUTF8(string(e.tenant[:e.tenantSize]), "") }

// journal remembers recent refusals in two rings, so that a flood does not wash away what is asked for most: chosen has those whose trace
// is sampled, and the first of a method for a reason within a second; common has the rest. Each records the first journalBurst of a
// burst, then one every journalEvery. What finds no allowance is only counted.
type journal struct {
	chosen, common ring
	count          uint64
	unrecorded     uint64
	watchers       []*Watcher
}

func newJournal() journal {
	allowed := newAllowance(journalEvery, journalBurst)
	return journal{chosen: ring{allowed: allowed}, common: ring{allowed: allowed}}
}

// note takes one refusal in.
func (j *journal) note(c *Call, a *ask, d *Decision) {
	for _, w := range j.watchers {
		w.note(c, a, d)
	}
	j.count++
	e := j.room(c, a, d.Reason)
	if e == nil {
		j.unrecorded++
		return
	}
	e.fill(c, a, d)
	e.number = j.count
}

// room returns where the refusal is to be recorded, or nil.
func (j *journal) room(c *Call, a *ask, r Reason) *entry {
	if c.Trace.Sampled || a.method.news(r, a.at) {
		if e := j.chosen.next(a.at); e != nil {
			return e
		}
	}
	return j.common.next(a.at)
}

// news tells whether this is the first refusal of the method for a reason within journalFirst.
func (m *method) news(r Reason, at time.Duration) bool {
	if last := &m.noted[r]; *last == 0 || at-*last >= journalFirst {
		*last = max(at, 1)
		return true
	}
	return false
}

// Records tells what the journal has.
type Records struct {
	Kept       int
	Unrecorded uint64    // refusals since the start that were only counted
	Since      time.Time // of the oldest record; zero without any
}

// Records returns what the journal of refusals has at the moment.
func (g *Guard) Records() Records {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := Records{Unrecorded: g.journal.unrecorded}
	for _, ring := range g.journal.rings() {
		oldest := ring.oldest()
		if r.Kept += ring.written - oldest; oldest == ring.written {
			continue
		}
		if since := g.now(ring.entry(oldest).at); r.Since.IsZero() || since.Before(r.Since) {
			r.Since = since
		}
	}
	return r
}

// Refusals returns the newest of the recorded refusals that match, newest first, at most n. It holds up calls for up to a tenth of a
// millisecond: it is for people who ask.
func (g *Guard) Refusals(f Filter, n int) []Refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	var found []*entry
	for _, ring := range g.journal.rings() {
		found = ring.newest(found, n, &f)
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(b.number, a.number) })
	list := make([]Refusal, min(n, len(found)))
	for i := range list {
		list[i] = found[i].refusal(g)
	}
	return list
}

func (j *journal) rings() [2]*ring { return [...]*ring{&j.chosen, &j.common} }

// Report takes in a refusal that the data path has decided on by itself, for the reason BackendUnreachable.
func (g *Guard) Report(c Call, d Decision) {
	a := ask{roll: unthrown}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.identifyLocked(&c, &a, g.clock())
	g.recordLocked(&c, &a, &d)
}

// recordLocked adds to a refusal what only refusals tell, and takes it into the journal.
func (g *Guard) recordLocked(c *Call, a *ask, d *Decision) {
	d.Queued, d.Threshold = g.queuedLocked(), g.classes.threshold()
	g.journal.note(c, a, d)
}

// observeLocked marks a call that mode observe let pass with the reason why it would have been refused, and takes it into the journal.
func (g *Guard) observeLocked(c *Call, a *ask, d *Decision, r Reason) {
	d.Reason = r
	g.recordLocked(c, a, d)
}
