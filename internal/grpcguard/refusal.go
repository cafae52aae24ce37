package grpcguard

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/capguard/capguard/internal/guard"
)

// minRetry is the soonest retry of a call that met a lack of capacity: at once would be the same load again.
const minRetry = 10 * time.Millisecond

// Never is the RetryAfter of a refusal after which a retry does not help.
const Never time.Duration = -1

// unfounded is told to the caller of a call that was refused for no reason at all.
const unfounded = "capguard refused this call without a reason; please report this bug"

// Refusal returns the status, with all details, and the trailers that tell the caller of c that the named back-end refused it for d.Reason.
// Send it without headers before it: only a Trailers-Only answer lets gRPC clients see the push-back.
//
// The ErrorInfo's metadata holds, where they are known and the reason has them, backend, method, flag, feature, why, who, until (RFC 3339,
// UTC), percent, revision, limit, in_flight, queued, threshold, wait, attempt, breaker, retry_after.
func Refusal(d guard.Decision, c guard.Call, name string) (*status.Status, metadata.MD) {
	t := rowOf(d.Reason)
	if t.name == "" {
		return status.New(codes.Internal, unfounded), metadata.MD{PushbackKey: {pushback(Never)}}
	}
	var v variables
	after := t.after(&d)
	v.fill(&d, &c, name, after)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: t.name, Domain: Domain, Metadata: v.metadata()}}
	if after >= 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
	}
	st := status.New(t.code, string(v.appendMessage(nil, d.Reason)))
	if full, err := st.WithDetails(details...); err == nil { // Only a text that is not UTF-8 could fail, and printable lets none pass.
		st = full
	}
	return st, metadata.MD{PushbackKey: {pushback(after)}}
}

// after returns when a retry of d can help, or Never.
func (t row) after(d *guard.Decision) time.Duration {
	switch {
	case t.retry == atOnce:
		return 0
	case t.retry == never || d.RetryAfter < 0:
		return Never
	}
	return max(d.RetryAfter, minRetry)
}

// pushback returns the trailer of a retry after d, in whole milliseconds, rounded up.
func pushback(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}
