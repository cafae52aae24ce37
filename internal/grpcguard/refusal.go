package grpcguard

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/internal/guard"
)

// Bounds of the texts in a refusal, in characters.
const (
	maxText = 256 // why, method
	maxName = 128 // names of people, features, back-ends
)

// minRetry is the soonest retry of a call that met a lack of capacity: at once would be the same load again.
const minRetry = 10 * time.Millisecond

// Never is the RetryAfter of a refusal after which a retry does not help.
const Never time.Duration = -1

// Refusal returns the status, with all details, and the trailers that tell the caller of c that back-end refused it for d.Reason. Send it
// without headers before it: only a Trailers-Only answer lets gRPC clients see the push-back.
//
// The ErrorInfo's metadata holds backend, method and, where the reason has them, flag, feature, why, who, until (RFC 3339, UTC), percent,
// revision, limit, in_flight, wait, attempt, breaker, retry_after.
func Refusal(d guard.Decision, c guard.Call, backend string) (*status.Status, metadata.MD) {
	t := rowOf(d.Reason)
	if t.name == "" {
		return status.New(codes.Internal, "capguard refused this call without a reason; please report this bug"), pushback(Never)
	}
	after := t.after(d)
	v := variables(d, c, backend, after)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: t.name, Domain: Domain, Metadata: v}}
	if after >= 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	st := status.New(t.code, message(d.Reason, v))
	if full, err := st.WithDetails(details...); err == nil { // Only a text that is not UTF-8 could fail, and printable lets none pass.
		st = full
	}
	return st, pushback(after)
}

// after returns when a retry of d can help, or Never.
func (t row) after(d guard.Decision) time.Duration {
	switch {
	case t.retry == atOnce:
		return 0
	case t.retry == never || d.RetryAfter < 0:
		return Never
	}
	return max(d.RetryAfter, minRetry)
}

// pushback returns the trailer of a retry after d, in whole milliseconds, rounded up.
func pushback(d time.Duration) metadata.MD {
	ms := int64(-1)
	if d >= 0 {
		ms = int64((d + time.Millisecond - 1) / time.Millisecond)
	}
	return metadata.MD{PushbackKey: {strconv.FormatInt(ms, 10)}}
}

// variables returns what the message of a refusal mentions, and what every refusal tells.
func variables(d guard.Decision, c guard.Call, backend string, after time.Duration) map[string]string {
	v := map[string]string{"backend": printable(backend, maxName), "method": printable(c.Method, maxText)}
	if c.Feature != "" {
		v["feature"] = printable(c.Feature, maxName)
	}
	if after >= 0 {
		v["retry_after"] = after.Round(time.Millisecond).String()
	}
	switch d.Reason {
	case guard.FeatureOff, guard.FeatureDimmed:
		flagVariables(v, d.Feature, c)
	case guard.LimitReached, guard.QueueTimeout, guard.RetryBudgetExhausted, guard.DeadlineUnreachable:
		v["limit"], v["in_flight"] = strconv.Itoa(d.Limit), strconv.Itoa(d.InFlight)
		v["wait"] = d.Wait.Round(time.Microsecond).String()
		v["attempt"] = strconv.Itoa(c.Attempt)
	case guard.BreakerOpen:
		v["breaker"] = d.Breaker.String()
	}
	return v
}

// flagVariables adds what the flag f says.
func flagVariables(v map[string]string, f guard.Feature, c guard.Call) {
	v["flag"] = printable(cmp.Or(f.Name, c.Feature), maxName)
	v["percent"] = strconv.FormatFloat(f.Percent, 'f', -1, 64)
	v["revision"] = strconv.FormatInt(f.Revision, 10)
	if f.Why != "" {
		v["why"] = printable(f.Why, maxText)
	}
	if f.Who != "" {
		v["who"] = printable(f.Who, maxName)
	}
	if !f.Until.IsZero() {
		v["until"] = f.Until.UTC().Format(time.RFC3339)
	}
}

// message says what happened and what to do; all its variables are in v.
func message(r guard.Reason, v map[string]string) string {
	switch r {
	case guard.FeatureOff:
		return fmt.Sprintf("feature %q is switched off%s; use the fallback, do not retry", v["flag"], because(v))
	case guard.FeatureDimmed:
		return fmt.Sprintf("feature %q is dimmed to %s %%%s, and this call is not among those that pass; use the fallback, do not retry",
			v["flag"], v["percent"], because(v))
	case guard.DeadlineUnreachable:
		return fmt.Sprintf("back-end %q can not answer %s before the deadline (limit %s, in flight %s, waited %s); "+
			"do not retry, or allow more time", v["backend"], v["method"], v["limit"], v["in_flight"], v["wait"])
	case guard.BreakerOpen:
		return fmt.Sprintf("back-end %q is failing and its breaker is %s; %s", v["backend"], v["breaker"], advice(v))
	case guard.RetryBudgetExhausted:
		return fmt.Sprintf("back-end %q is short of capacity (limit %s, in flight %s) and this is a retry (attempt %s); do not retry",
			v["backend"], v["limit"], v["in_flight"], v["attempt"])
	case guard.LimitReached:
		return fmt.Sprintf("back-end %q is full (limit %s, in flight %s) and so is the line before it; %s",
			v["backend"], v["limit"], v["in_flight"], advice(v))
	case guard.QueueTimeout:
		return fmt.Sprintf("back-end %q is full (limit %s, in flight %s) and the call waited %s in vain; %s",
			v["backend"], v["limit"], v["in_flight"], v["wait"], advice(v))
	case guard.BackendUnreachable:
		return fmt.Sprintf("no endpoint of back-end %q can be reached; %s", v["backend"], advice(v))
	case guard.Draining:
		return fmt.Sprintf("the guard of back-end %q is shutting down; try again at once, elsewhere", v["backend"])
	}
	return fmt.Sprintf("the caller of %s gave up while it waited for back-end %q", v["method"], v["backend"])
}

// because returns what is known of the operator's command, to be put after what it did.
func because(v map[string]string) string {
	var b strings.Builder
	if who := v["who"]; who != "" {
		b.WriteString(" by " + who)
	}
	if until := v["until"]; until != "" {
		b.WriteString(" until " + until)
	}
	if why := v["why"]; why != "" {
		b.WriteString(" (" + why + ")")
	}
	return b.String()
}

// advice says when to try again.
func advice(v map[string]string) string {
	if after := v["retry_after"]; after != "" {
		return "try again in " + after
	}
	return "do not retry"
}

// printable returns s without anything that a terminal or a log would stumble over, cut to n characters.
func printable(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n--; n < 0 {
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}
