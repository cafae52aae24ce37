package breaker_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// Whatever callers do, and however many there are: probes under way never exceed Probes, a refusal names a time to come back that lies
// ahead, and the breaker keeps going round.
func TestProbesUnderWay(t *testing.T) {
	for _, probes := range []int{1, 3, 17} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%d probes, seed %d", probes, seed), func(t *testing.T) {
				inBubble(t, func(b rig) {
					s := quick()
					s.Probes, s.FailureRatio = probes, 0.2 // a quarter of the results are failures
					b.Configure(s, time.Now())
					newCrowd(b, s, seed).run()
				})
			})
		}
	}
}

// crowd is many callers of one breaker under its owner's lock.
type crowd struct {
	rig
	settings breaker.Settings

	mu        sync.Mutex
	random    *rand.Rand
	underWay  map[breaker.Ticket]bool // since half-open began
	halfOpens int
	began     time.Time // of the present half-open
	last      breaker.State
}

func newCrowd(b rig, s breaker.Settings, seed uint64) *crowd {
	return &crowd{rig: b, settings: s, random: rand.New(rand.NewPCG(seed, 2)), underWay: map[breaker.Ticket]bool{}}
}

func (c *crowd) run() {
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			for range 100 {
				c.call()
			}
		})
	}
	callers.Wait()
	if c.halfOpens < 10 {
		c.Errorf("half-open %d times: too seldom to show anything", c.halfOpens)
	}
}

// call is one caller's call: some never report, some fail, some are cancelled, some last too long.
func (c *crowd) call() {
	c.mu.Lock()
	ticket, ok, retryAfter := c.Allow(time.Now())
	c.check(ticket, ok, retryAfter)
	pause := time.Duration(c.random.Int64N(int64(time.Second)))
	fate := c.random.IntN(20)
	c.mu.Unlock()

	sleep(pause)
	if !ok || fate == 0 {
		return
	}
	if fate == 1 {
		sleep(c.settings.ProbeTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	result := []breaker.Result{breaker.Failure, breaker.Ignored, breaker.Success, breaker.Success}[fate&3]
	c.Done(ticket, result, pause, time.Now())
	delete(c.underWay, ticket)
}

func (c *crowd) check(ticket breaker.Ticket, ok bool, retryAfter time.Duration) {
	if !ok && retryAfter <= 0 || ok && retryAfter != 0 {
		c.Errorf("Allow = %v with a retry after %v", ok, retryAfter)
	}
	s := c.Status(time.Now())
	if s.State != c.last || !s.Since.Equal(c.began) {
		clear(c.underWay)
		if s.State == breaker.HalfOpen {
			c.halfOpens++
		}
	}
	c.last, c.began = s.State, s.Since
	if s.State != breaker.HalfOpen || !ok {
		return
	}
	c.underWay[ticket] = true
	if len(c.underWay) > c.settings.Probes {
		c.Errorf("%d probes under way", len(c.underWay))
	}
}
