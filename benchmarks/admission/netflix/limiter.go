// Package netflix holds the concurrency limits of https://github.com/Netflix/concurrency-limits, written anew in Go after its Java
// sources: Gradient2, Vegas and AIMD with their published defaults, the window that its README puts before Gradient2, and the simple
// limiter around them, which refuses at once when the limit is reached.
//
// Outcomes are sorted in the way that serves it best. Its gRPC interceptors disagree: the server's takes an exceeded deadline for a drop
// and every other status, UNAVAILABLE too, for a good sample; the client's takes UNAVAILABLE for a drop and ignores deadlines. Here
// timeouts and push-back are drops, and other failures are ignored.
//
// What this package does not do: partitions, bypasses and blocking limiters. Nothing in it is safe for concurrent use.
package netflix

import "time"

// Outcome is how a call ended.
type Outcome int

// The outcomes.
const (
	Success Outcome = iota
	Dropped         // by a timeout, or pushed back
	Ignored         // tells nothing
)

// Law finds a limit from samples.
type Law interface {
	// Limit is the one in force, at least 1.
	Limit() int
	// Sample learns from a call that ended now after rtt, with so many in flight when it began, itself among them.
	Sample(now time.Time, rtt time.Duration, inFlight int, dropped bool)
}

// Limiter counts calls in flight against the limit of a law.
type Limiter struct {
	law      Law
	inFlight int
}

// New returns a limiter without calls.
func New(law Law) *Limiter { return &Limiter{law: law} }

// Limit is the one in force.
func (l *Limiter) Limit() int { return l.law.Limit() }

// Acquire takes a permit, if one is free.
func (l *Limiter) Acquire(now time.Time) (p Permit, ok bool) {
	if l.inFlight >= l.law.Limit() {
		return Permit{}, false
	}
	l.inFlight++
	return Permit{l, now, l.inFlight}, true
}

// Permit is one call's right to be in flight.
type Permit struct {
	of       *Limiter
	start    time.Time
	inFlight int
}

// Release gives it back, once, with what became of the call.
func (p Permit) Release(now time.Time, o Outcome) {
	p.of.inFlight--
	if o != Ignored {
		p.of.law.Sample(now, now.Sub(p.start), p.inFlight, o == Dropped)
	}
}
