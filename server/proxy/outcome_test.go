package proxy_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
)

// counts are the outcomes that a test expects.
type counts struct{ succeeded, overloaded, failed, ignored uint64 }

func (w *world) counts() counts {
	synctest.Wait()
	t := w.backend.Guard().Status().Totals
	return counts{t.Succeeded, t.Overloaded, t.Failed, t.Ignored}
}

func TestOutcomesOfAnswers(t *testing.T) {
	methods := []*capguardv1.MethodConfig{
		{Pattern: "/test.Service/Flaky*", Outcomes: map[string]string{"UNKNOWN": "success", "NOT_FOUND": "failure"}},
		{Pattern: "/test.Service/*"},
	}
	for name, c := range map[string]struct {
		method string
		code   codes.Code
		want   counts
	}{
		"OK":                   {"/test.Service/Call", codes.OK, counts{succeeded: 1}},
		"blames the request":   {"/test.Service/Call", codes.NotFound, counts{succeeded: 1}},
		"push-back":            {"/test.Service/Call", codes.ResourceExhausted, counts{overloaded: 1}},
		"unavailable":          {"/test.Service/Call", codes.Unavailable, counts{overloaded: 1}},
		"fault":                {"/test.Service/Call", codes.Internal, counts{failed: 1}},
		"bare Go error":        {"/test.Service/Call", codes.Unknown, counts{failed: 1}},
		"cancelled by itself":  {"/test.Service/Call", codes.Canceled, counts{failed: 1}},
		"overridden":           {"/test.Service/FlakyOne", codes.Unknown, counts{succeeded: 1}},
		"overridden to a flaw": {"/test.Service/FlakyOne", codes.NotFound, counts{failed: 1}},
		"not overridden":       {"/test.Service/FlakyOne", codes.Internal, counts{failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			handler := fails(c.code, "x")
			if c.code == codes.OK {
				handler = upper
			}
			bubble(t, only(handler, func(p *plan) { p.cfg.Methods = methods }), func(t *testing.T, w *world) {
				err := w.client.Invoke(t.Context(), c.method, text("x"), &wrapperspb.StringValue{})
				code(t, err, c.code)
				if got := w.counts(); got != c.want {
					t.Errorf("counted %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

// "Every call hits its deadline: the limit must fall." It can only if the guard takes them for overload, whoever's clock strikes first.
func TestADeadlineAtTheBackendIsOverload(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, err := w.call(ctx, "x")
			code(t, err, codes.DeadlineExceeded)
			cancel()
		}
		if got, want := w.counts(), (counts{overloaded: 10}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// A caller whose clock strikes a little early resets the call before the guard's own deadline.
func TestACallersClockMayStrikeEarly(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(200*time.Millisecond))
		defer cancel()
		time.AfterFunc(190*time.Millisecond, cancel)
		if _, err := w.call(ctx, "x"); err == nil {
			t.Error("want an error")
		}
		if got, want := w.counts(), (counts{overloaded: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// "Ten caller cancellations, [...]: still closed, limit unchanged."
func TestACancellationTellsNothing(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			time.AfterFunc(time.Second, cancel)
			_, err := w.call(ctx, "x")
			code(t, err, codes.Canceled)
		}
		if got, want := w.counts(), (counts{ignored: 10}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

func TestAClientThatVanishesGivesItsPermitsBack(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		for range 5 {
			w.open(t.Context())
		}
		synctest.Wait()
		if n := w.backend.Guard().Status().InFlight; n != 5 {
			t.Errorf("%d in flight, want 5", n)
		}
		if err := w.client.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := w.counts(), (counts{ignored: 5}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		w.leaks = true // Its connection is closed already.
	})
}

// "grpc-go's own failures must not surface as PERMISSION_DENIED or UNKNOWN."
func TestABackendThatDiesIsUnavailable(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		s := w.open(t.Context())
		synctest.Wait()
		w.net.kill("10.0.0.1:80")
		code(t, s.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
		if got, want := w.counts(), (counts{overloaded: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("a call to a dead back-end waited %v", waited)
		}
		if got, want := w.counts(), (counts{overloaded: 1, failed: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

func TestADeadBackendOpensTheBreakerAndComesBack(t *testing.T) {
	bubble(t, only(upper), func(t *testing.T, w *world) {
		w.net.kill("10.0.0.1:80")
		time.Sleep(time.Second)
		for range 30 {
			_, err := w.call(t.Context(), "x")
			code(t, err, codes.Unavailable)
		}
		if n := w.backend.Guard().Status().Totals.Refused[guard.BreakerOpen]; n == 0 {
			t.Error("the breaker is still closed")
		}
		w.net.serve("10.0.0.1:80", upper)
		began := time.Now()
		for {
			if _, err := w.call(t.Context(), "x"); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("back after %v", took)
		}
	})
}

func TestMessagesAreBounded(t *testing.T) {
	handler := func(_ any, s grpc.ServerStream) error {
		m := &wrapperspb.StringValue{}
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		return s.SendMsg(text(strings.Repeat(m.GetValue(), 100)))
	}
	bounded := func(p *plan) { p.options.Limits.MessageBytes = 1000 }
	for name, n := range map[string]int{"request": 1001, "answer": 100} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(handler, bounded), func(t *testing.T, w *world) {
				_, err := w.call(t.Context(), strings.Repeat("x", n))
				if st := code(t, err, codes.ResourceExhausted); !strings.Contains(st.Message(), "larger than max") {
					t.Errorf("%q does not say so", st.Message())
				}
				if got, want := w.counts(), (counts{ignored: 1}); got != want {
					t.Errorf("counted %+v, want %+v", got, want)
				}
				if got, err := w.call(t.Context(), "y"); err != nil || len(got) != 100 {
					t.Errorf("the next call: %v", err)
				}
			})
		})
	}
}

func TestAbsurdHeadersAreRefused(t *testing.T) {
	bubble(t, only(upper, func(p *plan) { p.options.Limits.HeaderBytes = 8 << 10 }), func(t *testing.T, w *world) {
		ctx := withHeader(t.Context(), "junk", strings.Repeat("x", 10<<10))
		if _, err := w.call(ctx, "x"); err == nil {
			t.Error("10 KiB of headers passed a bound of 8 KiB")
		}
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Errorf("the next call: %v", err)
		}
	})
}

// "A client that opens streams without end": those beyond the bound wait at the client, and cost the guard nothing.
func TestTheCallsOfOneConnectionAreBounded(t *testing.T) {
	bubble(t, only(hangs, func(p *plan) { p.options.Limits.Streams = 3 }), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.open(ctx) // The client learns of the bound with the first.
		synctest.Wait()
		for range 2 {
			w.open(ctx)
		}
		late, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		_, err := w.client.NewStream(late, &anyStream, method)
		code(t, err, codes.DeadlineExceeded)
		if n := w.accounts(); n[0]+n[1] != 3 {
			t.Errorf("calls, streams = %v, want 3 together", n)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	bubble(t, only(upper, func(p *plan) { p.options.Limits.Connections = 1 }), func(t *testing.T, w *world) {
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		second, err := grpc.NewClient("passthrough:///guard", insecureVia(w.through)...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = second.Close() }()
		for _, first := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := second.Invoke(ctx, method, text("x"), &wrapperspb.StringValue{}, grpc.WaitForReady(true))
			cancel()
			if first != (err != nil) {
				t.Errorf("with the first connection open: %v; call on a second: %v", first, err)
			}
			w.leaks = true // For the client is closed twice.
			_ = w.client.Close()
		}
	})
}
