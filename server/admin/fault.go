package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/capguard/capguard/featureflags"
	"github.com/capguard/capguard/internal/grpcguard"
)

// The reasons of this API's errors, as in ErrorInfo. The set is append-only: scripts branch on it.
const (
	reasonInvalidField     = "INVALID_FIELD"
	reasonFlagNotFound     = "FLAG_NOT_FOUND"
	reasonRevisionNotFound = "REVISION_NOT_FOUND"
	reasonFlagExists       = "FLAG_EXISTS"
	reasonEtagMismatch     = "ETAG_MISMATCH"
	reasonStoreDown        = "STORE_DOWN"
	reasonBackendNotFound  = "BACKEND_NOT_FOUND"
	reasonMethodNotFound   = "METHOD_NOT_FOUND"
	reasonTraceNotFound    = "TRACE_NOT_FOUND"
	reasonTooManyWatchers  = "TOO_MANY_WATCHERS"
)

// fault is an error of the API before it is a status.
type fault struct {
	code     codes.Code
	reason   string
	message  string            // what is wrong and what to do next
	metadata map[string]string // every variable in message
	detail   protoadapt.MessageV1
}

func (f fault) err() error {
	st := status.New(f.code, f.message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: f.reason, Domain: grpcguard.Domain, Metadata: f.metadata}}
	if f.detail != nil {
		details = append(details, f.detail)
	}
	detailed, err := st.WithDetails(details...)
	if err != nil {
		return st.Err()
	}
	return detailed.Err()
}

// invalid says that one field of a request is wrong.
func invalid(field, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return fault{
		code:     codes.InvalidArgument,
		reason:   reasonInvalidField,
		message:  field + ": " + message,
		metadata: map[string]string{"field": field},
		detail: &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: message},
		}},
	}.err()
}

// explain turns an error of the registry into a status. candidates are the names that a typo may have meant.
func explain(err error, candidates iter.Seq[string]) error {
	e, ok := errors.AsType[*featureflags.Error](err)
	if !ok {
		return unexpected(err)
	}
	switch e.Kind {
	case featureflags.Invalid:
		return invalid(fieldName(e.Field), "%s", strings.TrimPrefix(e.Message, e.Field+": "))
	case featureflags.NotFound:
		return notFound(e, candidates)
	case featureflags.AlreadyExists:
		return fault{
			code: codes.AlreadyExists, reason: reasonFlagExists, metadata: variables(e), detail: flagInfo(e.Name),
			message: fmt.Sprintf("there is a flag %q already: change it with UpdateFlag, or switch it with DisableFlag, EnableFlag or DimFlag",
				e.Name),
		}.err()
	case featureflags.EtagMismatch:
		return fault{code: codes.Aborted, reason: reasonEtagMismatch, message: e.Message, metadata: variables(e), detail: flagInfo(e.Name)}.err()
	case featureflags.StoreDown:
		return fault{code: codes.Unavailable, reason: reasonStoreDown, message: e.Message, metadata: variables(e)}.err()
	}
	return unexpected(err)
}

// fieldName returns the field of the request that a field of a command came from.
func fieldName(field string) string {
	if field == "revision" {
		return "name" // RollbackFlag names it there
	}
	return field
}

// unexpected keeps the code of an error that has one, as the end of a context has.
func unexpected(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}

func variables(e *featureflags.Error) map[string]string {
	m := map[string]string{}
	maps.Copy(m, e.Details)
	if e.Name != "" {
		m["flag"] = e.Name
	}
	return m
}

func flagInfo(name string) *errdetails.ResourceInfo {
	return &errdetails.ResourceInfo{ResourceType: "capguard.v1.Flag", ResourceName: flagPrefix + name}
}

// notFound names what the operator may have meant.
func notFound(e *featureflags.Error, candidates iter.Seq[string]) error {
	f := fault{code: codes.NotFound, reason: reasonFlagNotFound, metadata: map[string]string{"flag": e.Name}, detail: flagInfo(e.Name)}
	if e.Field == "revision" {
		f.reason, f.message = reasonRevisionNotFound, e.Message
		return f.err()
	}
	f.message = fmt.Sprintf("there is no flag %q and no call of such a feature was seen", e.Name)
	if nearest := featureflags.Nearest(e.Name, candidates); len(nearest) > 0 {
		f.metadata["nearest"] = strings.Join(nearest, ",")
		f.message += "; did you mean " + quoted(nearest) + "?"
	} else {
		f.message += "; ListFlags shows what there is."
	}
	f.message += ` To switch it before its first call, add "allow_missing": true`
	return f.err()
}

// backendNotFound names the back-ends that exist.
func backendNotFound(name string, have []string) error {
	return fault{
		code:     codes.NotFound,
		reason:   reasonBackendNotFound,
		message:  fmt.Sprintf("there is no back-end %q; this guard has %s", name, quoted(have)),
		metadata: map[string]string{"backend": name, "backends": strings.Join(have, ", ")},
		detail:   &errdetails.ResourceInfo{ResourceType: "capguard.v1.Backend", ResourceName: backendPrefix + name},
	}.err()
}

// quoted joins names as a sentence needs them: "a", "b" or "c".
func quoted(names []string) string {
	qs := make([]string, len(names))
	for i, name := range names {
		qs[i] = strconv.Quote(name)
	}
	if len(qs) < 2 {
		return strings.Join(qs, "")
	}
	return strings.Join(qs[:len(qs)-1], ", ") + " or " + qs[len(qs)-1]
}
