package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
)

type handler = func(stream grpc.ServerStream, md metadata.MD, in string) error

// refusing refuses every call.
func refusing(reason guard.Reason, after time.Duration) handler {
	return func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
		return refuse(stream, guard.Decision{Reason: reason, RetryAfter: after})
	}
}

// failing fails every call with a code and push-backs as they are.
func failing(code codes.Code, pushbacks ...string) handler {
	return func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
		stream.SetTrailer(metadata.MD{"grpc-retry-pushback-ms": pushbacks})
		return status.Error(code, "no")
	}
}

// TestRetries says for each answer how often a call is made in all, and within what time.
func TestRetries(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		answer      handler
		attempts    int
		least, most time.Duration
	}{
		"success":                                  {nil, 1, 0, 0},
		"UNAVAILABLE backs off":                    {failing(codes.Unavailable), 3, 75 * ms, 225*ms + 2},
		"a push-back is obeyed, jitter on top":     {failing(codes.Unavailable, "1000"), 3, 2000*ms + 1, 2400 * ms},
		"a push-back of zero is obeyed":            {failing(codes.Unavailable, "0"), 3, 0, 10 * ms},
		"a negative push-back means never":         {failing(codes.Unavailable, "-1"), 1, 0, 0},
		"a broken push-back means never":           {failing(codes.Unavailable, "soon"), 1, 0, 0},
		"an endless push-back means never":         {failing(codes.Unavailable, "99999999999999999999"), 1, 0, 0},
		"two push-backs mean never":                {failing(codes.Unavailable, "1", "2"), 1, 0, 0},
		"a long push-back is left to the caller":   {failing(codes.Unavailable, "5001"), 1, 0, 0},
		"full, with push-back":                     {refusing(guard.LimitReached, 100*ms), 3, 200 * ms, 240 * ms},
		"waited in vain, with push-back":           {refusing(guard.QueueTimeout, 100*ms), 3, 200 * ms, 240 * ms},
		"the breaker is open for a moment":         {refusing(guard.BreakerOpen, time.Second), 3, 2 * time.Second, 2400 * ms},
		"the breaker is open for long":             {refusing(guard.BreakerOpen, time.Minute), 1, 0, 0},
		"draining: at once, elsewhere":             {refusing(guard.Draining, 0), 3, 0, 10 * ms},
		"a feature that is off":                    {refusing(guard.FeatureOff, -1), 1, 0, 0},
		"a dimmed feature":                         {refusing(guard.FeatureDimmed, -1), 1, 0, 0},
		"the guard's retry budget":                 {refusing(guard.RetryBudgetExhausted, -1), 1, 0, 0},
		"full, without a hint":                     {refusing(guard.LimitReached, -1), 1, 0, 0},
		"a refusal that does not say when":         {silent, 1, 0, 0},
		"the back-end's RESOURCE_EXHAUSTED":        {failing(codes.ResourceExhausted, "10"), 1, 0, 0},
		"FAILED_PRECONDITION, whatever it says":    {failing(codes.FailedPrecondition, "10"), 1, 0, 0},
		"DEADLINE_EXCEEDED":                        {failing(codes.DeadlineExceeded, "10"), 1, 0, 0},
		"INTERNAL":                                 {failing(codes.Internal), 1, 0, 0},
		"ABORTED":                                  {failing(codes.Aborted, "10"), 1, 0, 0},
		"UNAVAILABLE after it had begun to answer": {begun, 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t)
				if test.answer != nil {
					s.answers(test.answer)
				}
				start := time.Now()
				_, err := Shop{c}.Recommend(t.Context(), new(Customer))
				took := time.Since(start)
				if got := len(s.received()); got != test.attempts || (err == nil) != (test.answer == nil) {
					t.Errorf("%d attempts, want %d; error %v", got, test.attempts, err)
				}
				if took < test.least || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.least, test.most)
				}
			})
		})
	}
}

// silent refuses without the trailer that says when to come back.
func silent(grpc.ServerStream, metadata.MD, string) error {
	st, _ := grpcguard.Refusal(guard.Decision{Reason: guard.LimitReached}, guard.Call{}, "shop")
	return st.Err()
}

// begun answers with headers before it fails.
func begun(stream grpc.ServerStream, _ metadata.MD, _ string) error {
	if err := stream.SendHeader(metadata.Pairs("mark", "x")); err != nil {
		return err
	}
	return errDown
}

// Every retry says how often the call was tried before, and keeps all else that the caller said.
func TestRetriesTellTheirAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "baggage", "a=1", "baggage", "b=2", "x-bin", "\x00")
		Shop{c}.Recommend(c.Feature("recs").Tag(ctx), new(Customer))
		for n, md := range s.received() {
			var want []string
			if n > 0 {
				want = []string{fmt.Sprint(n)}
			}
			if got := md.Get("grpc-previous-rpc-attempts"); !slices.Equal(got, want) {
				t.Errorf("attempt %d says %q, want %q", n, got, want)
			}
			if !slices.Equal(md.Get("baggage"), []string{"a=1", "b=2"}) || md.Get("x-bin")[0] != "\x00" || md.Get("capguard-feature")[0] != "recs" {
				t.Errorf("attempt %d lost metadata: %v", n, md)
			}
		}
	})
}

// A call that succeeds at last returns its answer and the trailers of the last attempt.
func TestRetrySucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(func(stream grpc.ServerStream, md metadata.MD, in string) error {
			stream.SetTrailer(metadata.Pairs("mark", "x"))
			if len(md.Get("grpc-previous-rpc-attempts")) == 0 {
				return errDown
			}
			return stream.SendMsg(wrapperspb.String("books for " + in))
		})
		var trailer metadata.MD
		books, err := Shop{c}.Recommend(t.Context(), wrapperspb.String("ann"), grpc.Trailer(&trailer))
		if err != nil || books.GetValue() != "books for ann" || len(trailer.Get("mark")) != 1 || len(s.received()) != 2 {
			t.Errorf("%v, %v, %v after %d attempts", books, err, trailer, len(s.received()))
		}
	})
}

// A retry never waits beyond the deadline: the call returns its last answer at once, which says more than a deadline.
func TestRetriesRespectTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(refusing(guard.LimitReached, time.Second))
		for timeout, wantAttempts := range map[time.Duration]int{900 * time.Millisecond: 1, 1300 * time.Millisecond: 2, time.Minute: 3} {
			before, start := len(s.received()), time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			_, err := Shop{c}.Recommend(ctx, new(Customer))
			cancel()
			if !errors.Is(err, client.LimitReached) || time.Since(start) >= timeout {
				t.Errorf("timeout %v: %v after %v", timeout, err, time.Since(start))
			}
			if got := len(s.received()) - before; got != wantAttempts {
				t.Errorf("timeout %v: %d attempts, want %d", timeout, got, wantAttempts)
			}
		}
	})
}

// A caller who gives up while a retry waits is answered at once.
func TestRetryPauseEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(refusing(guard.LimitReached, 3*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := Shop{c}.Recommend(ctx, new(Customer))
		if !errors.Is(err, client.LimitReached) || time.Since(start) != time.Second || len(s.received()) != 1 {
			t.Errorf("%v after %v and %d attempts", err, time.Since(start), len(s.received()))
		}
	})
}

// Streams, calls without a guard and calls whose connection broke are never retried.
func TestNeverRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable, "0"))
		if err := open(t, c, t.Context()).RecvMsg(new(Books)); status.Code(err) != codes.Unavailable || len(s.received()) != 1 {
			t.Errorf("stream: %v after %d attempts", err, len(s.received()))
		}
		s.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			<-stream.Context().Done()
			return nil
		})
		var restart sync.WaitGroup
		restart.Go(func() {
			time.Sleep(time.Second)
			s.close()
			s.revive()
		})
		defer restart.Wait()
		start := time.Now()
		_, err := Shop{c}.Recommend(t.Context(), new(Customer))
		gone, ok := errors.AsType[*client.UnreachableError](err)
		if !ok || !gone.Sent || len(s.received()) != 2 || time.Since(start) != time.Second {
			t.Errorf("broken connection: %v after %v and %d attempts", err, time.Since(start), len(s.received())-1)
		}
	})
}
