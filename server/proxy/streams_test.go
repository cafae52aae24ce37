package proxy_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// accounts returns the calls with a permit, and the open streams.
func (w *world) accounts() [2]int {
	synctest.Wait()
	s := w.backend.Guard().Status()
	return [2]int{s.InFlight, s.OpenStreams}
}

var asCall, asStream = [2]int{1, 0}, [2]int{0, 1}

// "An idle stream holds no unary permit and adds nothing to latency."
func TestWhatMakesACallAStream(t *testing.T) {
	headers := func(_ any, s grpc.ServerStream) error {
		if err := s.SendHeader(metadata.Pairs("a", "b")); err != nil {
			return err
		}
		return hangs(nil, s)
	}
	for name, c := range map[string]struct {
		backend grpc.StreamHandler
		do      func(s grpc.ClientStream) error
		at      map[time.Duration][2]int
	}{
		"two requests": {hangs, func(s grpc.ClientStream) error { return twice(s) }, map[time.Duration][2]int{0: asStream}},
		"two answers":  {chatter, func(s grpc.ClientStream) error { return s.CloseSend() }, map[time.Duration][2]int{0: asStream}},
		"headers, then silence": {headers, func(s grpc.ClientStream) error { return s.CloseSend() },
			map[time.Duration][2]int{0: asCall, 900 * time.Millisecond: asCall, 1100 * time.Millisecond: asStream}},
		"one answer, then silence": {single, func(s grpc.ClientStream) error { return s.CloseSend() },
			map[time.Duration][2]int{0: asCall, 900 * time.Millisecond: asCall, 1100 * time.Millisecond: asStream}},
		"one request that stays open": {hangs, func(s grpc.ClientStream) error { return s.SendMsg(text("x")) },
			map[time.Duration][2]int{0: asCall, 900 * time.Millisecond: asCall, 1100 * time.Millisecond: asStream}},
		"nothing at all": {hangs, func(grpc.ClientStream) error { return nil },
			map[time.Duration][2]int{0: asCall, 4 * time.Second: asCall, 6 * time.Second: asStream}},
		"a slow unary call is none": {hangs, func(s grpc.ClientStream) error {
			if err := s.SendMsg(text("x")); err != nil {
				return err
			}
			return s.CloseSend()
		}, map[time.Duration][2]int{0: asCall, time.Hour: asCall}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(c.backend), func(t *testing.T, w *world) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				if err := c.do(w.open(ctx)); err != nil {
					t.Fatal(err)
				}
				for _, at := range sorted(c.at) {
					time.Sleep(time.Until(began.Add(at)))
					if got := w.accounts(); got != c.at[at] {
						t.Errorf("after %v: calls, streams = %v, want %v", at, got, c.at[at])
					}
				}
				cancel()
				if got := w.accounts(); got != [2]int{} {
					t.Errorf("after its end: calls, streams = %v", got)
				}
			})
		})
	}
}

func twice(s grpc.ClientStream) error {
	if err := s.SendMsg(text("x")); err != nil {
		return err
	}
	return s.SendMsg(text("y"))
}

// single sends one message and waits, as a watch does when nothing changes.
func single(_ any, s grpc.ServerStream) error {
	if err := s.SendMsg(text("x")); err != nil {
		return err
	}
	return hangs(nil, s)
}

// chatter sends two messages and waits.
func chatter(_ any, s grpc.ServerStream) error {
	for range 2 {
		if err := s.SendMsg(text("x")); err != nil {
			return err
		}
	}
	return hangs(nil, s)
}

// "A slot is held from open to end, and released exactly once on cancel, panic, client gone, half-close."
func TestAStreamHoldsItsPlaceFromOpenToEnd(t *testing.T) {
	streaming := func(p *plan) {
		p.cfg.Methods = []*capguardv1.MethodConfig{{Pattern: "/test.Service/*", Streaming: true}}
	}
	bubble(t, only(echo, streaming), func(t *testing.T, w *world) {
		s := w.open(t.Context())
		if got := w.accounts(); got != asStream {
			t.Errorf("on opening: %v", got)
		}
		for range 3 {
			if err := s.SendMsg(text("x")); err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if got := w.accounts(); got != asStream {
			t.Errorf("after three hours: %v", got)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := drain(s); err == nil {
			t.Error("no end after half-close")
		}
		if got := w.accounts(); got != [2]int{} {
			t.Errorf("after its end: %v", got)
		}
	})
}

func TestStreamsWithoutEndAreBounded(t *testing.T) {
	bounded := func(p *plan) {
		p.cfg.Methods = []*capguardv1.MethodConfig{{Pattern: "/test.Service/*", Streaming: true}}
		p.settings.MaxStreams = 3
	}
	bubble(t, only(hangs, bounded), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 3 {
			w.open(ctx)
		}
		synctest.Wait()
		for range 10 {
			code(t, w.open(ctx).RecvMsg(&wrapperspb.StringValue{}), codes.ResourceExhausted)
		}
		if got := w.accounts(); got != [2]int{0, 3} {
			t.Errorf("calls, streams = %v, want 0, 3", got)
		}
	})
}

func TestAStreamThatEndsWithItsDeadlineIsNoOverload(t *testing.T) {
	bubble(t, only(chatter), func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := w.open(ctx)
		if _, err := drain(s); err == nil {
			t.Error("want a deadline")
		}
		if got, want := w.counts(), (counts{ignored: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// "A slow reader cannot hold the guard's memory: flow control reaches the back-end."
func TestASlowReaderStopsTheBackend(t *testing.T) {
	var sent int
	flood := func(_ any, s grpc.ServerStream) error {
		for {
			if err := s.SendMsg(text(strings.Repeat("x", 10<<10))); err != nil {
				return err
			}
			sent += 10 << 10
		}
	}
	bubble(t, only(flood), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.open(ctx)
		synctest.Wait() // Everybody is stuck: nobody reads.
		if sent > 2<<20 {
			t.Errorf("the back-end could send %d KiB to a client that reads nothing", sent>>10)
		}
		t.Logf("sent %d KiB", sent>>10)
	})
}

func TestASlowBackendStopsTheClient(t *testing.T) {
	bubble(t, only(hangs), func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		sent := 0
		done := make(chan struct{})
		s := w.open(ctx)
		go func() {
			defer close(done)
			for s.SendMsg(text(strings.Repeat("x", 10<<10))) == nil {
				sent += 10 << 10
			}
		}()
		synctest.Wait()
		if sent > 2<<20 {
			t.Errorf("the client could send %d KiB to a back-end that reads nothing", sent>>10)
		}
		cancel()
		<-done
	})
}

// A message that the back-end has not answered is work, an idle stream none; so it is whether the configuration knows of the stream or the
// guard has to find out, and whether its messages were there when it had waited.
func TestMessagesOfStreamsAreWork(t *testing.T) {
	slowly := func(srv any, s grpc.ServerStream) error {
		for {
			m := &wrapperspb.StringValue{}
			if err := s.RecvMsg(m); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}
	for name, config := range map[string]func(*plan){"known": watches, "found out": func(*plan) {}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, only(slowly, config), func(t *testing.T, w *world) {
				work := func(want int) {
					t.Helper()
					synctest.Wait()
					if got := w.backend.Guard().Status().StreamWork; got != want {
						t.Errorf("streams have %d messages at the back-end, want %d", got, want)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := w.open(ctx)
				ask := func() {
					t.Helper()
					if err := s.SendMsg(text("x")); err != nil {
						t.Fatal(err)
					}
				}
				answer := func() {
					t.Helper()
					if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 { // Until it must have been found out.
					ask()
					answer()
				}
				work(0)
				for range 3 {
					ask()
					work(1)
					answer()
					work(0)
					time.Sleep(time.Minute)
				}
				for range 3 {
					ask()
				}
				work(3)
				answer()
				work(2)
				cancel()
				work(0)
				time.Sleep(time.Second) // Until the back-end notices.
			})
		})
	}
}
