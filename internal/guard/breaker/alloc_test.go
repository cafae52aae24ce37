package breaker_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// What happens at every call, or while everything is refused, allocates nothing.
func TestAllocations(t *testing.T) {
	now := time.Now()
	s := quick()
	s.OpenFor = time.Hour
	closed, open := breaker.New(s, now), opened(s)
	tests := map[string]func(){
		"call in closed state": func() {
			ticket, _, _ := closed.Allow(now)
			closed.Done(ticket, breaker.Success, time.Second, now)
		},
		"ready":   func() { closed.Ready(now) },
		"refusal": func() { open.Allow(now) },
	}
	for name, do := range tests {
		if n := testing.AllocsPerRun(5, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
