package grpcguard_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// contract is the rejection contract, written down a second time.
var contract = map[guard.Reason]struct {
	name  string
	code  codes.Code
	retry bool
}{
	guard.FeatureOff:           {"FEATURE_OFF", codes.FailedPrecondition, false},
	guard.FeatureDimmed:        {"FEATURE_DIMMED", codes.FailedPrecondition, false},
	guard.DeadlineUnreachable:  {"DEADLINE_UNREACHABLE", codes.DeadlineExceeded, false},
	guard.BreakerOpen:          {"BREAKER_OPEN", codes.Unavailable, true},
	guard.RetryBudgetExhausted: {"RETRY_BUDGET_EXHAUSTED", codes.ResourceExhausted, false},
	guard.LimitReached:         {"LIMIT_REACHED", codes.ResourceExhausted, true},
	guard.QueueTimeout:         {"QUEUE_TIMEOUT", codes.ResourceExhausted, true},
	guard.BackendUnreachable:   {"BACKEND_UNREACHABLE", codes.Unavailable, true},
	guard.Draining:             {"DRAINING", codes.Unavailable, true},
	guard.Canceled:             {"CANCELED", codes.Canceled, false},
}

func TestEveryReasonIsInTheTableAndInTheContract(t *testing.T) {
	for r := guard.FeatureOff; r <= guard.Canceled; r++ {
		want, ok := contract[r]
		if !ok {
			t.Fatalf("reason %d is not in the contract", r)
		}
		if got := grpcguard.ReasonName(r); got != want.name {
			t.Errorf("ReasonName(%d) = %q, want %q", r, got, want.name)
		}
		if got := grpcguard.Code(r); got != want.code {
			t.Errorf("Code(%s) = %v, want %v", want.name, got, want.code)
		}
		if got, ok := grpcguard.ReasonOf(want.name); got != r || !ok {
			t.Errorf("ReasonOf(%q) = %d, %v, want %d", want.name, got, ok, r)
		}
	}
	if past := guard.Canceled + 1; grpcguard.ReasonName(past) != "" || grpcguard.Code(past) != codes.Internal {
		t.Errorf("a reason past the last is %q, %v; a new reason is missing from the contract",
			grpcguard.ReasonName(past), grpcguard.Code(past))
	}
}

func TestNoReasonHasNoName(t *testing.T) {
	for _, name := range []string{"", "NONE", "feature_off", "FEATURE_OFF "} {
		if r, ok := grpcguard.ReasonOf(name); ok {
			t.Errorf("ReasonOf(%q) = %d, want none", name, r)
		}
	}
	if got := grpcguard.Code(guard.None); got != codes.OK {
		t.Errorf("Code(None) = %v, want OK", got)
	}
}
