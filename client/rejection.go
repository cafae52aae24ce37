package client

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// Reason says why the guard refused a call. As an error it is a target for errors.Is: errors.Is(err, client.FeatureOff).
type Reason string

// The reasons. The set is closed and append-only; a refusal for a reason that this version does not know is no Rejection, only a status.
const (
	// FeatureOff: an operator switched the feature off. Metadata: flag, why, who, until.
	FeatureOff Reason = "FEATURE_OFF"
	// FeatureDimmed: an operator dimmed the feature and this call is not among those that pass. Metadata: flag, percent, why, who, until.
	FeatureDimmed Reason = "FEATURE_DIMMED"
	// DeadlineUnreachable: the call could not have been answered in the time it had left.
	DeadlineUnreachable Reason = "DEADLINE_UNREACHABLE"
	// BreakerOpen: the back-end is failing and is left alone for a while.
	BreakerOpen Reason = "BREAKER_OPEN"
	// RetryBudgetExhausted: the call is a retry, and the back-end has no room for more of them.
	RetryBudgetExhausted Reason = "RETRY_BUDGET_EXHAUSTED"
	// LimitReached: the back-end is full and so is the line before it.
	LimitReached Reason = "LIMIT_REACHED"
	// QueueTimeout: the back-end is full and the call waited in vain.
	QueueTimeout Reason = "QUEUE_TIMEOUT"
	// BackendUnreachable: the guard can not reach the back-end.
	BackendUnreachable Reason = "BACKEND_UNREACHABLE"
	// Draining: this guard is about to stop.
	Draining Reason = "DRAINING"
	// Canceled: the caller went away while its call waited; seldom seen, since nobody is there any more.
	Canceled Reason = "CANCELED"
)

// Error returns the name of the reason.
func (r Reason) Error() string { return string(r) }

// Rejection is a refusal by the guard: the back-end never had the call. It is an error, and a gRPC status like the one that came.
type Rejection struct {
	Reason     Reason
	Code       codes.Code
	Message    string
	RetryAfter time.Duration // when a retry may help; negative: it will not
	// Metadata holds the variables of the message, as far as they are known: backend, method, flag, feature, why, who, until (RFC 3339),
	// percent, revision, limit, in_flight, wait, attempt, breaker, retry_after.
	Metadata map[string]string

	status *status.Status
}

// Error returns the reason and what the guard said, for logs and people.
func (r *Rejection) Error() string {
	return fmt.Sprintf("refused by the guard: %s: %s", r.Reason, r.Message)
}

// GRPCStatus returns the refusal as the status it came as.
func (r *Rejection) GRPCStatus() *status.Status { return r.status }

// Is tells whether target is the reason.
func (r *Rejection) Is(target error) bool { return target == error(r.Reason) }

// Rejected returns the refusal that err is or wraps, or false if err comes from elsewhere. It also recognises the errors of connections
// that were not made by this package.
func Rejected(err error) (*Rejection, bool) {
	if err == nil {
		return nil, false
	}
	if r, ok := errors.AsType[*Rejection](err); ok {
		return r, true
	}
	st, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	return recognize(st)
}

// recognize returns the refusal that st is.
func recognize(st *status.Status) (*Rejection, bool) {
	r, ok := grpcguard.Recognize(st)
	if !ok {
		return nil, false
	}
	return &Rejection{
		Reason: Reason(grpcguard.ReasonName(r.Reason)), Code: r.Code, Message: r.Message,
		RetryAfter: r.RetryAfter, Metadata: r.Metadata, status: st,
	}, true
}

// refusal returns what the guard would answer to a call of a feature in this position, which is off, or dimmed and did not draw the call.
func (p *position) refusal(feature string) *Rejection {
	percent := math.Round(1e5*float64(p.share)/everyCall) / 1e3 // Flags know thousandths.
	f := guard.Feature{Name: feature, Percent: percent, Why: p.why, Who: p.who, Until: p.until, Revision: p.revision}
	d := guard.Decision{Reason: guard.FeatureOff, RetryAfter: grpcguard.Never, Feature: f}
	if p.share > 0 {
		d.Reason = guard.FeatureDimmed
	}
	st, _ := grpcguard.Refusal(d, guard.Call{Feature: feature}, "")
	r, _ := recognize(st)
	return r
}

// UnreachableError says that nobody answered at the guard's address. It is an error, and the gRPC status that gRPC made of it.
type UnreachableError struct {
	// Address is the guard's, as it was dialled.
	Address string
	// Sent tells that the call was on its way when the connection broke: the back-end may or may not have carried it out.
	Sent bool
	// Err is gRPC's own error.
	Err error
	// Direct is why the call did not get through past the guard either; nil without WithDirect.
	Direct error
}

// Error names the guard and the cause.
func (e *UnreachableError) Error() string {
	if e.Direct == nil {
		return fmt.Sprintf("the guard at %s %s", e.Address, e.what())
	}
	past := *e
	past.Sent = false // Not by way of the guard.
	return fmt.Sprintf("the guard at %s %s; %v", e.Address, past.what(), e.Direct)
}

// what tells what happened to the call, and gRPC's reason.
func (e *UnreachableError) what() string {
	what := "is unreachable"
	if e.Sent {
		what = "went away before it answered"
	}
	return what + ": " + status.Convert(e.Err).Message()
}

// Unwrap returns gRPC's own error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// GRPCStatus returns gRPC's code with the clearer message.
func (e *UnreachableError) GRPCStatus() *status.Status {
	return status.New(status.Code(e.Err), e.Error())
}
