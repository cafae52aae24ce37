package guard

import (
	"hash/maphash"
	"maps"
	"strings"
	"time"
)

const (
	// shortFor is how long after the limit held a call back it counts as short: long against a call, short against a burst.
	shortFor = time.Second

	// A hint to retry lies between these. Below the first nothing is gained, beyond the second nothing can be foreseen.
	hintLeast = 10 * time.Millisecond
	hintMost  = 5 * time.Second

	// maxCallers bounds the table of callers, and maxCaller, in bytes, their names, which come from calls. Whoever does not fit shares one
	// of so many accounts with others.
	maxCallers    = 1000
	maxCaller     = 128
	sharedCallers = 64
)

// account counts the calls of one caller, or of some that share it. A shortage begins without savings: only what is admitted while the
// limit binds is counted, so that in calm nobody is looked up.
type account struct {
	recent window[attempts]
	inLine int           // retries that wait
	last   time.Duration // instant of the last look
}

// attempts are those of one second that were admitted.
type attempts struct{ first, retries uint32 }

// count counts an admitted call.
func (c *account) count(attempt int, at time.Duration) {
	if s := c.recent.at(at); attempt > 0 {
		s.retries++
	} else {
		s.first++
	}
}

// spare tells whether one more retry stays within a share of the first attempts. The only one in ten seconds always does: a tenth of a
// few calls is none.
func (c *account) spare(share float64, at time.Duration) bool {
	sum := attempts{retries: uint32(c.inLine)}
	for _, s := range c.recent.all(at) {
		sum.first += s.first
		sum.retries += s.retries
	}
	return sum.retries == 0 || float64(sum.retries+1) <= share*float64(sum.first)
}

// accounts is a bounded table. Which account those share that do not fit cannot be foretold, so that nobody can choose whose to spoil.
type accounts struct {
	byName map[string]*account
	shared [sharedCallers]account
	seed   maphash.Seed
	swept  time.Duration
}

func newAccounts() accounts { return accounts{byName: map[string]*account{}, seed: maphash.MakeSeed()} }

// find returns the account of a caller; "" is that of all who say nothing.
func (t *accounts) find(name string, at time.Duration) *account {
	c, ok := t.byName[name]
	if !ok {
		c = t.add(name, at)
	}
	c.last = at
	return c
}

func (t *accounts) add(name string, at time.Duration) *account {
	if len(t.byName) >= maxCallers {
		t.sweep(at)
	}
	if len(t.byName) >= maxCallers || len(name) > maxCaller {
		return &t.shared[maphash.String(t.seed, name)%sharedCallers]
	}
	c := new(account)
	t.byName[strings.Clone(name)] = c // not to hold on to the headers that it is a part of
	return c
}

// sweep forgets callers of whom nothing is counted any more.
func (t *accounts) sweep(at time.Duration) {
	if at-t.swept < shortFor {
		return
	}
	t.swept = at
	maps.DeleteFunc(t.byName, func(_ string, c *account) bool { return at-c.last >= windowLength*time.Second })
}

// shortLocked tells whether the limit binds.
func (g *Guard) shortLocked(at time.Duration) bool { return at-g.shortAt < shortFor }

// admittedLocked counts a call for the budgets of retries.
func (g *Guard) admittedLocked(c *Call, at time.Duration) {
	if f := g.flow.at(at); c.Attempt > 0 {
		f.retries++
	} else {
		f.first++
	}
	if g.shortLocked(at) {
		g.accounts.find(c.Tenant, at).count(c.Attempt, at)
	}
}

// spareLocked tells whether one more retry of a caller can be borne. All can while nothing is short; then those in line count, too.
func (g *Guard) spareLocked(tenant string, at time.Duration) bool {
	if !g.shortLocked(at) {
		return true
	}
	share := g.settings.RetryRatio
	first, retries := g.attemptsLocked(at)
	return float64(retries+1) <= share*float64(first) && g.accounts.find(tenant, at).spare(share, at)
}

// attemptsLocked returns the first attempts of all callers that were admitted over the last ten seconds, and the retries, those in line
// included.
func (g *Guard) attemptsLocked(at time.Duration) (first, retries int) {
	retries = g.retriesInLine
	for _, f := range g.flow.all(at) {
		first += int(f.first)
		retries += int(f.retries)
	}
	return first, retries
}

// waitsLocked counts a retry in line, and returns the account to take it off from when it leaves; nil for a first attempt.
func (g *Guard) waitsLocked(c *Call, at time.Duration) *account {
	if c.Attempt == 0 {
		return nil
	}
	g.retriesInLine++
	of := g.accounts.find(c.Tenant, at)
	of.inLine++
	return of
}

// leavesLocked takes a retry off the line, if of has one.
func (g *Guard) leavesLocked(of *account) {
	if of != nil {
		g.retriesInLine--
		of.inLine--
	}
}

// hintLocked returns when a call that finds no room now may find some: when those now waiting and in flight will be through, and after
// those who were told to come back before it. A full back-end ends a call in every pace, and of that the share of retries is what those who
// return may take; so each hint is that much later than the last, and they come back as fast as they are let in, however many are refused.
// The hint is spread over one to two times that. Of streams nobody knows when they end.
func (g *Guard) hintLocked(a *ask) time.Duration {
	wait := hintMost / 2
	if pace := g.paceLocked(a.at); pace > 0 && !a.stream {
		drain := time.Duration(min(pace*float64(g.line.Len()+g.unary), float64(wait)))
		gap := time.Duration(min(pace/g.settings.RetryRatio, float64(wait)))
		last := a.at + wait
		wait = max(drain, g.promised-a.at)
		g.promised = min(a.at+wait+gap, last)
	}
	wait = max(wait, hintLeast)
	return wait + time.Duration(g.dice.below(int64(wait)))
}

// pace is how long a full back-end needs for each call, in nanoseconds, as it was found last.
type pace struct {
	value float64
	next  time.Duration // when to find it anew
}

// paceEvery is how often the pace is found: often beside the second that it is taken over, rarely beside the refusals of a flood.
const paceEvery = time.Millisecond

// paceLocked returns the pace; 0 while nothing is known.
func (g *Guard) paceLocked(at time.Duration) float64 {
	if at >= g.pace.next {
		g.pace = pace{value: g.findPaceLocked(at), next: at + paceEvery}
	}
	return g.pace.value
}

// findPaceLocked finds the pace by Little's law: the mean time in flight over the calls that may be, of this second and the one before.
func (g *Guard) findPaceLocked(at time.Duration) float64 {
	g.cost.elapse(at)
	busy, ended := g.cost.recent.at(at).busy, g.flow.at(at).ended
	if before := at - time.Second; before >= 0 {
		busy += g.cost.recent.at(before).busy
		ended += g.flow.at(before).ended
	}
	if ended == 0 || g.limit <= 0 {
		return 0
	}
	return float64(busy) / float64(ended) / float64(g.limit)
}
