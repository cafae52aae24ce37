package grpcguard

import (
	"google.golang.org/grpc/codes"

	"github.com/capguard/capguard/internal/guard"
)

// Outcome returns what status code c from the back-end tells about the back-end. byCaller says that the caller ended the call: it
// cancelled, or its deadline had passed before the back-end had the call; such a call tells nothing, whatever its code.
//
// Codes that blame the request are as good as OK: the back-end answered. UNIMPLEMENTED is, too, but tells nothing of a method that may have
// been invented. A time-out or a push-back is overload. Everything else is a fault, and so is a CANCELLED that no caller asked for, and a
// code that gRPC does not define.
func Outcome(c codes.Code, byCaller bool) guard.Outcome {
	if byCaller {
		return guard.Ignored
	}
	switch c {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return guard.Success
	case codes.Unimplemented:
		return guard.Missing
	case codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted:
		return guard.Overload
	}
	return guard.Failure
}
