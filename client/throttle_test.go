package client_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/capguard/capguard/client"
	"github.com/capguard/capguard/internal/guard"
)

// calls makes n calls one after the other and returns how many attempts the server saw.
func calls(t *testing.T, s *site, c *client.Conn, n int) int {
	t.Helper()
	before := len(s.received())
	for range n {
		Shop{c}.Recommend(t.Context(), new(Customer))
	}
	return len(s.received()) - before
}

// mended fails first attempts and answers retries.
func mended(stream grpc.ServerStream, md metadata.MD, _ string) error {
	if len(md.Get("grpc-previous-rpc-attempts")) == 0 {
		return errDown
	}
	return stream.SendMsg(new(Books))
}

// The token bucket is that of gRFC A6: attempts for each of its rules, from what a single Conn does.
func TestThrottle(t *testing.T) {
	for name, test := range map[string]struct {
		opts     []client.Option
		before   int // calls that succeed
		answer   handler
		calls    int
		attempts int
	}{
		// Nine failures leave 11 of 20 tokens, the tenth leaves half: 3 calls of 3 attempts.
		"when all fails, retries end after nine failures": {nil, 0, failing(codes.Unavailable, "0"), 400, 406},
		"quiet times save up no more":                     {nil, 500, failing(codes.Unavailable, "0"), 400, 406},
		"negative push-backs are failures":                {nil, 0, failing(codes.Unavailable, "-1"), 400, 400},
		"no retries":                                      {[]client.Option{client.WithRetryRatio(0)}, 0, mended, 100, 100},
		// A call that its retry mends takes a token and brings a part of one. When retries end here, so do successes, and with them tokens.
		"mended calls, an eighth":  {[]client.Option{client.WithRetryRatio(0.125)}, 0, mended, 400, 411},
		"mended calls, all":        {[]client.Option{client.WithRetryRatio(1)}, 0, mended, 400, 800},
		"a smaller bucket":         {[]client.Option{throttled(`{"maxTokens":4,"tokenRatio":0.1}`)}, 0, failing(codes.Unavailable, "0"), 40, 41},
		"the last word: ratio":     {[]client.Option{throttled(`{"maxTokens":4,"tokenRatio":0.1}`), client.WithRetryRatio(0)}, 0, mended, 40, 40},
		"the last word: throttled": {[]client.Option{client.WithRetryRatio(0), throttled(`{"maxTokens":4,"tokenRatio":1}`)}, 0, mended, 40, 80},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t, test.opts...)
				calls(t, s, c, test.before)
				s.answers(test.answer)
				if got := calls(t, s, c, test.calls); got != test.attempts {
					t.Errorf("%d attempts for %d calls, want %d", got, test.calls, test.attempts)
				}
			})
		})
	}
}

func throttled(t string) client.Option {
	return client.WithServiceConfig(`{"retryThrottling":` + t + `}`)
}

// What counts as a failure: after many of it, nothing is retried.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		answer  handler
		failure bool
	}{
		"UNAVAILABLE":                       {failing(codes.Unavailable), true},
		"never again, whatever the code":    {failing(codes.FailedPrecondition, "-1"), true},
		"full":                              {refusing(guard.LimitReached, time.Second), true},
		"the guard's retry budget":          {refusing(guard.RetryBudgetExhausted, -1), true},
		"a feature that is off":             {refusing(guard.FeatureOff, -1), false}, // an operator's will, no sign of the back-end's state
		"a dimmed feature":                  {refusing(guard.FeatureDimmed, -1), false},
		"NOT_FOUND":                         {failing(codes.NotFound), false},
		"the back-end's push-back, no code": {failing(codes.ResourceExhausted, "10"), false},
		"UNAVAILABLE after it had begun":    {begun, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t)
				s.answers(test.answer)
				calls(t, s, c, 100)
				s.answers(failing(codes.Unavailable, "0"))
				if got := calls(t, s, c, 1); (got == 1) != test.failure {
					t.Errorf("%d attempts afterwards; is it a failure: %v", got, test.failure)
				}
			})
		})
	}
}

// Successes fill the bucket to the brim and no further: of 4 tokens a failure takes one, and two successes of 0.7 bring one, not 1.4.
func TestThrottleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t, throttled(`{"maxTokens":4,"tokenRatio":0.7}`))
		s.answers(failing(codes.FailedPrecondition, "-1"))
		calls(t, s, c, 1)
		s.answers(s.obey)
		calls(t, s, c, 2)
		s.answers(failing(codes.Unavailable, "0"))
		if got := calls(t, s, c, 1); got != 2 {
			t.Errorf("%d attempts, want 2", got)
		}
	})
}

// After a failure that lasted, successes bring retries back: at a tenth of a token each.
func TestThrottleRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable, "0"))
		calls(t, s, c, 100)
		for _, test := range []struct{ successes, attempts int }{{109, 1}, {20, 2}} { // The failures between cost one and two tokens.
			s.answers(s.obey)
			calls(t, s, c, test.successes)
			s.answers(failing(codes.Unavailable, "0"))
			if got := calls(t, s, c, 1); got != test.attempts {
				t.Errorf("%d attempts after %d more successes, want %d", got, test.successes, test.attempts)
			}
		}
	})
}

// A pool of Conns to one guard is allowed no more than one Conn, and the last one to close takes the bucket with it.
func TestConnsShareTheirThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable, "0"))
		got := calls(t, s, c, 1)
		for range 9 {
			got += calls(t, s, s.connect(t), 10)
		}
		if got != 97 {
			t.Errorf("%d attempts for 91 calls over ten Conns, want 97", got)
		}
		for range 20 { // Often is once.
			c.Close()
		}
		if got := calls(t, s, s.connect(t), 1); got != 1 {
			t.Errorf("%d attempts by a Conn more, want 1", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable, "0"))
		if got := calls(t, s, c, 1); got != 3 {
			t.Errorf("%d attempts after all Conns were closed, want 3", got)
		}
	})
}

// A Conn without retries neither spends the tokens of others nor brings any.
func TestConnWithoutRetriesStandsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		s.answers(failing(codes.Unavailable, "0"))
		calls(t, s, s.connect(t, client.WithRetryRatio(0)), 100)
		if got := calls(t, s, c, 1); got != 3 {
			t.Errorf("%d attempts beside a Conn without retries, want 3", got)
		}
	})
}

// A Conn with a smaller bucket does not empty that of the others.
func TestConnsWithDifferentBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := dialed(t)
		small := s.connect(t, throttled(`{"maxTokens":2,"tokenRatio":1}`))
		calls(t, s, small, 10)
		s.answers(failing(codes.Unavailable, "0"))
		if got := calls(t, s, c, 3); got != 9 {
			t.Errorf("%d attempts for 3 calls beside a Conn with a small bucket, want 9", got)
		}
		if got := calls(t, s, small, 2); got != 6 {
			t.Errorf("%d attempts for 2 calls through the small bucket, want 6: 11 tokens are left", got)
		}
	})
}

// storm makes 300 calls a second for ten seconds through a few Conns that want four retries, and returns attempts, calls and successes.
func storm(t *testing.T, s *site, conns ...*client.Conn) (attempts, calls, successes int) {
	const rate, lasts = 300, 10 * time.Second
	var all sync.WaitGroup
	var mu sync.Mutex
	for range int(rate * lasts.Seconds()) {
		calls++
		c := conns[rand.IntN(len(conns))]
		all.Go(func() {
			if _, err := (Shop{c}).Recommend(t.Context(), new(Customer)); err == nil {
				mu.Lock()
				defer mu.Unlock()
				successes++
			}
		})
		time.Sleep(lasts / (rate * 10))
	}
	all.Wait()
	return len(s.received()), calls, successes
}

// TestStorm measures, at the server, what retries add while a back-end fails: never more than a tenth, whatever share of its calls fail.
func TestStorm(t *testing.T) {
	for name, test := range map[string]struct{ failing, leastSuccess float64 }{
		"everything fails":        {1, 0},
		"half of it fails":        {0.5, 0.46},
		"a tenth of it fails":     {0.1, 0.9},
		"one call in thirty does": {1. / 30, 0.999},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := dialed(t, client.WithServiceConfig(fives))
				s.answers(func(stream grpc.ServerStream, _ metadata.MD, _ string) error {
					if rand.Float64() < test.failing {
						return errDown
					}
					return stream.SendMsg(new(wrapperspb.StringValue))
				})
				other := s.connect(t, client.WithServiceConfig(fives))
				attempts, calls, successes := storm(t, s, c, other)
				if ratio := float64(attempts) / float64(calls); ratio > 1.10 {
					t.Errorf("%d attempts for %d calls: %.3f", attempts, calls, ratio)
				}
				if share := float64(successes) / float64(calls); share < test.leastSuccess {
					t.Errorf("%.3f of the calls succeed, want %.3f", share, test.leastSuccess)
				}
			})
		})
	}
}
