package guard

import "time"

// Criticality says who is shed last and first. The zero value is Critical, the default.
type Criticality int8

// From the last to be shed to the first.
const (
	CriticalPlus  Criticality = -1
	Critical      Criticality = 0
	SheddablePlus Criticality = 1
	Sheddable     Criticality = 2
)

// String returns the name on the wire: CRITICAL_PLUS, CRITICAL, SHEDDABLE_PLUS or SHEDDABLE; "" for a value that is none of them.
func (c Criticality) String() string {
	switch c {
	case CriticalPlus:
		return "CRITICAL_PLUS"
	case Critical:
		return "CRITICAL"
	case SheddablePlus:
		return "SHEDDABLE_PLUS"
	case Sheddable:
		return "SHEDDABLE"
	}
	return ""
}

// ParseCriticality returns the criticality of a wire name; ok is false for any other text, and c then Critical.
func ParseCriticality(s string) (c Criticality, ok bool) {
	for c := CriticalPlus; c <= Sheddable; c++ {
		if c.String() == s {
			return c, true
		}
	}
	return Critical, false
}

// Call is what a decision is made on: everything known of a call before its message is read.
type Call struct {
	Method      string // full method, "/package.Service/Method"
	Feature     string // the feature it belongs to; "" is none
	Tenant      string // whose call it is; "" is nobody's in particular
	Criticality Criticality
	Cost        int       // units of the limit that it takes, 1 to MostCost; what is outside is taken into these bounds
	Attempt     int       // how often it was tried before; 0 is the first attempt
	Deadline    time.Time // when its caller gives up; zero is never
	Stream      bool      // the configuration says that its method streams
	Trace       Trace     // the zero value is none
}

// MostCost is the highest cost of a call: what takes a thousand times as much as another is no call of the same service any more.
const MostCost = 1000

// Trace is the trace that a call belongs to.
type Trace struct {
	ID      [16]byte // all zero is none
	Sampled bool     // somebody keeps its spans
}

// Outcome is what the back-end's answer tells about the back-end.
type Outcome uint8

const (
	// Ignored tells nothing: the caller cancelled, or the call never reached the back-end. It is the zero value, so that a forgotten
	// outcome teaches nothing.
	Ignored Outcome = iota
	// Success is any answer that blames at most the request.
	Success
	// Overload is a time-out or a push-back: a failure for the breaker, a signal to shrink for the limit.
	Overload
	// Failure is a fault: a failure for the breaker, no sample for the limit.
	Failure
	// Missing is a Success that says that there is no such method: nothing is learned of that, whose name its caller may have invented.
	Missing
	// Abandoned tells as little as Ignored, but the back-end had the call when its caller left, and may work on.
	Abandoned
)
