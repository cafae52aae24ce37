package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/capguard/capguard/internal/grpcguard"
)

const (
	maxRetryPause = 5 * time.Second // a longer push-back is left to the application
	minJitter     = 5 * time.Millisecond
)

// The policy of methods for which the service config has none.
const (
	maxAttempts  = 3 // of one call, the first included
	retryBackoff = 50 * time.Millisecond
	maxBackoff   = time.Second
)

// Invoke makes a unary call, with retries as the package documentation says. Generated clients call it.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	begun := time.Now()
	a := c.attempt(ctx, method, args, reply, opts)
	if a.err == nil {
		c.throttle.succeeded(c.throttling)
		return nil
	}
	r := c.retries(method)
	ctx, cancel := r.bound(ctx, begun)
	defer cancel()
	for n := 1; a.err != nil; n++ {
		d, ok := r.after(a)
		if !ok || n >= r.attempts || !inTime(ctx, d) || !pause(ctx, d) {
			return a.err
		}
		a = c.attempt(withMetadata(ctx, grpcguard.AttemptsKey, strconv.Itoa(n)), method, args, reply, opts)
	}
	c.throttle.succeeded(c.throttling)
	return nil
}

// inTime tells whether there is time left to do anything after d.
func inTime(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > d
}

// retries are those of one call that has failed, by the policy of its method.
type retries struct {
	conn     *Conn
	attempts int           // most, the first included
	timeout  time.Duration // of the call, all its attempts together; 0 is none
	codes    map[codes.Code]bool
	backoff  time.Duration // before the next attempt, if nobody says when
	first    time.Duration // backoff at first, and again after a push-back
	most     time.Duration // backoff at most
	growth   float64
}

// retries returns the policy for a method: that of the service config, whoever brought it, or else our own. gRPC has bounded the attempts.
func (c *Conn) retries(method string) *retries {
	r := &retries{
		conn: c, attempts: maxAttempts, codes: map[codes.Code]bool{codes.Unavailable: true},
		first: retryBackoff, most: maxBackoff, growth: 2,
	}
	config := c.data.GetMethodConfig(method)
	if config.Timeout != nil {
		r.timeout = *config.Timeout
	}
	if p := config.RetryPolicy; p != nil {
		r.attempts, r.codes = p.MaxAttempts, p.RetryableStatusCodes
		r.first, r.most, r.growth = min(p.InitialBackoff, p.MaxBackoff), p.MaxBackoff, p.BackoffMultiplier
	}
	r.backoff = r.first
	return r
}

// bound lets the timeout of the service config count for the call as a whole: gRPC gives it to each attempt.
func (r *retries) bound(ctx context.Context, begun time.Time) (context.Context, context.CancelFunc) {
	if r.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, begun.Add(r.timeout))
}

// after returns how long to wait after a failed attempt before the next one; false if there should be none. It tells the throttle.
func (r *retries) after(a answer) (time.Duration, bool) {
	pushback, told := a.pushback()
	if !r.failure(a, told && pushback < 0) || !r.conn.throttle.failed(r.conn.throttling) {
		return 0, false
	}
	if _, gone := errors.AsType[*UnreachableError](a.err); gone { // Waiting for nobody helps nobody.
		return 0, false
	}
	if !told {
		return r.pause(), true
	}
	r.backoff = r.first
	return pushback + rand.N(max(pushback/5, minJitter)), 0 <= pushback && pushback <= maxRetryPause
}

// failure tells whether an answer counts as a failure, which are those that another attempt might mend, and those whose server had rather
// not be asked again. The refusals of a flag are an operator's will, and tell nothing of the back-end.
func (r *retries) failure(a answer, never bool) bool {
	refusal, refused := errors.AsType[*Rejection](a.err)
	switch {
	case len(a.header) > 0: // It had begun to answer.
		return false
	case refused && (refusal.Reason == FeatureOff || refusal.Reason == FeatureDimmed):
		return false
	case never:
		return true
	}
	code := status.Code(a.err)
	return r.codes[code] || refused && (code == codes.ResourceExhausted || code == codes.Unavailable)
}

// pause returns the next back-off, half to one and a half of it: as much spread as wait.
func (r *retries) pause() time.Duration {
	d := r.backoff
	r.backoff = time.Duration(min(float64(r.backoff)*r.growth, float64(r.most)))
	return d/2 + rand.N(d+1)
}

// pushback returns when the server wants to be asked again, negative for never, or false if it does not say. A refusal says when or means
// never; who says two things, or what nobody understands, means never.
func (a answer) pushback() (time.Duration, bool) {
	values := a.trailer[grpcguard.PushbackKey]
	if len(values) == 0 {
		_, refused := errors.AsType[*Rejection](a.err)
		return -1, refused
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	if len(values) > 1 || err != nil {
		return -1, true
	}
	return time.Duration(ms) * time.Millisecond, true
}
