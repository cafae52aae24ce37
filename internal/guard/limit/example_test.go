package limit_test

import (
	"fmt"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// A call takes a slot before it goes to the back-end and gives it back with what the answer told.
func Example() {
	now := time.Now()
	l := limit.New(limit.Settings{Law: limit.Fixed, Initial: 2, Min: 1, Max: 1000}, now)
	fmt.Println(l.Acquire(now), l.Acquire(now), l.Acquire(now))

	now = now.Add(20 * time.Millisecond)
	l.Release(limit.Success, 20*time.Millisecond, now)
	fmt.Println(l.Acquire(now), l.InFlight())
	// Output:
	// true true false
	// true 2
}

// Three time-outs in a row are evidence at any traffic; the limit tells why it moved.
func ExampleLimiter_Changes() {
	now := time.Now()
	l := limit.New(limit.Default(), now)
	for range 3 {
		l.Acquire(now)
		now = now.Add(time.Second)
		l.Release(limit.Overload, time.Second, now)
	}
	for _, c := range l.Changes() {
		fmt.Printf("%d to %d, %s\n", c.From, c.To, c.Reason)
	}
	// Output:
	// 8 to 2, cut: 3 overloads in a row, 1 in flight at most
}
