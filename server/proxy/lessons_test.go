package proxy_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/internal/grpcguard"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Lesson: a refusal is Trailers-Only and carries code, reason and retry delay: those refusals that need some history first.
func TestRefusalsWithAHistory(t *testing.T) {
	recs := metadata.Pairs("capguard-feature", "recs")
	for want, c := range map[guard.Reason]struct {
		before func(w *world)
		md     metadata.MD
		wait   time.Duration // in line
	}{
		guard.FeatureDimmed:        {func(w *world) { switchOff(w, 0.001) }, recs, 0},
		guard.DeadlineUnreachable:  {slowUntilNow, nil, 0},
		guard.RetryBudgetExhausted: {short, metadata.Pairs("grpc-previous-rpc-attempts", "1"), 0},
		guard.QueueTimeout:         {func(w *world) { patience(w, time.Second); crowd(w) }, nil, time.Second},
	} {
		t.Run(grpcguard.ReasonName(want), func(t *testing.T) {
			watch := &headerWatch{}
			wired := func(p *plan) { p.dial = []grpc.DialOption{grpc.WithStatsHandler(watch)} }
			synctest.Test(t, func(t *testing.T) {
				w := start(t, only(upper, small, wired))
				t.Cleanup(w.stop)
				c.before(w)
				ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(t.Context(), c.md), 5*time.Second)
				defer cancel()
				began := time.Now()
				s := w.open(ctx)
				st := code(t, s.RecvMsg(&wrapperspb.StringValue{}), grpcguard.Code(want))
				checkRefusal(t, st, s.Trailer(), want)
				if waited := time.Since(began); watch.headers != 0 || waited != c.wait {
					t.Errorf("%d header blocks after %v, want none after %v", watch.headers, waited, c.wait)
				}
			})
		})
	}
}

// slowUntilNow makes the guard know that calls take ten seconds.
func slowUntilNow(w *world) {
	for range 20 {
		p, _ := w.backend.Guard().Admit(w.t.Context(), guard.Call{Method: method})
		time.Sleep(10 * time.Second)
		p.Done(guard.Success)
	}
}

// short makes the back-end full, and lets the guard notice.
func short(w *world) {
	crowd(w)
	w.backend.Guard().Admit(w.t.Context(), guard.Call{Method: method})
}

func patience(w *world, d time.Duration) {
	s := w.backend.Guard().Settings()
	s.Queue.MaxWait = d
	w.backend.Guard().Configure(s, "test", "")
}

// Lesson: ten caller cancellations, 1,000 NOT_FOUNDs, calls whose deadline had passed before sending: still closed, limit unchanged
// (flow-go #4910, gobreaker #29, go-service #3153). With the settings that everybody gets.
func TestCallersFaultsOnTheWire(t *testing.T) {
	handler := func(srv any, s grpc.ServerStream) error {
		if m, _ := grpc.MethodFromServerStream(s); m == method {
			return status.Error(codes.NotFound, "no such thing")
		}
		return hangs(srv, s)
	}
	usual := func(p *plan) { p.settings = guard.Default() }
	bubble(t, only(handler, usual), func(t *testing.T, w *world) {
		before := w.backend.Guard().Status().Limit.Limit
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			code(t, w.client.Invoke(ctx, "/test.Service/Hang", text("x"), &wrapperspb.StringValue{}), codes.Canceled)
		}
		for range 1000 {
			_, err := w.call(t.Context(), "x")
			code(t, err, codes.NotFound)
		}
		unharmed(t, w, before, counts{succeeded: 1000, ignored: 10})
	})
}

func unharmed(t *testing.T, w *world, limit int, want counts) {
	t.Helper()
	if got := w.counts(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if s := w.backend.Guard().Status(); s.Breaker.State != breaker.Closed || s.Limit.Limit != limit {
		t.Errorf("breaker %v, limit %+v; want closed, %d", s.Breaker.State, s.Limit, limit)
	}
}

// Lesson: the same for calls whose deadline had passed before they could be sent, because a connection takes its time.
func TestDeadlinesThatPassBeforeSending(t *testing.T) {
	bubble(t, only(upper, func(p *plan) { p.settings, p.backend.Dialer = guard.Default(), hole }), func(t *testing.T, w *world) {
		before := w.backend.Guard().Status().Limit.Limit
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := w.call(ctx, "x")
			code(t, err, codes.DeadlineExceeded)
			cancel()
		}
		unharmed(t, w, before, counts{ignored: 100})
	})
}

// hole is a dialer that never gets an answer.
func hole(ctx context.Context, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Lesson: a connection that there was when the endpoint was chosen, and then was not, is a refusal as any other. Here the back-end takes
// one connection, and leaves when it is called; it says that it has begun nothing.
func TestAConnectionThatFailsAfterTheChoice(t *testing.T) {
	var dialed atomic.Int64
	leaves := func(ctx context.Context, address string) (net.Conn, error) {
		if dialed.Add(1) > 1 {
			return refuse(ctx, address)
		}
		ours, theirs := net.Pipe()
		go func() { // Until ours is closed.
			_, _ = theirs.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // SETTINGS
			buf, seen := make([]byte, 4096), 0
			for seen < 120 { // Preface, SETTINGS and HEADERS.
				n, err := theirs.Read(buf)
				if err != nil {
					return
				}
				seen += n
			}
			_, _ = theirs.Write([]byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")) // GOAWAY
			_, _ = io.Copy(io.Discard, theirs)
		}()
		return ours, nil
	}
	bubble(t, only(upper, func(p *plan) { p.backend.Dialer = leaves }), func(t *testing.T, w *world) {
		time.Sleep(time.Second)
		s := w.open(t.Context())
		if err := s.SendMsg(text(strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
		st := code(t, s.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
		checkRefusal(t, st, s.Trailer(), guard.BackendUnreachable)
		if got, want := w.counts(), (counts{failed: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// Lesson: grpc-go's own failures must not surface as PERMISSION_DENIED or UNKNOWN (failsafe-go does both): whatever stands at the
// address of the back-end.
func TestABackendThatSpeaksNoGRPC(t *testing.T) {
	for name, talk := range map[string]func(net.Conn) error{
		"hangs up":            net.Conn.Close,
		"speaks HTTP/1":       says("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
		"speaks another":      says("220 mail.example ESMTP\r\n"),
		"sends only a zero":   says("\x00"),
		"is another HTTP/2":   says("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), // GOAWAY
		"closes at the frame": says("\xff\xff\xff\x04\x00\x00\x00\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			dial := func(context.Context, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() { _ = talk(theirs) }() // Until ours is closed.
				return ours, nil
			}
			bubble(t, only(upper, func(p *plan) { p.backend.Dialer = dial }), func(t *testing.T, w *world) {
				for range 5 {
					_, err := w.call(t.Context(), "x")
					code(t, err, codes.Unavailable)
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// says returns what greets its caller with a text, whatever the caller says, and hangs up a little later.
func says(greeting string) func(net.Conn) error {
	return func(c net.Conn) error {
		time.AfterFunc(100*time.Millisecond, func() { _ = c.Close() })
		go func() { _, _ = io.Copy(io.Discard, c) }() // Until c is closed.
		_, err := io.WriteString(c, greeting)
		return err
	}
}

// Lesson: the back-end's own reflection works through the data port, also when everything else is refused (mimir #5650, argo-cd #28826).
// A real reflection service and a real question, not only its method's name.
func TestTheBackendsOwnReflectionAnswers(t *testing.T) {
	bubble(t, only(upper, small), func(t *testing.T, w *world) {
		w.net.reflecting("10.0.0.1:80")
		time.Sleep(3 * time.Second) // Until it is connected again.
		w.backend.Guard().ForceBreaker(breaker.Override{State: breaker.ForcedOpen})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := reflectionv1.NewServerReflectionClient(w.client).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
		if err := s.Send(ask); err != nil {
			t.Fatal(err)
		}
		answer, err := s.Recv()
		if err != nil || !strings.Contains(answer.String(), "grpc.reflection.v1.ServerReflection") {
			t.Errorf("answer %v, %v", answer, err)
		}
		if got := w.backend.Guard().Status().Totals; got != (guard.Totals{}) {
			t.Errorf("it was counted: %+v", got)
		}
	})
}

// reflecting puts a server with nothing but reflection at an address.
func (n *network) reflecting(address string) {
	n.kill(address)
	lis, server := bufconn.Listen(1<<16), grpc.NewServer()
	reflection.Register(server)
	go func() { _ = server.Serve(lis) }() // Until Stop.
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[address] = &node{lis, server}
}
