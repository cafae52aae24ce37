package grpcguard

import (
	"strconv"

	"github.com/capguard/capguard/internal/guard"
)

// appendMessage says what happened and what to do; all its variables are in v.
func (v *variables) appendMessage(b []byte, r guard.Reason) []byte {
	switch r {
	case guard.FeatureOff:
		b = quoted(b, "feature ", v[flag], " is switched off")
		return append(v.appendCause(b), "; use the fallback, do not retry"...)
	case guard.FeatureDimmed:
		b = joined(quoted(b, "feature ", v[flag], " is dimmed to "), v[percent], " %")
		return append(v.appendCause(b), ", and this call is not among those that pass; use the fallback, do not retry"...)
	case guard.DeadlineUnreachable:
		b = joined(quoted(b, "back-end ", v[backend], " can not answer "), v[method], " before the deadline")
		return joined(v.appendFigures(b), ", waited ", v[wait], "); do not retry, or allow more time")
	case guard.BreakerOpen:
		b = quoted(b, "back-end ", v[backend], " is failing and its breaker is ")
		return v.appendAdvice(joined(b, v[breaker], "; "))
	case guard.RetryBudgetExhausted:
		b = v.appendFigures(quoted(b, "back-end ", v[backend], " is short of capacity"))
		return joined(b, ") and this is a retry (attempt ", v[attempt], "); do not retry")
	case guard.LimitReached:
		if v[limit] == "0" {
			return v.appendAdvice(quoted(b, "back-end ", v[backend], " takes no such call: the limit is 0; "))
		}
		b = v.appendFigures(quoted(b, "back-end ", v[backend], " is full"))
		return v.appendAdvice(append(v.appendThreshold(b), ") and so is the line before it; "...))
	case guard.QueueTimeout:
		b = v.appendFigures(quoted(b, "back-end ", v[backend], " is full"))
		return v.appendAdvice(joined(v.appendThreshold(b), ") and the call waited ", v[wait], " in vain; "))
	case guard.BackendUnreachable:
		return v.appendAdvice(quoted(b, "no endpoint of back-end ", v[backend], " can be reached; "))
	case guard.Draining:
		return quoted(b, "the guard of back-end ", v[backend], " is shutting down; try again at once, elsewhere")
	}
	b = joined(b, "the caller of ", v[method], " gave up while it waited for ")
	return quoted(b, "back-end ", v[backend], "")
}

// quoted appends s in quotes between two texts.
func quoted(b []byte, before, s, after string) []byte {
	return append(strconv.AppendQuote(append(b, before...), s), after...)
}

func joined(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = append(b, s...)
	}
	return b
}

// appendFigures begins the bracket of what the decision was made on.
func (v *variables) appendFigures(b []byte) []byte {
	return joined(b, " (limit ", v[limit], ", in flight ", v[inFlight], ", queued ", v[queued])
}

// appendThreshold says how critical a call has to be to get through.
func (v *variables) appendThreshold(b []byte) []byte {
	return joined(b, ", down to ", v[threshold], " admitted")
}

// appendCause says what is known of the operator's command, to be put after what it did.
func (v *variables) appendCause(b []byte) []byte {
	if v[who] != "" {
		b = joined(b, " by ", v[who])
	}
	if v[until] != "" {
		b = joined(b, " until ", v[until])
	}
	if v[why] != "" {
		b = joined(b, " (", v[why], ")")
	}
	return b
}

// appendAdvice says when to try again.
func (v *variables) appendAdvice(b []byte) []byte {
	if v[retryAfter] == "" {
		return append(b, "do not retry"...)
	}
	return joined(b, "try again in ", v[retryAfter])
}
