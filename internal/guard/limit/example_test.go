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
	first, ok := l.Acquire(1, now)
	_, second := l.Acquire(1, now)
	_, third := l.Acquire(1, now)
	fmt.Println(ok, second, third)

	now = now.Add(20 * time.Millisecond)
	l.Release(first, limit.Success, 20*time.Millisecond, 0, now)
	fmt.Println(l.Free(1, now), l.InFlight())
	// Output:
	// true true false
	// true 1
}

// Three time-outs in a row are evidence at any traffic; the limit tells why it moved.
func ExampleLimiter_Changes() {
	now := time.Now()
	l := limit.New(limit.Default(), now)
	for range 3 {
		slot, _ := l.Acquire(1, now)
		now = now.Add(time.Second)
		l.Release(slot, limit.Overload, time.Second, 0, now)
	}
	for _, c := range l.Changes() {
		fmt.Printf("%d to %d, %s\n", c.From, c.To, c.Reason)
	}
	// Output:
	// 8 to 2, cut: 3 overloads in a row, 1 in flight at most
}
