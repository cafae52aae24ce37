package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
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
)

// open opens a stream and sends one message.
func open(t *testing.T, c *client.Conn, ctx context.Context) grpc.ClientStream {
	t.Helper()
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/shop.Shop/Watch")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.String("ann")), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestDialTellsAllFaultsAtOnce(t *testing.T) {
	_, err := client.Dial("", client.WithAdmin(""), client.WithTLS(nil), client.WithRetryRatio(1.1), client.WithLogger(nil))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"the address is empty", "WithAdmin", "WithTLS", "WithRetryRatio: 1.1", "WithLogger"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not tell of %s", err, want)
		}
	}
}

func TestDialRefusesTargetsThatAreNone(t *testing.T) {
	for _, opts := range [][]client.Option{nil, {client.WithAdmin("dns://%zz")}} {
		target := "dns://%zz"
		if opts != nil {
			target = "127.0.0.1:7070"
		}
		if c, err := client.Dial(target, opts...); err == nil {
			c.Close()
			t.Errorf("target %q was accepted", target)
		}
	}
}

// If the guard dies, calls fail fast with a clear error; when it returns, so do they.
func TestCallsFailFastWhileTheGuardIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		shop := Shop{c}
		if _, err := shop.Recommend(t.Context(), new(Customer)); err != nil {
			t.Fatal(err)
		}
		s.close()
		synctest.Wait()
		for range 100 {
			begun := time.Now()
			_, err := shop.Recommend(t.Context(), new(Customer))
			gone, ok := errors.AsType[*client.UnreachableError](err)
			if !ok || gone.Sent || gone.Address != "127.0.0.1:7070" || status.Code(err) != codes.Unavailable {
				t.Fatalf("error %v", err)
			}
			if waited := time.Since(begun); waited > 0 {
				t.Fatalf("a call waited %v for a dead guard", waited)
			}
			time.Sleep(time.Second)
		}
		s.revive()
		t.Cleanup(s.close)
		settle(4 * time.Second)
		if _, err := shop.Recommend(t.Context(), new(Customer)); err != nil {
			t.Errorf("after the return: %v", err)
		}
	})
}

// An address where nothing answers, not even with a refusal, must not hold calls for the twenty seconds that gRPC gives it.
func TestCallsDoNotWaitLongForABlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hole := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c, err := client.Dial("127.0.0.1:7070", client.WithAdmin("127.0.0.1:7071"), client.WithDialer(hole), client.WithLogger(quiet(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		_, err = Shop{c}.Recommend(t.Context(), new(Customer))
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || time.Since(begun) > 3*time.Second {
			t.Errorf("first call: %v after %v", err, time.Since(begun))
		}
		begun = time.Now()
		_, err = Shop{c}.Recommend(t.Context(), new(Customer))
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || time.Since(begun) > 0 {
			t.Errorf("second call: %v after %v", err, time.Since(begun))
		}
		settle(time.Minute)
		if c.Health().Live {
			t.Error("live without a guard")
		}
	})
}

// swallowed is a connection that, once hole is closed, takes everything and gives nothing: the machine at its other end has vanished.
type swallowed struct {
	net.Conn
	hole, closed chan struct{}
	once         sync.Once
}

func (s *swallowed) gone() bool {
	select {
	case <-s.hole:
		return true
	default:
		return false
	}
}

func (s *swallowed) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.gone() {
		return n, err
	}
	<-s.closed
	return 0, net.ErrClosed
}

func (s *swallowed) Write(p []byte) (int, error) {
	if s.gone() {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (s *swallowed) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// A guard whose machine vanishes without a word must not hold calls without a deadline, nor make flags look fresh.
func TestCallsDoNotWaitForAGuardThatVanished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		t.Cleanup(s.close)
		hole := make(chan struct{})
		c := s.connect(t, client.WithDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := s.dial(ctx, address)
			return &swallowed{Conn: conn, hole: hole, closed: make(chan struct{})}, err
		}))
		if _, err := (Shop{c}).Recommend(t.Context(), new(Customer)); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		close(hole)
		begun := time.Now()
		_, err := Shop{c}.Recommend(t.Context(), new(Customer))
		if gone, ok := errors.AsType[*client.UnreachableError](err); !ok || !gone.Sent || time.Since(begun) > 20*time.Second {
			t.Errorf("call: %v after %v", err, time.Since(begun))
		}
		settle(15 * time.Second)
		if h := c.Health(); h.Live {
			t.Errorf("after three heartbeats: %+v", h)
		}
	})
}

// A deadline that ends while the first connection is still being made tells of the guard, not only of time.
func TestDeadlineWhileConnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hole := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c, err := client.Dial("127.0.0.1:7070", client.WithDialer(hole))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = Shop{c}.Recommend(ctx, new(Customer))
		if _, ok := errors.AsType[*client.UnreachableError](err); !ok || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v", err)
		}
	})
}

// A deadline that ends while the back-end works is the back-end's, not the guard's absence.
func TestDeadlineAtTheBackEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			<-stream.Context().Done()
			return status.FromContextError(stream.Context().Err()).Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Shop{c}.Recommend(ctx, new(Customer))
		if _, gone := errors.AsType[*client.UnreachableError](err); gone || status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v", err)
		}
	})
}

// Close in the middle of everything leaves no goroutine (the bubble would fail), harms nobody who closes twice, and keeps the flags.
func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t, client.WithFlagFile(t.TempDir()+"/flags"))
		recs := c.Feature("recs")
		s.set(until(off("recs"), time.Hour))
		settle(0)
		s.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
			<-stream.Context().Done()
			return nil
		})
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				if _, err := (Shop{c}).Recommend(t.Context(), new(Customer)); status.Code(err) != codes.Canceled {
					t.Errorf("call in flight: %v", err)
				}
			})
		}
		synctest.Wait()
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		calls.Wait()
		if _, err := (Shop{c}).Recommend(t.Context(), new(Customer)); status.Code(err) != codes.Canceled {
			t.Errorf("call after Close: %v", err)
		}
		settle(2 * time.Hour)
		wantOn(t, recs, false)
	})
}

// TLS and gRPC options reach the connections they are for: here a server without TLS meets a client with it.
func TestTLSIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := dialed(t, client.WithTLS(&tls.Config{ServerName: "guard"}), client.WithLogger(slog.New(slog.DiscardHandler)))
		_, err := Shop{c}.Recommend(t.Context(), new(Customer))
		if gone, ok := errors.AsType[*client.UnreachableError](err); !ok || !strings.Contains(gone.Error(), "handshake") {
			t.Errorf("error %v", err)
		}
		settle(time.Second)
		if h := c.Health(); h.Live {
			t.Error("the admin port was reached without TLS")
		}
	})
}

func TestGRPCOptionsSeeEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		count := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			attempts++
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		s, c := dialed(t, client.WithGRPC(grpc.WithChainUnaryInterceptor(count)))
		s.answers(func(grpc.ServerStream, metadata.MD, string) error { return errDown })
		if _, err := (Shop{c}).Recommend(t.Context(), new(Customer)); status.Code(err) != codes.Unavailable || attempts != 3 {
			t.Errorf("%d attempts, %v", attempts, err)
		}
	})
}
