package limit_test

import (
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// account holds the slots of calls that are all alike, the first taken to be given back first.
type account struct {
	*limit.Limiter
	calls []held
}

// held is a slot and when it was taken.
type held struct {
	slot limit.Slot
	at   time.Time
}

func newAccount(s limit.Settings) *account { return &account{Limiter: limit.New(s, epoch)} }

// acquire takes a slot of so many units; a refusal is demand held back.
func (a *account) acquire(cost int, now time.Time) bool {
	s, ok := a.Acquire(cost, now)
	if ok {
		a.calls = append(a.calls, held{s, now})
	} else {
		a.Held()
	}
	return ok
}

// first takes the first call out; without one it is none.
func (a *account) first() (c held) {
	if len(a.calls) > 0 {
		c, a.calls = a.calls[0], a.calls[1:]
	}
	return c
}

// release gives the first slot back after it took so long, if there is one.
func (a *account) release(r limit.Result, took time.Duration, now time.Time) {
	a.Release(a.first().slot, r, took, 0, now)
}

// answer gives the first slot back after the time that it was held.
func (a *account) answer(r limit.Result, now time.Time) {
	c := a.first()
	a.Release(c.slot, r, now.Sub(c.at), 0, now)
}
