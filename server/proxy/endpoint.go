package proxy

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
)

// address is one address of a target, connected to, and what its calls have told of it.
type address struct {
	endpoint *relay.Endpoint
	where    string

	mu       sync.Mutex
	inFlight int
	trust    float64 // 1 is full; falls with failures, returns with successes and with time
	trusted  time.Time
	latency  float64 // of good unary calls, in seconds, the last ones counting most; 0 is not known
	retired  bool    // its name does not lead there any more; it is closed when its last call has ended
}

// recovery is the time in which an address that failed regains most of its trust, and thereby a few calls to show itself with.
const recovery = 10 * time.Second

// trustLocked returns how far the address is trusted now.
func (a *address) trustLocked(now time.Time) float64 {
	if a.trust == 1 {
		return 1
	}
	return 1 - (1-a.trust)*math.Exp(-float64(now.Sub(a.trusted))/float64(recovery))
}

// load compares addresses: calls in flight, weighed up by mistrust, and how long each of them takes. An address that fails fast has nothing
// in flight; without the mistrust it would draw all calls to itself.
func (a *address) load(now time.Time) (load, latency float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := max(a.trustLocked(now), 0.01)
	return float64(a.inFlight+1) / (t * t), a.latency
}

// lighter tells whether a is to have the next call rather than b. Latencies count when both are known.
func (a *address) lighter(b *address, now time.Time) bool {
	la, ta := a.load(now)
	lb, tb := b.load(now)
	if ta > 0 && tb > 0 {
		la, lb = la*ta, lb*tb
	}
	return la < lb
}

func (a *address) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight++
}

// latencyWeight is what a new sample counts in the mean.
const latencyWeight = 0.1

// end takes the outcome of a call that begin has counted, and how long it took if that tells anything.
func (a *address) end(o guard.Outcome, took time.Duration, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	switch o {
	case guard.Success:
		t := a.trustLocked(now)
		a.trust, a.trusted = t+(1-t)/10, now
	case guard.Overload, guard.Failure:
		a.trust, a.trusted = a.trustLocked(now)/2, now
	}
	switch {
	case took <= 0:
	case a.latency == 0:
		a.latency = took.Seconds()
	default:
		a.latency += latencyWeight * (took.Seconds() - a.latency)
	}
	a.closeLocked()
}

// retire closes the address when its last call has ended.
func (a *address) retire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retired = true
	a.closeLocked()
}

func (a *address) closeLocked() {
	if a.retired && a.inFlight == 0 {
		a.retired = false
		go a.endpoint.Close() // Ends at once: no call is left.
	}
}

// endpoints are all addresses of one back-end.
type endpoints struct {
	targets []*target
}

// pick returns the less loaded of two random addresses that are connected, else one that is being connected to, where the call waits. Nil
// says that none can be reached. Whatever else there is comes before the one that was tried.
func (es *endpoints) pick(tried *address) *address {
	var ready, hope sample
	for _, t := range es.targets {
		for _, a := range t.addresses() {
			switch s := a.endpoint.State(); {
			case s == relay.Ready && a != tried:
				ready.add(a)
			case s == relay.Ready || s == relay.Connecting:
				hope.add(a)
			}
		}
	}
	if ready.n > 0 {
		return ready.lighter()
	}
	return hope.a
}

// sample is two at random out of an unknown number.
type sample struct {
	a, b *address
	n    int
}

func (s *sample) add(x *address) {
	s.n++
	switch i := rand.IntN(s.n); {
	case s.n == 1:
		s.a = x
	case s.n == 2:
		s.b = x
	case i == 0:
		s.a = x
	case i == 1:
		s.b = x
	}
}

func (s *sample) lighter() *address {
	if s.b == nil {
		return s.a
	}
	if rand.IntN(2) == 0 { // Of two that are equal, either.
		s.a, s.b = s.b, s.a
	}
	if s.b.lighter(s.a, time.Now()) {
		return s.b
	}
	return s.a
}

func (es *endpoints) close() {
	for _, t := range es.targets {
		t.close()
	}
}
