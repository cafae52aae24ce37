package e2e_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// watchedBackend counts the calls of the feature that reach it, and those that reach it while they may not.
type watchedBackend struct {
	fragilev1.UnimplementedStockServiceServer
	forbidden      atomic.Bool // the answer to DisableFlag has come
	reached, wrong atomic.Int64
}

func (b *watchedBackend) Recommend(context.Context, *fragilev1.RecommendRequest) (*fragilev1.RecommendResponse, error) {
	b.reached.Add(1)
	if b.forbidden.Load() {
		b.wrong.Add(1)
	}
	return &fragilev1.RecommendResponse{}, nil
}

// TestOffMeansOff sends calls from 64 goroutines while the flag flips through the admin API. Not one call reaches the back-end between the
// answer to DisableFlag and the next EnableFlag. With the race detector it sends a twentieth.
func TestOffMeansOff(t *testing.T) {
	total := int64(1_000_000)
	if raceEnabled {
		total /= 20
	}
	backend := new(watchedBackend)
	g := inProcess(t, serveStock(t, backend))
	flags := capguardv1.NewFlagServiceClient(dial(t, g.AdminAddr()))
	ctx, finished := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs"))
	var sent, refused atomic.Int64
	var callers sync.WaitGroup
	conns := []*grpc.ClientConn{dial(t, g.Addr()), dial(t, g.Addr()), dial(t, g.Addr()), dial(t, g.Addr())}
	for i := range 64 {
		stock := fragilev1.NewStockServiceClient(conns[i%len(conns)])
		callers.Go(func() {
			for sent.Add(1) <= total {
				if _, err := stock.Recommend(ctx, &fragilev1.RecommendRequest{}); status.Code(err) == codes.FailedPrecondition {
					refused.Add(1)
				}
			}
		})
	}
	flips := make(chan int)
	go func() { flips <- flip(ctx, t, flags, backend) }()
	callers.Wait()
	finished()
	n := <-flips
	t.Logf("%d calls under %d flips: %d reached the back-end, %d were refused, %d reached it after the answer", total, n, backend.reached.Load(),
		refused.Load(), backend.wrong.Load())
	if backend.wrong.Load() > 0 {
		t.Errorf("%d calls reached the back-end after the answer to DisableFlag", backend.wrong.Load())
	}
	if n < 10 || refused.Load() == 0 || backend.reached.Load() == 0 {
		t.Error("the test has shown nothing: too few flips, or calls of one kind only")
	}
}

// flip switches the feature off and on until ctx ends, and returns how often it was off.
func flip(ctx context.Context, t *testing.T, flags capguardv1.FlagServiceClient, b *watchedBackend) (n int) {
	must := func(err error) {
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	for ctx.Err() == nil {
		_, err := flags.DisableFlag(ctx, &capguardv1.DisableFlagRequest{Name: "recs", AllowMissing: true})
		must(err)
		if err != nil {
			return n
		}
		b.forbidden.Store(true)
		n++
		stay(ctx, flags, 50)
		b.forbidden.Store(false)
		_, err = flags.EnableFlag(ctx, &capguardv1.EnableFlagRequest{Name: "recs"})
		must(err)
		stay(ctx, flags, 100)
	}
	return n
}

// stay lets some time pass, measured in answers of the guard, so that it grows with the load.
func stay(ctx context.Context, flags capguardv1.FlagServiceClient, answers int) {
	for range answers {
		if _, err := flags.GetFlag(ctx, &capguardv1.GetFlagRequest{Name: "recs"}); err != nil {
			return
		}
	}
}
