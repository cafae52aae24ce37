package client_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

// reasons are all that a client may meet.
func reasons() []client.Reason {
	return []client.Reason{
		client.FeatureOff, client.FeatureDimmed, client.DeadlineUnreachable, client.BreakerOpen, client.RetryBudgetExhausted,
		client.LimitReached, client.QueueTimeout, client.BackendUnreachable, client.Draining, client.Canceled,
	}
}

// refused returns the error that a plain gRPC client gets for a refusal.
func refused(t testing.TB, r client.Reason) error {
	t.Helper()
	reason, ok := grpcguard.ReasonOf(string(r))
	if !ok {
		t.Fatalf("the guard knows no reason %s", r)
	}
	d := guard.Decision{Reason: reason, RetryAfter: 40 * time.Millisecond, Feature: guard.Feature{Name: "recs", Percent: 20, Why: "INC-1"}}
	st, _ := grpcguard.Refusal(d, guard.Call{Feature: "recs", Method: "/shop.Shop/Recommend"}, "shop")
	return st.Err()
}

// The reasons of the guard and of this package are the same closed set.
func TestReasonsMirrorTheGuard(t *testing.T) {
	var theirs []client.Reason
	for r := guard.None + 1; grpcguard.ReasonName(r) != ""; r++ {
		theirs = append(theirs, client.Reason(grpcguard.ReasonName(r)))
	}
	if got, want := fmt.Sprint(reasons()), fmt.Sprint(theirs); got != want {
		t.Errorf("reasons here %v, at the guard %v", got, want)
	}
}

func TestRejected(t *testing.T) {
	for _, reason := range reasons() {
		t.Run(string(reason), func(t *testing.T) {
			plain := refused(t, reason)
			r, ok := client.Rejected(plain)
			if !ok || r.Reason != reason || r.Code != status.Code(plain) || r.Message != status.Convert(plain).Message() {
				t.Fatalf("Rejected(%v) = %+v, %v", plain, r, ok)
			}
			if r.Metadata["backend"] != "shop" || !strings.Contains(r.Error(), string(reason)) {
				t.Errorf("metadata %v, text %q", r.Metadata, r)
			}
			for name, err := range map[string]error{
				"itself": r, "wrapped": fmt.Errorf("show page: %w", r), "joined": errors.Join(io.EOF, r), "plain wrapped": fmt.Errorf("show: %w", plain),
			} {
				if again, ok := client.Rejected(err); !ok || again.Reason != reason {
					t.Errorf("%s: Rejected = %+v, %v", name, again, ok)
				}
			}
			if !errors.Is(fmt.Errorf("x: %w", r), reason) || errors.Is(r, client.Reason("OTHER")) {
				t.Error("errors.Is does not tell the reason")
			}
			if !proto.Equal(status.Convert(r).Proto(), status.Convert(plain).Proto()) {
				t.Errorf("as a status it is %v", status.Convert(r))
			}
		})
	}
}

func TestRejectedRetryAfter(t *testing.T) {
	for reason, want := range map[client.Reason]time.Duration{
		client.LimitReached: 40 * time.Millisecond, client.BreakerOpen: 40 * time.Millisecond, client.Draining: 0,
		client.FeatureOff: -1, client.FeatureDimmed: -1, client.RetryBudgetExhausted: -1, client.DeadlineUnreachable: -1,
	} {
		if r, _ := client.Rejected(refused(t, reason)); r.RetryAfter != want {
			t.Errorf("%s: RetryAfter = %v, want %v", reason, r.RetryAfter, want)
		}
	}
}

func TestNotRejected(t *testing.T) {
	foreign := func(domain, reason string, code codes.Code) error {
		st, err := status.New(code, "no").WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for name, err := range map[string]error{
		"nothing":                         nil,
		"no status":                       io.ErrUnexpectedEOF,
		"a status without details":        status.Error(codes.ResourceExhausted, "full"),
		"of another domain":               foreign("example.com", "LIMIT_REACHED", codes.ResourceExhausted),
		"a reason of a later version":     foreign("capguard", "MOON_PHASE", codes.ResourceExhausted),
		"a reason under a different code": foreign("capguard", "LIMIT_REACHED", codes.Internal),
	} {
		if r, ok := client.Rejected(err); ok || r != nil {
			t.Errorf("%s: Rejected = %+v, %v", name, r, ok)
		}
	}
}

// Errors of unary calls and of streams come typed, so errors.AsType needs no help.
func TestErrorsComeTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.disable("recs", "INC-1")
		ctx := c.Feature("recs").Tag(t.Context())
		_, err := Shop{c}.Recommend(ctx, wrapperspb.String("ann"))
		if r, ok := errors.AsType[*client.Rejection](err); !ok || r.Reason != client.FeatureOff {
			t.Errorf("unary: %v", err)
		}
		stream := open(t, c, ctx)
		if err := stream.RecvMsg(new(Books)); !errors.Is(err, client.FeatureOff) {
			t.Errorf("stream: %v", err)
		}
	})
}

// What is not the guard's comes as it is: messages, the end of a stream, the back-end's own errors.
func TestStreamsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		stream, out := open(t, c, t.Context()), new(Books)
		if err := stream.RecvMsg(out); err != nil || out.GetValue() != "books for ann" {
			t.Errorf("message %v, %v", out, err)
		}
		if err := stream.RecvMsg(out); err != io.EOF {
			t.Errorf("end: %v", err)
		}
		s.answers(func(grpc.ServerStream, metadata.MD, string) error { return errDown })
		err := open(t, c, t.Context()).RecvMsg(out)
		if _, gone := errors.AsType[*client.UnreachableError](err); gone || status.Code(err) != codes.Unavailable {
			t.Errorf("the back-end's own UNAVAILABLE: %v", err)
		}
	})
}

// A stream whose guard dies ends with an error that says so, and at once.
func TestStreamOfADyingGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			<-stream.Context().Done()
			return nil
		})
		stream := open(t, c, t.Context())
		synctest.Wait()
		s.close()
		gone, ok := errors.AsType[*client.UnreachableError](stream.RecvMsg(new(Books)))
		if !ok || !gone.Sent {
			t.Errorf("RecvMsg: %+v", gone)
		}
		synctest.Wait()
		_, err := c.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/shop.Shop/Watch")
		if gone, ok := errors.AsType[*client.UnreachableError](err); !ok || gone.Sent {
			t.Errorf("NewStream: %v", err)
		}
	})
}

// FuzzRejected feeds arbitrary statuses: no panic, and only the guard's own are recognised.
func FuzzRejected(f *testing.F) {
	for _, reason := range reasons() {
		wire, err := proto.Marshal(status.Convert(refused(f, reason)).Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	odd, _ := status.New(codes.Unavailable, "x").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(-1)})
	wire, _ := proto.Marshal(odd.Proto())
	f.Add(wire)
	f.Fuzz(func(t *testing.T, wire []byte) {
		p := new(spb.Status)
		if proto.Unmarshal(wire, p) != nil {
			t.Skip()
		}
		r, ok := client.Rejected(status.ErrorProto(p))
		if !ok {
			return
		}
		reason, known := grpcguard.ReasonOf(string(r.Reason))
		if !known || grpcguard.Code(reason) != r.Code || int32(r.Code) != p.GetCode() || !strings.Contains(r.Error(), r.Message) {
			t.Errorf("recognised %+v in %v", r, p)
		}
	})
}
