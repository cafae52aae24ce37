package guard_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
)

// fragile is a back-end of some workers and a line before them, in which everybody waits his turn; calls that nobody waits for any more are
// worked on all the same.
type fragile struct {
	workers int
	service time.Duration // mean
	cv      float64       // of the lognormal service time
	dead    func() bool   // answers at once that it is down; nil: never
	slow    float64       // its service takes so many times as long

	mu       sync.Mutex
	random   *rand.Rand
	free     []time.Time // when each worker will be
	received int
}

func newFragile(workers int, service time.Duration) *fragile {
	return &fragile{workers: workers, service: service, cv: 0.5, random: rand.New(rand.NewPCG(1, 2)), free: make([]time.Time, workers), slow: 1}
}

// capacity is in calls per second.
func (f *fragile) capacity() float64 { return float64(f.workers) / f.service.Seconds() }

// take books the worker that is free first, and returns how long the call will take in all.
func (f *fragile) take() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received++
	best := 0
	for i := range f.free {
		if f.free[i].Before(f.free[best]) {
			best = i
		}
	}
	start := time.Now()
	if f.free[best].After(start) {
		start = f.free[best]
	}
	f.free[best] = start.Add(f.draw())
	return time.Until(f.free[best])
}

// count returns how many calls it received.
func (f *fragile) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.received
}

// draw returns a service time.
func (f *fragile) draw() time.Duration {
	sigma := math.Sqrt(math.Log(1 + f.cv*f.cv))
	return time.Duration(f.slow * float64(f.service) * math.Exp(sigma*f.random.NormFloat64()-sigma*sigma/2))
}

// serve is one call at the back-end.
func (f *fragile) serve(ctx context.Context) guard.Outcome {
	if f.dead != nil && f.dead() {
		return guard.Failure
	}
	timer := time.NewTimer(f.take())
	defer timer.Stop()
	select {
	case <-timer.C:
		return guard.Success
	case <-ctx.Done():
		return guard.Overload
	}
}

// crowd is open-loop clients of a guard in front of a back-end.
type crowd struct {
	rig
	f       *fragile
	timeout time.Duration // of each call
	kind    func(i int) guard.Call

	mu      sync.Mutex
	seen    figures
	clients sync.WaitGroup
}

// figures of some span of time.
type figures struct {
	offered, good, refused, late int
	byRank                       [4]struct{ offered, good int }
	latency                      time.Duration // summed, of good calls at the back-end
}

func (s figures) mean() time.Duration { return s.latency / time.Duration(max(s.good, 1)) }

func newCrowd(r rig, f *fragile) *crowd {
	return &crowd{rig: r, f: f, timeout: time.Second, kind: func(int) guard.Call { return call }}
}

// offer sends calls at a rate, as a Poisson process, and returns what became of those that ended meanwhile.
func (c *crowd) offer(rate float64, d time.Duration) figures {
	c.take()
	random := rand.New(rand.NewPCG(3, 4))
	end := time.Now().Add(d)
	for i := 0; time.Now().Before(end); i++ {
		c.clients.Go(func() { c.call(c.kind(i)) })
		sleep(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
	}
	synctest.Wait()
	return c.take()
}

// take returns the figures so far and starts afresh.
func (c *crowd) take() figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.seen
	c.seen = figures{}
	return s
}

func (c *crowd) call(k guard.Call) {
	ctx, cancel := context.WithTimeout(c.Context(), c.timeout)
	defer cancel()
	k.Deadline, _ = ctx.Deadline()
	p, d := c.Admit(ctx, k)
	if !d.Admitted {
		c.note(k, d, guard.Ignored, 0)
		return
	}
	begun := time.Now()
	o := c.back(p).serve(ctx)
	p.Done(o)
	c.note(k, d, o, time.Since(begun))
}

// back is where a call goes: to the endpoint that the guard has chosen, if there are some.
func (c *crowd) back(p guard.Permit) *fragile {
	if f, ok := p.Endpoint().Value.(*fragile); ok {
		return f
	}
	return c.f
}

func (c *crowd) note(k guard.Call, d guard.Decision, o guard.Outcome, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, rank := &c.seen, &c.seen.byRank[k.Criticality+1]
	s.offered++
	rank.offered++
	switch {
	case !d.Admitted:
		s.refused++
	case o == guard.Success:
		s.good++
		rank.good++
		s.latency += took
	default:
		s.late++
	}
}

// fleet runs a scenario with some replicas of a back-end, all of them ready. Their limits are fixed, to show what routing does alone.
func fleet(t *testing.T, n int, scenario func(c *crowd, replicas []*guard.Endpoint, of []*fragile)) {
	t.Helper()
	s := guard.Default()
	s.Limit.Law, s.Limit.Initial = limit.Fixed, 12*n
	overloadWith(t, s, nil, func(c *crowd) {
		var es []*guard.Endpoint
		var of []*fragile
		for i := range n {
			e, f := c.AddEndpoint(strconv.Itoa(i)), newFragile(8, 20*time.Millisecond)
			f.random = rand.New(rand.NewPCG(uint64(i), 2))
			e.Value = f
			e.SetState(guard.Ready)
			es, of = append(es, e), append(of, f)
		}
		scenario(c, es, of)
	})
}

// overload runs a scenario with the settings that fit any back-end.
func overload(t *testing.T, f *fragile, scenario func(c *crowd)) {
	t.Helper()
	overloadWith(t, guard.Default(), f, scenario)
}

func overloadWith(t *testing.T, s guard.Settings, f *fragile, scenario func(c *crowd)) {
	t.Helper()
	inBubble(t, s, func(r rig) {
		c := newCrowd(r, f)
		scenario(c)
		c.clients.Wait()
		if s := r.Status(); s.InFlight != 0 || s.Queued != 0 || s.DoubleReturns != 0 {
			t.Errorf("at the end: %+v", s)
		}
	})
}
