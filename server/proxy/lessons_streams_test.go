package proxy_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
	"github.com/capguard/capguard/server/telemetry"
)

// watches makes every method a streaming one.
func watches(p *plan) {
	p.cfg.Methods = []*capguardv1.MethodConfig{{Pattern: "/test.Service/*", Streaming: true}}
}

// ending is a way in which a stream can end, and when it has.
type ending struct {
	end   func(w *world, s grpc.ClientStream, cancel func())
	after time.Duration
}

// endings are those of a stream that its back-end would end after a minute.
func endings() map[string]ending {
	return map[string]ending{
		"cancel":           {func(_ *world, _ grpc.ClientStream, cancel func()) { cancel() }, 0},
		"client gone":      {func(w *world, _ grpc.ClientStream, _ func()) { w.leaks = true; _ = w.client.Close() }, 0},
		"half-close":       {func(_ *world, s grpc.ClientStream, _ func()) { _ = s.CloseSend() }, time.Minute},
		"back-end ends it": {func(*world, grpc.ClientStream, func()) {}, time.Minute},
		"back-end dies":    {func(w *world, _ grpc.ClientStream, _ func()) { w.net.kill("10.0.0.1:80") }, 0},
		"all at once": {func(w *world, s grpc.ClientStream, cancel func()) {
			_ = s.CloseSend()
			w.net.kill("10.0.0.1:80")
			cancel()
			w.leaks = true
			_ = w.client.Close()
		}, 0},
	}
}

// Lesson: a slot is held from open to end, and released exactly once, however the stream ends (sentinel-golang frees it at open; Linkerd
// stops counting at headers). The world checks at its end that nothing was returned twice.
func TestAStreamsSlotIsReleasedOnceHoweverItEnds(t *testing.T) {
	minute := func(_ any, s grpc.ServerStream) error { // headers, one message, then a minute of silence
		if err := s.SendMsg(text("x")); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
		case <-time.After(time.Minute):
		}
		return status.Error(codes.Aborted, "enough")
	}
	for name, c := range endings() {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(minute, watches), func(t *testing.T, w *world) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := w.open(ctx)
				if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil || w.accounts() != asStream {
					t.Fatalf("after the first message: %v, calls, streams = %v", err, w.accounts())
				}
				c.end(w, s, cancel)
				if got := w.accounts(); c.after > 0 && got != asStream {
					t.Errorf("before its end: calls, streams = %v", got)
				}
				time.Sleep(c.after)
				if got := w.accounts(); got != [2]int{} {
					t.Errorf("after its end: calls, streams = %v", got)
				}
			})
		})
	}
}

// The same when the guard itself fails on the stream.
func TestNoStreamIsLostInAPanicOrAGoexit(t *testing.T) {
	for name, misbehave := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			look, held := func() [2]int { return [2]int{} }, [2]int{}
			broken := func(p *plan) {
				p.options.Telemetry = telemetry.Discard()
				p.options.Telemetry.Tracer = badTracer{misbehave: func() { held = look(); misbehave() }}
			}
			bubble(t, only(upper, watches, broken), func(t *testing.T, w *world) {
				look = func() [2]int {
					s := w.backend.Guard().Status()
					return [2]int{s.InFlight, s.OpenStreams}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := w.call(ctx, "x"); err == nil {
					t.Error("no error")
				}
				if got := w.accounts(); held != asStream || got != [2]int{} {
					t.Errorf("calls, streams = %v when it failed, %v afterwards", held, got)
				}
			})
		})
	}
}

// Lesson: a half-open probe that happens to be a long stream does not hold the breaker half-open for hours: not when it is answered, and
// not when it is a silent watch, of which nobody can tell whether it is well.
func TestAProbeThatIsAWatch(t *testing.T) {
	for name, c := range map[string]struct {
		handler grpc.StreamHandler
		config  func(*plan)
		want    breaker.State
	}{
		"answered":             {chatter, func(*plan) {}, breaker.Closed},
		"known, and answered":  {chatter, watches, breaker.Closed},
		"silent":               {hangs, func(*plan) {}, breaker.Open},
		"known, and is silent": {hangs, watches, breaker.Open},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(c.handler, c.config), func(t *testing.T, w *world) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				halfOpen(w)
				for range breaker.Default().Probes {
					w.open(ctx)
				}
				time.Sleep(breaker.Default().ProbeTimeout)
				synctest.Wait()
				if got := w.backend.Guard().Status().Breaker; got.State != c.want {
					t.Errorf("breaker is %v (%s), want %v", got.State, got.Reason, c.want)
				}
			})
		})
	}
}

// halfOpen lets calls through another method fail until the breaker probes.
func halfOpen(w *world) {
	g := w.backend.Guard()
	for range breaker.Default().MinCalls {
		p, _ := g.Admit(w.t.Context(), guard.Call{Method: "/test.Service/Other"})
		p.Done(guard.Failure)
	}
	time.Sleep(breaker.Default().OpenFor)
	if got := g.Status().Breaker.State; got != breaker.HalfOpen {
		w.t.Fatalf("breaker is %v, want half-open", got)
	}
}
