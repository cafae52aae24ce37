package proxy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// slow answers after ten seconds.
func slow(_ any, s grpc.ServerStream) error {
	time.Sleep(10 * time.Second)
	return upper(nil, s)
}

func TestDrainLetsCallsInFlightEnd(t *testing.T) {
	bubble(t, only(slow), func(t *testing.T, w *world) {
		answer := make(chan error, 1)
		go func() {
			_, err := w.call(t.Context(), "x")
			answer <- err
		}()
		synctest.Wait()
		began := time.Now()
		if err := w.proxy.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-answer; err != nil || time.Since(began) != 10*time.Second {
			t.Errorf("the call in flight ended with %v, the drain after %v", err, time.Since(began))
		}
		_, err := w.call(t.Context(), "x")
		code(t, err, codes.Unavailable)
	})
}

func TestDrainCutsWhatIsLeftWhenTimeIsUp(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		w.leaks = true // The second drain, at the end of the test, tells of the first.
		s := w.open(t.Context())
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := w.proxy.Drain(ctx); err == nil {
			t.Error("no error for a call that was cut")
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("cut after %v, want the whole 30s", took)
		}
		code(t, s.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
	})
}

// A health watch lives as long as its client; it must not hold up a drain, nor end before the calls in flight have.
func TestDrainEndsWhatPassesUnguardedLast(t *testing.T) {
	handler := func(srv any, s grpc.ServerStream) error {
		if m, _ := grpc.MethodFromServerStream(s); m == method {
			return slow(srv, s)
		}
		return hangs(srv, s)
	}
	bubble(t, only(handler), func(t *testing.T, w *world) {
		watch, err := w.client.NewStream(t.Context(), &anyStream, "/grpc.health.v1.Health/Watch")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = w.call(t.Context(), "x") }()
		synctest.Wait()
		began := time.Now()
		if err := w.proxy.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		code(t, watch.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("drained after %v, want 10s, the time of the call in flight", took)
		}
	})
}
