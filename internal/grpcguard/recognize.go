package grpcguard

import (
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/guard"
)

// Rejection is a refusal as its caller meets it.
type Rejection struct {
	Reason     guard.Reason
	Code       codes.Code
	Message    string
	RetryAfter time.Duration     // negative: never
	Metadata   map[string]string // the variables of the message, by the names that Refusal lists
}

// Recognize returns the refusal that st is. It returns false for nil, for a status of anybody but a guard, and for a reason that this
// version does not know or whose code is not that of the table: such a status is to be treated by its code alone.
func Recognize(st *status.Status) (Rejection, bool) {
	if st.Code() == codes.OK {
		return Rejection{}, false
	}
	r := Rejection{Code: st.Code(), Message: st.Message(), RetryAfter: Never}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if reason, ok := ReasonOf(d.GetReason()); ok && d.GetDomain() == Domain {
				r.Reason, r.Metadata = reason, maps.Clone(d.GetMetadata())
			}
		case *errdetails.RetryInfo:
			r.RetryAfter = max(d.GetRetryDelay().AsDuration(), 0)
		}
	}
	if r.Reason == guard.None || Code(r.Reason) != r.Code {
		return Rejection{}, false
	}
	return r, true
}
