package guard

import (
	"math"
	"time"
)

const (
	// recovery is the time in which an endpoint that failed regains most of its trust, and thereby a few calls to show itself with.
	recovery = 10 * time.Second
	// fullTrust is near enough to 1.
	fullTrust = 0.99
	// latencyWeight is what a new sample counts in the mean. A twentieth: one in a hundred calls that takes ten times as long moves the mean
	// by less than half, and an endpoint that became ten times slower shows after five calls.
	latencyWeight = 0.05
	// probeWeight is what the probe of a suspect endpoint counts: it has few calls to show with that it is well again.
	probeWeight = 0.2
)

// health is what the calls at an endpoint have told of it.
type health struct {
	trust   float64 // as of the instant trusted
	trusted time.Duration
	latency float64 // mean of good unary calls, in seconds, the last ones counting most
	samples int     // of latency; counted up to a few
}

// well is the health of an endpoint that nothing is known of.
func well() health { return health{trust: 1} }

// trustAt returns how far the endpoint is trusted.
func (h *health) trustAt(at time.Duration) float64 {
	if h.trust == 1 {
		return 1
	}
	return 1 - (1-h.trust)*math.Exp(-float64(at-h.trusted)/float64(recovery))
}

// learn takes in how a call ended.
func (h *health) learn(o Outcome, at time.Duration) {
	switch o {
	case Success:
		if h.trust == 1 {
			return
		}
		t := h.trustAt(at)
		if t += (1 - t) / 10; t > fullTrust {
			t = 1
		}
		h.trust, h.trusted = t, at
	case Overload, Failure:
		h.trust, h.trusted = h.trustAt(at)/2, at
	}
}

// time takes in how long a good unary call took, which counts so much. The first samples count alike.
func (h *health) time(took time.Duration, weight float64) {
	h.samples = min(h.samples+1, 1/latencyWeight)
	h.latency += max(weight, 1/float64(h.samples)) * (took.Seconds() - h.latency)
}

// known tells whether enough calls have told how long they take.
func (h *health) known() bool { return h.samples >= minSamples }

// load compares endpoints: calls there, weighed up by mistrust, and how long each of them takes. An endpoint that fails fast has nothing in
// flight; without the mistrust it would draw all calls to itself.
func (e *Endpoint) load(at time.Duration) float64 {
	t := max(e.trustAt(at), 0.01)
	return float64(e.unary+e.work+1) / (t * t)
}

// lighter tells whether e is to have the next call rather than f. Latencies count when both are known.
func (e *Endpoint) lighter(f *Endpoint, at time.Duration) bool {
	le, lf := e.load(at), f.load(at)
	if e.known() && f.known() {
		le, lf = le*e.latency, lf*f.latency
	}
	return le < lf
}
