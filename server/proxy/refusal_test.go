package proxy_test

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/internal/guard/limit"
)

// crowd makes the back-end full for as long as the test runs.
func crowd(w *world) {
	g := w.backend.Guard()
	for range g.Settings().Limit.Initial {
		p, d := g.Admit(w.t.Context(), guard.Call{Method: "/test.Service/Other"})
		if !d.Admitted {
			w.t.Fatal("no room for the crowd")
		}
		w.t.Cleanup(func() { p.Done(guard.Ignored) })
	}
}

// crowdFor makes the back-end full for d: one call at a limit of one.
func crowdFor(w *world, d time.Duration) {
	p, _ := w.backend.Guard().Admit(w.t.Context(), guard.Call{Method: "/test.Service/Other"})
	time.AfterFunc(d, func() { p.Done(guard.Ignored) })
}

func switchOff(w *world, percent float64) {
	w.backend.Guard().SetFeatures(map[string]guard.Feature{"recs": {
		Name: "recs", Percent: percent, Who: "alice", Why: "stock DB at 95%", Revision: 7,
		TraceID: "0af7651916cd43dd8448eb211c80319c", SpanID: "b7ad6b7169203331",
	}})
}

// small makes a limit of one call, and no line.
func small(p *plan) {
	p.settings.Limit = limit.Settings{Law: limit.Fixed, Initial: 1, Min: 1, Max: 1}
	p.settings.Queue.MaxWait = 0
}

// Every refusal is Trailers-Only, with code, reason, retry delay and push-back, and the back-end knows nothing of it.
func TestRefusals(t *testing.T) {
	for want, make := range map[guard.Reason]func(*world){
		guard.FeatureOff:   func(w *world) { switchOff(w, 0) },
		guard.LimitReached: crowd,
		guard.BreakerOpen: func(w *world) {
			w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedOpen, Until: time.Now().Add(time.Minute)})
		},
		guard.Draining:           func(w *world) { go func() { _ = w.backend.Guard().Drain(w.t.Context()) }(); synctest.Wait() },
		guard.BackendUnreachable: func(w *world) { w.net.kill("10.0.0.1:80"); time.Sleep(time.Second) },
	} {
		t.Run(grpcguard.ReasonName(want), func(t *testing.T) {
			watch := &headerWatch{}
			called := false
			handler := func(_ any, s grpc.ServerStream) error { called = true; return upper(nil, s) }
			wired := func(p *plan) { p.dial = []grpc.DialOption{grpc.WithStatsHandler(watch)} }
			synctest.Test(t, func(t *testing.T) {
				w := start(t, only(handler, small, wired))
				t.Cleanup(w.stop)
				make(w)
				// No message is sent: the decision must not wait for one.
				s := w.open(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"))
				st := code(t, s.RecvMsg(&wrapperspb.StringValue{}), grpcguard.Code(want))
				checkRefusal(t, st, s.Trailer(), want)
				if watch.headers != 0 || called {
					t.Errorf("%d header blocks, back-end called: %v; want neither", watch.headers, called)
				}
			})
		})
	}
}

func checkRefusal(t *testing.T, st *status.Status, trailer metadata.MD, want guard.Reason) {
	t.Helper()
	r, ok := grpcguard.Recognize(st)
	if !ok || r.Reason != want || r.Metadata["backend"] != "stock" || r.Metadata["method"] != method {
		t.Errorf("got %+v, want a refusal for %s", r, grpcguard.ReasonName(want))
	}
	push, err := strconv.Atoi(strings.Join(trailer.Get(grpcguard.PushbackKey), " "))
	if err != nil || (push < 0) != (r.RetryAfter < 0) {
		t.Errorf("push-back %q, retry after %v", trailer.Get(grpcguard.PushbackKey), r.RetryAfter)
	}
}

func TestRefusalTellsWhoSwitchedOffAndWhy(t *testing.T) {
	bubble(t, only(upper), func(t *testing.T, w *world) {
		switchOff(w, 0)
		_, err := w.call(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"), "x")
		r, _ := grpcguard.Recognize(code(t, err, codes.FailedPrecondition))
		want := map[string]string{"backend": "stock", "method": method, "feature": "recs", "flag": "recs", "percent": "0", "revision": "7",
			"who": "alice", "why": "stock DB at 95%"}
		if !maps.Equal(r.Metadata, want) {
			t.Errorf("metadata = %v", r.Metadata)
		}
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Errorf("a call of no feature: %v", err)
		}
	})
}

const retries = `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.001s","maxBackoff":"0.001s",
	"backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE","RESOURCE_EXHAUSTED","FAILED_PRECONDITION"]}}]}`

// "A refusal is Trailers-Only, else grpc-go neither retries nor reads push-back."
func TestGRPCClientsObeyThePushback(t *testing.T) {
	retrying := func(p *plan) { p.dial = []grpc.DialOption{grpc.WithDefaultServiceConfig(retries)} }
	bubble(t, only(upper, small, retrying), func(t *testing.T, w *world) {
		switchOff(w, 0)
		_, err := w.call(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"), "x")
		code(t, err, codes.FailedPrecondition)
		if n := w.backend.Guard().Status().Totals.Refused[guard.FeatureOff]; n != 1 {
			t.Errorf("%d attempts at a feature that is off, want 1", n)
		}
		crowdFor(w, 5*time.Millisecond)
		began := time.Now()
		if _, err := w.call(t.Context(), "x"); err != nil {
			t.Errorf("a retry when there is room again: %v", err)
		}
		if waited := time.Since(began); waited < 10*time.Millisecond {
			t.Errorf("retried after %v, want the push-back, 10ms at least", waited)
		}
	})
}

// "Health, reflection and admin pass when everything is refused, and are never counted."
// "The back-end's own reflection works through the data port."
func TestHealthAndReflectionAlwaysPass(t *testing.T) {
	bubble(t, only(echo, small, func(p *plan) { p.cfg.Routes = []string{"/shop.*"} }), func(t *testing.T, w *world) {
		switchOff(w, 0)
		w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		ctx := metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs")
		for _, m := range []string{"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"} {
			if err := w.client.Invoke(ctx, m, text("x"), &wrapperspb.StringValue{}); err != nil {
				t.Errorf("%s: %v", m, err)
			}
		}
		s := w.backend.Guard().Status()
		if s.Totals != (guard.Totals{}) || len(w.backend.Guard().Features()) > 1 {
			t.Errorf("they were counted: %+v", s.Totals)
		}
	})
}

func TestMethodsWithoutARouteAreUnimplemented(t *testing.T) {
	bubble(t, only(upper, func(p *plan) { p.cfg.Routes = []string{"/shop.*", "/test.Service/Other"} }), func(t *testing.T, w *world) {
		_, err := w.call(t.Context(), "x")
		st := code(t, err, codes.Unimplemented)
		for _, part := range []string{method, "stock: /shop.*", "stock: /test.Service/Other"} {
			if !strings.Contains(st.Message(), part) {
				t.Errorf("%q does not mention %s", st.Message(), part)
			}
		}
	})
}

// "Queue wait is taken off the forwarded deadline; a wait past the deadline ends in refusal, never in admission."
func TestTheWaitIsTakenOffTheDeadline(t *testing.T) {
	var left time.Duration
	handler := func(_ any, s grpc.ServerStream) error {
		deadline, _ := s.Context().Deadline()
		left = time.Until(deadline)
		return upper(nil, s)
	}
	patient := func(p *plan) { p.settings.Queue.MaxWait = 10 * time.Second }
	bubble(t, only(handler, small, patient), func(t *testing.T, w *world) {
		crowdFor(w, time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := w.call(ctx, "x"); err != nil || left != 2*time.Second {
			t.Errorf("after a wait of 1s of 3s: %v, %v left at the back-end, want 2s", err, left)
		}
	})
}

func TestAWaitPastTheDeadlineIsARefusal(t *testing.T) {
	called := false
	handler := func(_ any, s grpc.ServerStream) error { called = true; return upper(nil, s) }
	patient := func(p *plan) { p.settings.Queue.MaxWait = 10 * time.Second }
	synctest.Test(t, func(t *testing.T) {
		w := start(t, only(handler, small, patient))
		t.Cleanup(w.stop)
		crowd(w)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := w.call(ctx, "x")
		code(t, err, codes.DeadlineExceeded)
		synctest.Wait()
		if s := w.backend.Guard().Status(); s.Totals.Admitted != 1 || called {
			t.Errorf("%d admitted, want the crowd alone", s.Totals.Admitted)
		}
	})
}

// "0 % and off: not one call passes [...] from the moment the command has answered": which waits for calls that are still on their way, so
// the guard must learn which have arrived.
func TestACallHasArrivedWhenItsHeadersCome(t *testing.T) {
	late := func(_ any, s grpc.ServerStream) error {
		time.Sleep(10 * time.Second)
		if err := s.SendHeader(nil); err != nil {
			return err
		}
		return hangs(nil, s)
	}
	bubble(t, only(late), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"))
		defer cancel()
		w.open(ctx)
		synctest.Wait()
		switchOff(w, 0)
		began := time.Now()
		short, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		if n := w.backend.Guard().Quiesce(short); n != 1 {
			t.Errorf("%d calls on their way after 5s, want 1", n)
		}
		if n := w.backend.Guard().Quiesce(t.Context()); n != 0 || time.Since(began) != 10*time.Second {
			t.Errorf("%d calls on their way after %v, want none after 10s", n, time.Since(began))
		}
	})
}
