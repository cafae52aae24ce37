package e2e_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
)

// bystander makes honest calls on a connection of its own, at a steady rate, whatever others do.
type bystander struct {
	stock fragilev1.StockServiceClient
	calls sync.WaitGroup
	end   func() // returns when the last call has ended

	mu     sync.Mutex
	took   []time.Duration
	failed []error
}

// How often a bystander calls, and how long it waits for an answer.
const (
	bystanderPause    = 10 * time.Millisecond
	bystanderPatience = 10 * time.Second
)

func newBystander(t *testing.T, address string, options ...grpc.DialOption) *bystander {
	t.Helper()
	b := &bystander{stock: fragilev1.NewStockServiceClient(dial(t, address, options...))}
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	b.end = func() {
		cancel()
		task.Wait()
		b.calls.Wait()
	}
	task.Go(func() { b.run(ctx) }) // Ends with ctx.
	t.Cleanup(b.end)
	return b
}

// run begins a call at each tick, and does not wait for its answer: what is late must not keep others from being late.
func (b *bystander) run(ctx context.Context) {
	tick := time.NewTicker(bystanderPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.calls.Go(b.call)
		case <-ctx.Done():
			return
		}
	}
}

func (b *bystander) call() {
	ctx, cancel := context.WithTimeout(context.Background(), bystanderPatience)
	defer cancel()
	began := time.Now()
	_, err := b.stock.Check(ctx, &fragilev1.CheckRequest{Sku: "tree"})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = append(b.took, time.Since(began))
	if err != nil {
		b.failed = append(b.failed, err)
	}
}

// sample is what a bystander has met in some time.
type sample struct {
	calls  int
	p99    time.Duration
	failed []error
}

// sample returns what b has met since the last sample.
func (b *bystander) sample() sample {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := sample{calls: len(b.took), failed: b.failed}
	if slices.Sort(b.took); s.calls > 0 {
		s.p99 = b.took[s.calls*99/100]
	}
	b.took, b.failed = nil, nil
	return s
}
