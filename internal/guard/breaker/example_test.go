package breaker_test

import (
	"fmt"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

func Example() {
	now := time.Now()
	b := breaker.New(breaker.Default(), now)

	for range 20 { // the back-end is down
		ticket, _, _ := b.Allow(now)
		b.Done(ticket, breaker.Failure, 3*time.Millisecond, now)
	}
	_, ok, retryAfter := b.Allow(now)
	fmt.Println(ok, retryAfter)

	// An operator knows better, for a quarter of an hour.
	b.Force(breaker.Override{State: breaker.ForcedClosed, Actor: "alice", Reason: "it is up", Until: now.Add(15 * time.Minute)}, now)
	_, ok, _ = b.Allow(now)
	fmt.Println(ok)

	for _, t := range b.Transitions(now) {
		fmt.Printf("%v -> %v: %s\n", t.From, t.To, t.Reason)
	}
	// Output:
	// false 500ms
	// true
	// closed -> open: failure_ratio: 20 of 20 calls in 10s failed, 1.00 >= 0.5
	// open -> forced-closed: it is up
}
