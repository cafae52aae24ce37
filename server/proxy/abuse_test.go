package proxy_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// One caller that was slow with its request, or said more than it should, made the guard take every later call of the method for a stream,
// and the limit was lifted for good. Only what the back-end does speaks for a method.
func TestACallerTeachesNothingOfAMethod(t *testing.T) {
	for name, c := range map[string]struct {
		backend grpc.StreamHandler
		do      func(s grpc.ClientStream) error
		next    [2]int // the accounts with a second call
	}{
		"slow":        {hangs, func(grpc.ClientStream) error { return nil }, [2]int{1, 1}},
		"two answers": {chatter, func(s grpc.ClientStream) error { return s.CloseSend() }, [2]int{0, 2}},
		"talkative":   {hangs, twice, [2]int{1, 1}},
		"talkative, then two answers": {echo, func(s grpc.ClientStream) error {
			err := twice(s)
			for range 2 {
				err = errors.Join(err, s.RecvMsg(&wrapperspb.StringValue{}))
			}
			return err
		}, [2]int{0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(c.backend), func(t *testing.T, w *world) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if err := c.do(w.open(ctx)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Second)
				if got := w.accounts(); got != asStream {
					t.Fatalf("calls, streams = %v, want %v", got, asStream)
				}
				if err := w.open(ctx).SendMsg(text("x")); err != nil {
					t.Fatal(err)
				}
				if got := w.accounts(); got != c.next {
					t.Errorf("with a second call: calls, streams = %v, want %v", got, c.next)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// One span with a text that is no UTF-8 spoils the whole batch that it is exported in. Both of these texts come from outside.
func TestSpansHoldOnlyText(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	bubble(t, only(fails(codes.Internal, "no\xffsense"), traced(spans)), func(t *testing.T, w *world) {
		err := w.client.Invoke(fromCaller(t.Context(), "01"), "/test.Service/\xff", text("x"), &wrapperspb.StringValue{})
		code(t, err, codes.Unimplemented)
		_, err = w.call(fromCaller(t.Context(), "01"), "x")
		code(t, err, codes.Internal)
		synctest.Wait()
		if len(spans.Ended()) != 2 {
			t.Errorf("%d spans, want the two of the second call", len(spans.Ended()))
		}
		for _, s := range spans.Ended() {
			if st := s.Status(); st.Code != otelcodes.Error || !utf8.ValidString(st.Description) || !strings.Contains(st.Description, "sense") {
				t.Errorf("status of the %v span is %+q", s.SpanKind(), st.Description)
			}
			if !utf8.ValidString(s.Name()) {
				t.Errorf("a span is named %q", s.Name())
			}
		}
	})
}
