package grpcguard

import (
	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/guard"
)

// retry says whether a retry can help, and when.
type retry uint8

const (
	never retry = iota
	later       // after Decision.RetryAfter
	atOnce
)

// row is what the wire says of one reason.
type row struct {
	name  string
	code  codes.Code
	retry retry
}

// table is the one place that joins reasons, names, codes and retries, by guard.Reason. It is never written to.
var table = [...]row{
	guard.None:                 {"", codes.OK, never},
	guard.FeatureOff:           {"FEATURE_OFF", codes.FailedPrecondition, never},
	guard.FeatureDimmed:        {"FEATURE_DIMMED", codes.FailedPrecondition, never},
	guard.DeadlineUnreachable:  {"DEADLINE_UNREACHABLE", codes.DeadlineExceeded, never},
	guard.BreakerOpen:          {"BREAKER_OPEN", codes.Unavailable, later},
	guard.RetryBudgetExhausted: {"RETRY_BUDGET_EXHAUSTED", codes.ResourceExhausted, never},
	guard.LimitReached:         {"LIMIT_REACHED", codes.ResourceExhausted, later},
	guard.QueueTimeout:         {"QUEUE_TIMEOUT", codes.ResourceExhausted, later},
	guard.BackendUnreachable:   {"BACKEND_UNREACHABLE", codes.Unavailable, later},
	guard.Draining:             {"DRAINING", codes.Unavailable, atOnce},
	guard.Canceled:             {"CANCELED", codes.Canceled, never},
}

// rowOf returns the row of r; a reason that the table does not know is a bug, told as INTERNAL.
func rowOf(r guard.Reason) row {
	if int(r) < len(table) {
		return table[r]
	}
	return row{code: codes.Internal}
}

// Code returns the status code of a refusal for reason r: OK for None, INTERNAL for a reason that does not exist.
func Code(r guard.Reason) codes.Code { return rowOf(r).code }

// ReasonName returns the name of r on the wire, as FEATURE_OFF; "" for None and for a reason that does not exist.
func ReasonName(r guard.Reason) string { return rowOf(r).name }

// ReasonOf is the inverse of ReasonName; ok is false for a name that is no reason.
func ReasonOf(name string) (r guard.Reason, ok bool) {
	if name == "" {
		return guard.None, false
	}
	for i, t := range table {
		if t.name == name {
			return guard.Reason(i), true
		}
	}
	return guard.None, false
}
