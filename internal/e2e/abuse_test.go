package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/capguard/capguard/client"
	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// grew checks that g has not taken more than so much memory since it had before. The binary has the race detector in it, which multiplies
// what each goroutine and each word needs: the bounds are far above what is needed, and far below what the abuse asks for.
func (g guardProcess) grew(t *testing.T, before, most int) {
	t.Helper()
	now := g.memory(t, "VmRSS")
	t.Logf("resident: %d MiB before, %d MiB now", before>>20, now>>20)
	if now-before > most {
		t.Errorf("the guard has grown from %d to %d MiB, want at most %d more", before>>20, now>>20, most>>20)
	}
}

// serveOdd serves a back-end that answers Check, and every other method with handle.
func serveOdd(t *testing.T, handle grpc.StreamHandler) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(handle))
	fragilev1.RegisterStockServiceServer(s, quickStock{})
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

var anyStream = grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// open opens a stream and asks for its answer.
func open(ctx context.Context, conn *grpc.ClientConn, method string) (grpc.ClientStream, error) {
	s, err := conn.NewStream(ctx, &anyStream, method)
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.SendMsg(&fragilev1.CheckRequest{}), s.CloseSend())
}

// Clients that stop reading stop the back-end after the windows of flow control are full; the guard keeps no more than those.
func TestClientsThatStopReading(t *testing.T) {
	const streams, message = 30, 32 << 10
	var sent atomic.Int64
	flood := func(_ any, s grpc.ServerStream) error {
		m := &fragilev1.CheckRequest{Sku: strings.Repeat("x", message)}
		for {
			if err := s.SendMsg(m); err != nil {
				return err
			}
			sent.Add(message)
		}
	}
	g := serve(t, nil, serveOdd(t, flood))
	g.served(t)
	before := g.memory(t, "VmRSS")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := dial(t, g.data, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(16<<20))
	for range streams {
		s, err := open(ctx, conn, "/shop.Stock/Flood")
		if err == nil {
			err = s.RecvMsg(new(fragilev1.CheckRequest))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	last, quiet := int64(-1), 0
	until(t, "the back-end stops", func() bool {
		now := sent.Load()
		if quiet++; now != last {
			quiet = 0
		}
		last = now
		return quiet == 25 // half a second without a byte
	})
	if most := int64(streams * 2 << 20); sent.Load() > most {
		t.Errorf("the back-end could send %d MiB to %d clients that do not read", sent.Load()>>20, streams)
	}
	g.grew(t, before, 200<<20)
	g.served(t)
	cancel()
	g.settled(t)
}

// Streams without end, over one connection and over many, are refused beyond the bounds; the others go on.
func TestStreamsWithoutEnd(t *testing.T) {
	g := serve(t, nil, serveOdd(t, func(_ any, s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}))
	g.served(t)
	before := g.memory(t, "VmRSS")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var refused atomic.Int64
	var callers sync.WaitGroup
	for _, calls := range []int{2000, 100, 100, 100, 100, 100, 100} {
		conn := dial(t, g.data)
		for range calls {
			callers.Go(func() {
				if s, err := open(ctx, conn, "/shop.Stock/Watch"); err == nil && s.RecvMsg(new(fragilev1.CheckResponse)) != nil && ctx.Err() == nil {
					refused.Add(1)
				}
			})
		}
	}
	until(t, "what is beyond the bounds is refused", func() bool { return refused.Load() > 1000 })
	g.grew(t, before, 400<<20)
	cancel()
	callers.Wait()
	g.settled(t)
	g.served(t)
}

// Names that clients invent, without end and of every kind, neither fill the memory nor spoil the metrics.
func TestInventedNamesWithoutEnd(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	g.served(t)
	before := g.memory(t, "VmRSS")
	var callers sync.WaitGroup
	for i := range 4 {
		conn := dial(t, g.data)
		callers.Go(func() {
			for j := range 1000 {
				name := fmt.Sprintf("%d-%d", i, j)
				ctx := metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", name, "capguard-tenant", name)
				method := "/shop.S" + name + "/" + strings.Repeat("m", 100)
				if j%100 == 0 {
					method = "/" + name + "\xff/" + strings.Repeat("long", 5000)
				}
				_ = conn.Invoke(ctx, method, &fragilev1.CheckRequest{}, new(fragilev1.CheckResponse))
			}
		})
	}
	callers.Wait()
	g.grew(t, before, 300<<20)
	g.served(t)
	if text := g.metrics(t); len(text) > 8<<20 || !strings.Contains(text, `rpc_method="`+checkMethod) {
		t.Errorf("the metrics have %d KiB:\n%s", len(text)>>10, text[:min(1000, len(text))])
	}
	if _, err := g.flags(t).DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "3-999"}); err != nil {
		t.Errorf("the last of many features can not be switched: %v", err)
	}
	g.settled(t)
}

// A back-end that accepts connections and never says a word is unreachable, and is said to be: within bounds, to each of a crowd.
func TestABackendThatAcceptsAndNeverSpeaks(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() }) // its backlog accepts; nobody reads
	g := serve(t, nil, lis.Addr().String())
	before := g.memory(t, "VmRSS")
	stock := fragilev1.NewStockServiceClient(dial(t, g.data))
	var callers sync.WaitGroup
	var unreachable atomic.Int64
	for range 200 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			_, err := stock.Check(ctx, &fragilev1.CheckRequest{Sku: "tree"})
			r, ok := client.Rejected(err)
			switch {
			case !ok:
				t.Errorf("Check = %v, want a refusal", err)
			case r.Reason == client.BackendUnreachable:
				unreachable.Add(1)
			}
		})
	}
	callers.Wait()
	if unreachable.Load() == 0 {
		t.Error("nobody was told that the back-end is unreachable")
	}
	g.grew(t, before, 100<<20)
	g.settled(t)
}
