package e2e_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// busyStock takes its time, and counts.
type busyStock struct {
	fragilev1.UnimplementedStockServiceServer
	took               time.Duration
	began, cut, inside atomic.Int64
	most               atomic.Int64
}

func (b *busyStock) Check(ctx context.Context, _ *fragilev1.CheckRequest) (*fragilev1.CheckResponse, error) {
	b.began.Add(1)
	if n := b.inside.Add(1); n > b.most.Load() {
		b.most.Store(n)
	}
	defer b.inside.Add(-1)
	select {
	case <-time.After(b.took):
		return &fragilev1.CheckResponse{Quantity: 7}, nil
	case <-ctx.Done():
		b.cut.Add(1)
		return nil, ctx.Err()
	}
}

// tallies counts the ends of calls.
type tallies struct {
	mu     sync.Mutex
	byCode map[codes.Code]int64
}

func (c *tallies) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byCode[status.Code(err)]++
}

func (c *tallies) of(code codes.Code) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byCode[code]
}

// crowd lets n callers call Check, one call after the other with a short pause, until ctx ends.
func crowd(ctx context.Context, t *testing.T, address string, n int) (*tallies, *sync.WaitGroup) {
	t.Helper()
	c, callers := &tallies{byCode: make(map[codes.Code]int64)}, new(sync.WaitGroup)
	conns := []*grpc.ClientConn{dial(t, address), dial(t, address), dial(t, address), dial(t, address)}
	for i := range n {
		stock := fragilev1.NewStockServiceClient(conns[i%len(conns)])
		callers.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			for ctx.Err() == nil {
				// Its own time, not that of ctx: a call that the end of the test cuts would look like one that the guard cut.
				call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				_, err := stock.Check(call, &fragilev1.CheckRequest{Sku: "tree"})
				cancel()
				c.add(err)
				<-pause.C
			}
		})
	}
	return c, callers
}

// The operator is heard while the data path is as full as can be, and what is answered is in force.
func TestDisableFlagWhileTheDataPathIsSaturated(t *testing.T) {
	b := &busyStock{took: 50 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b))
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"))
	defer cancel()
	got, callers := crowd(ctx, t, g.data, 256)
	until(t, "calls are refused because the back-end is full", func() bool { return got.of(codes.ResourceExhausted) > 100 })
	flags := g.flags(t)
	var worst time.Duration
	for range 5 {
		began := time.Now()
		if _, err := flags.DisableFlag(t.Context(), &capguardv1.DisableFlagRequest{Name: "recs", Reason: "INC-4821"}); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, time.Since(began))
		off := got.of(codes.FailedPrecondition)
		until(t, "calls are refused because the feature is off", func() bool { return got.of(codes.FailedPrecondition) > off })
		if _, err := flags.EnableFlag(t.Context(), &capguardv1.EnableFlagRequest{Name: "recs"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("slowest DisableFlag: %v", worst)
	if worst > 5*time.Second { // the guard itself gives up waiting for the back-end after one
		t.Errorf("DisableFlag took %v", worst)
	}
	cancel()
	callers.Wait()
	g.settled(t)
}

// SIGTERM under load, even twice, ends the guard without cutting one admitted call: every call that reached the back-end was answered.
func TestSIGTERMUnderLoadCutsNoAdmittedCall(t *testing.T) {
	b := &busyStock{took: 200 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, callers := crowd(ctx, t, g.data, 64)
	until(t, "calls are answered", func() bool { return got.of(codes.OK) > 50 && b.inside.Load() > 0 })
	for range 2 {
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.wait(t, 20*time.Second); err != nil {
		t.Errorf("the guard ended with %v", err)
	}
	cancel()
	callers.Wait()
	if ok := got.of(codes.OK); ok != b.began.Load() || b.cut.Load() > 0 {
		t.Errorf("%d calls reached the back-end, %d were answered, %d were cut: %v", b.began.Load(), ok, b.cut.Load(), got.byCode)
	}
}

// A caller that takes its time to send its request speaks for itself alone: the limit of its method stays in force for the others.
func TestASlowCallerDoesNotLiftTheLimit(t *testing.T) {
	b := &busyStock{took: 100 * time.Millisecond}
	g := serve(t, nil, serveStock(t, b), "--config", limitedTo(t, 4))
	g.served(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := dial(t, g.data).NewStream(ctx, &anyStream, checkMethod); err != nil {
		t.Fatal(err)
	}
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	until(t, "the slow call is taken for a stream", func() bool {
		resp, err := guards.GetBackend(t.Context(), &capguardv1.GetBackendRequest{})
		return err == nil && resp.GetBackend().GetOpenStreams() == 1
	})
	short, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	_, callers := crowd(short, t, g.data, 64)
	callers.Wait()
	if most := b.most.Load(); most > 4 {
		t.Errorf("%d calls were at the back-end at once, the limit is 4", most)
	}
	cancel()
	g.settled(t)
}

// limitedTo writes a configuration with a fixed limit and nothing else.
func limitedTo(t *testing.T, n int) string {
	t.Helper()
	return configFile(t, fmt.Sprintf("backends: [{targets: [\"127.0.0.1:1\"], limit: {law: fixed, initial: %d}}]\n", n))
}
