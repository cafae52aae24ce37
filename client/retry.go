package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
)

const (
	defaultRetryRatio = 0.1
	retryBurst        = 10 // retries that quiet times can save up
	maxAttempts       = 3  // of one call, the first included
	maxRetryPause     = 5 * time.Second
	retryBackoff      = 50 * time.Millisecond // before the second attempt without a push-back; it doubles
	minJitter         = 5 * time.Millisecond
)

// budget bounds retries to a share of calls: every call saves up a part of a retry, every retry spends a whole one.
type budget struct {
	ratio float64

	mu     sync.Mutex
	tokens float64 // 0 to retryBurst
}

func newBudget(ratio float64) *budget {
	b := &budget{ratio: ratio}
	if ratio > 0 {
		b.tokens = retryBurst
	}
	return b
}

func (b *budget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.ratio, retryBurst)
}

func (b *budget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Invoke makes a unary call, with retries as the package documentation says. Generated clients call it.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.budget.deposit()
	for n := 1; ; n++ {
		a := c.attempt(ctx, method, args, reply, opts)
		d, ok := a.retryAfter(n)
		if !ok || n == maxAttempts || !inTime(ctx, d) || !c.budget.withdraw() || !pause(ctx, d) {
			return a.err
		}
		ctx = withMetadata(ctx, grpcguard.AttemptsKey, strconv.Itoa(n))
	}
}

// inTime tells whether there is time left to do anything after d.
func inTime(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > d
}

// retryAfter returns how long to wait after the nth attempt of a call before the next one; false if there should be none.
func (a answer) retryAfter(n int) (time.Duration, bool) {
	r, refused := errors.AsType[*Rejection](a.err)
	if !a.retriable(r) {
		return 0, false
	}
	d := retryBackoff << (n - 1)
	switch pushback := a.trailer[grpcguard.PushbackKey]; {
	case len(pushback) == 1:
		ms, err := strconv.ParseInt(pushback[0], 10, 32)
		if err != nil || ms < 0 {
			return 0, false
		}
		d = time.Duration(ms) * time.Millisecond
	case len(pushback) > 1 || refused: // Who says two things says nothing, and a refusal says when or means never.
		return 0, false
	}
	return d + rand.N(max(d/5, minJitter)), d <= maxRetryPause
}

// retriable tells whether another attempt is harmless and may help: the back-end did not begin to answer, and it was UNAVAILABLE, or the
// guard r refused for want of capacity. Without anybody there another attempt would only make the caller wait.
func (a answer) retriable(r *Rejection) bool {
	if _, gone := errors.AsType[*UnreachableError](a.err); gone || len(a.header) > 0 {
		return false
	}
	code := status.Code(a.err)
	return code == codes.Unavailable || code == codes.ResourceExhausted && r != nil
}
