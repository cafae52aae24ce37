package guard

import (
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// Reason says why a call was refused. The set is closed and append-only: it crosses the wire by name.
type Reason uint8

// The reasons, in the order of the checks.
const (
	None Reason = iota // not refused
	FeatureOff
	FeatureDimmed
	DeadlineUnreachable
	BreakerOpen
	RetryBudgetExhausted
	LimitReached
	QueueTimeout
	BackendUnreachable // said by the data path, never by Admit
	Draining
	Canceled // the caller went away while it waited; nobody is there to be told
)

// never is the RetryAfter of a refusal that no retry changes.
const never time.Duration = -1

// Decision is the answer to one call, with the figures it was made on.
type Decision struct {
	Admitted bool
	Reason   Reason        // why refused; in mode observe why it would have been
	Wait     time.Duration // time spent in the queue
	// RetryAfter is when a retry may help; negative when it never does. Zero for an admitted call.
	RetryAfter time.Duration
	Limit      int // at the moment of the decision
	InFlight   int // at the moment of the decision, this call not counted
	Queued     int // in line at the moment of a refusal
	// Threshold is the least critical class of which a call was among the last 64 admitted; before so many the lowest. Of a refusal only.
	Threshold Criticality
	Breaker   breaker.State
	Stream    bool    // it was taken for a stream: so the configuration says, or its method has shown
	Feature   Feature // the setting of the call's feature; zero without a flag
	// First tells that this is the first call which Feature, as it is now set, refused: the one to link to the operator's command.
	First bool
}
