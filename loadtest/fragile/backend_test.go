package fragile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	"github.com/capguard/capguard/loadtest/fragile"
)

// port is an address in memory that can be listened on again.
type port struct {
	mu  sync.Mutex
	lis *bufconn.Listener
}

func (p *port) listen() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lis = bufconn.Listen(1 << 16)
	return p.lis, nil
}

func (p *port) dial(ctx context.Context, _ string) (net.Conn, error) {
	p.mu.Lock()
	lis := p.lis
	p.mu.Unlock()
	return lis.DialContext(ctx)
}

// served runs f in a bubble with a served back-end and a connection to it, and cleans up.
func served(t *testing.T, s fragile.Settings, f func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn)) {
	synctest.Test(t, func(t *testing.T) {
		b, err := fragile.NewBackend(s)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var p port
		ended := make(chan error)
		go func() { ended <- b.Serve(ctx, p.listen) }() // waited for below
		synctest.Wait()
		cc, err := grpc.NewClient("passthrough:fragile", grpc.WithContextDialer(p.dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		f(t, b, cc)
		cc.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
}

func fixed() fragile.Settings {
	s := fragile.Brittle()
	s.CV = 0
	return s
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

func TestUnaryCallsCostTheirWork(t *testing.T) {
	served(t, fixed(), func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn) {
		stock := fragilev1.NewStockServiceClient(cc)
		begin := time.Now()
		check, err := stock.Check(t.Context(), &fragilev1.CheckRequest{Sku: "kettle"})
		if took := time.Since(begin); err != nil || check.GetSku() != "kettle" || took != 20*time.Millisecond {
			t.Errorf("Check: %v, %v after %v", check, err, took)
		}
		begin = time.Now()
		recs, err := stock.Recommend(t.Context(), &fragilev1.RecommendRequest{Sku: "kettle"})
		if took := time.Since(begin); err != nil || len(recs.GetSkus()) == 0 || took != 100*time.Millisecond {
			t.Errorf("Recommend: %v, %v after %v", recs, err, took)
		}
		for _, w := range []float64{-1, 101} {
			_, err := stock.Recommend(t.Context(), &fragilev1.RecommendRequest{Weight: w})
			wantCode(t, "absurd weight", err, codes.InvalidArgument)
		}
		if n := b.Received(fragilev1.StockService_Recommend_FullMethodName); n != 3 {
			t.Errorf("%d calls of Recommend received, want 3", n)
		}
	})
}

func TestStreamSendsAtItsInterval(t *testing.T) {
	served(t, fixed(), func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn) {
		req := &fragilev1.WatchRequest{Interval: durationpb.New(time.Minute), Messages: 3}
		stream, err := fragilev1.NewStockServiceClient(cc).Watch(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := range 3 {
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(begin), time.Duration(i)*time.Minute+time.Duration(i+1)*5*time.Millisecond; got != want {
				t.Errorf("message %d came after %v, want %v", i, got, want)
			}
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the end is %v", err)
		}
	})
}

func TestCrashCutsCallsAndRefusesConnections(t *testing.T) {
	served(t, fixed(), func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn) {
		stock := fragilev1.NewStockServiceClient(cc)
		stream, err := stock.Watch(t.Context(), &fragilev1.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := stock.Recommend(t.Context(), &fragilev1.RecommendRequest{})
			wantCode(t, "a call in flight", err, codes.Unavailable)
		})
		time.Sleep(50 * time.Millisecond)
		b.Crash()
		wg.Wait()
		for err == nil {
			_, err = stream.Recv()
		}
		wantCode(t, "an open stream", err, codes.Unavailable)
		time.Sleep(time.Second)
		_, err = stock.Check(t.Context(), &fragilev1.CheckRequest{})
		wantCode(t, "a call to the dead", err, codes.Unavailable)
		time.Sleep(5 * time.Second)
		_, err = stock.Check(t.Context(), &fragilev1.CheckRequest{}, grpc.WaitForReady(true))
		wantCode(t, "a call after the restart", err, codes.OK)
	})
}

func TestFullQueueIsResourceExhausted(t *testing.T) {
	s := fixed()
	s.Workers, s.MaxQueue = 1, 0
	served(t, s, func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn) {
		stock := fragilev1.NewStockServiceClient(cc)
		var wg sync.WaitGroup
		wg.Go(func() { stock.Check(t.Context(), &fragilev1.CheckRequest{}) })
		time.Sleep(5 * time.Millisecond)
		_, err := stock.Check(t.Context(), &fragilev1.CheckRequest{})
		wantCode(t, "the call too many", err, codes.ResourceExhausted)
		wg.Wait()
	})
}

func TestHealthAndReflectionCostNothing(t *testing.T) {
	served(t, fixed(), func(t *testing.T, b *fragile.Backend, cc *grpc.ClientConn) {
		h, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health: %v, %v", h, err)
		}
		info, err := reflectpb.NewServerReflectionClient(cc).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list := &reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}
		if err := info.Send(list); err != nil {
			t.Fatal(err)
		}
		answer, err := info.Recv()
		if err != nil || len(answer.GetListServicesResponse().GetService()) < 3 {
			t.Errorf("reflection: %v, %v", answer, err)
		}
		info.CloseSend()
		if st := b.Stats(); st.Arrived != 0 {
			t.Errorf("%d units of work were asked for", st.Arrived)
		}
	})
}

func TestServeTellsWhyItCannotListen(t *testing.T) {
	b, err := fragile.NewBackend(fragile.Default())
	if err != nil {
		t.Fatal(err)
	}
	taken := errors.New("address in use")
	if err := b.Serve(t.Context(), func() (net.Listener, error) { return nil, taken }); !errors.Is(err, taken) {
		t.Errorf("Serve returned %v", err)
	}
}

// TestStoppedBeforeItBegan: a listener that was opened beforehand is closed all the same.
func TestStoppedBeforeItBegan(t *testing.T) {
	b, err := fragile.NewBackend(fragile.Default())
	if err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Serve(ctx, func() (net.Listener, error) { return lis, nil }); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := lis.DialContext(t.Context()); err == nil {
		t.Error("the listener is still open")
	}
}

// TestRealPortIsTakenAgain is the one test with a real socket: after a crash the same port is listened on again.
func TestRealPortIsTakenAgain(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, next := lis.Addr().String(), fragile.Relisten(lis)
	for range 3 {
		lis, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if got := lis.Addr().String(); got != addr {
			t.Errorf("listens on %s, want %s", got, addr)
		}
		lis.Close()
	}
}

func TestRun(t *testing.T) {
	out := &bytes.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fragile.Run(ctx, fragile.Options{Settings: fragile.Default(), Listen: "127.0.0.1:0", Out: out}); err != nil {
		t.Errorf("stopped at once: %v", err)
	}
	if err := fragile.Run(ctx, fragile.Options{Settings: fragile.Default(), Listen: "nowhere", Out: out}); err == nil {
		t.Error("served nowhere")
	}
	if err := fragile.Run(ctx, fragile.Options{Listen: "127.0.0.1:0", Out: out}); err == nil {
		t.Error("served the zero settings")
	}
	if out.String() == "" {
		t.Error("nothing was told")
	}
}
