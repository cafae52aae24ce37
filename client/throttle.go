package client

import (
	"encoding/json"
	"fmt"
	"sync"
)

// By default ten retries can follow quiet times, half of the tokens, and a retry more for every ten calls that succeed.
const (
	defaultMaxTokens  = 20
	defaultRetryRatio = 0.1
	maxMaxTokens      = 1000 // gRFC A6
)

// throttling is the part of a gRPC service config of that name, with its names.
type throttling struct {
	MaxTokens  float64 // the most tokens; no retries at half of them and below
	TokenRatio float64 // tokens for every success; 0 is no retries at all
}

// retryThrottling reads its part of a service config; nil if there is none. What else is wrong with the config gRPC tells.
func retryThrottling(config string) (*throttling, error) {
	var c struct{ RetryThrottling *throttling }
	if json.Unmarshal([]byte(config), &c) != nil || c.RetryThrottling == nil {
		return nil, nil
	}
	if t := c.RetryThrottling; t.MaxTokens <= 0 || t.MaxTokens > maxMaxTokens || t.TokenRatio <= 0 {
		return nil, fmt.Errorf("retryThrottling: maxTokens %v must be above 0 and at most %d, tokenRatio %v above 0",
			t.MaxTokens, maxMaxTokens, t.TokenRatio)
	}
	return c.RetryThrottling, nil
}

// throttle is the token bucket of gRFC A6, one for each guard: a failure takes a token, a success brings a part of one, and at half of
// the tokens and below nothing is retried. So retries are never more than half of the tokens and that part of the successes, and end
// after a few failures in a row. Conns that share it take and bring by their own throttling.
type throttle struct {
	mu     sync.Mutex
	tokens float64

	users int // guarded by throttles.mu
}

// succeeded tells that a call did not fail.
func (t *throttle) succeeded(by throttling) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens = max(t.tokens, min(t.tokens+by.TokenRatio, by.MaxTokens)) // Another Conn may have saved up more than this one may.
}

// failed tells that an attempt failed, and returns whether it may be retried.
func (t *throttle) failed(by throttling) bool {
	if by.TokenRatio == 0 { // Who brings nothing takes nothing.
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens = max(t.tokens-1, 0)
	return t.tokens > by.MaxTokens/2
}

// throttles are those of the process, by the guard's address: a pool of ten Conns is allowed no more retries than one.
var throttles = struct {
	mu sync.Mutex
	by map[string]*throttle
}{by: map[string]*throttle{}}

// joinThrottle returns the throttle of an address, and what gives it up; once is enough. Who joins others brings no tokens.
func joinThrottle(address string, by throttling) (*throttle, func()) {
	throttles.mu.Lock()
	defer throttles.mu.Unlock()
	t := throttles.by[address]
	if t == nil {
		t = &throttle{tokens: by.MaxTokens}
		throttles.by[address] = t
	}
	t.users++
	return t, sync.OnceFunc(func() {
		throttles.mu.Lock()
		defer throttles.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(throttles.by, address)
		}
	})
}
