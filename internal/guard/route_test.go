package guard_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/limit"
)

// S14 of the overload scenarios in small: one of three replicas becomes ten times slower for half a minute; the other two carry the load. It
// costs next to nothing, and when it is well again it is found soon.
func TestASlowReplica(t *testing.T) {
	fleet(t, 3, func(c *crowd, es []*guard.Endpoint, of []*fragile) {
		c.offer(700, 10*time.Second)
		of[0].slow = 10
		before := of[0].count()
		got := c.offer(700, 30*time.Second)
		if share := float64(got.good) / float64(got.offered); share < 0.99 {
			t.Errorf("%.2f %% are answered: %+v", 100*share, got)
		}
		if n := of[0].count() - before; n > 21000/100 {
			t.Errorf("the slow replica got %d calls of %d", n, got.offered)
		}
		of[0].slow = 1
		c.offer(700, 5*time.Second)
		before = of[0].count()
		if c.offer(700, 2*time.Second); of[0].count()-before < 1400/3*8/10 {
			t.Errorf("five seconds after it healed it gets %d of 1400 calls: %+v", of[0].count()-before, es[0].Status())
		}
	})
}

// Lesson: a replica that refuses fast must not attract load (linkerd2-proxy #4537). It costs less than one call in a hundred.
func TestAReplicaThatFailsFast(t *testing.T) {
	for _, rate := range []float64{100, 700} {
		down := false
		fleet(t, 3, func(c *crowd, es []*guard.Endpoint, of []*fragile) {
			of[0].dead = func() bool { return down }
			c.offer(rate, 10*time.Second)
			down = true
			got := c.offer(rate, 30*time.Second)
			if share := float64(got.late) / float64(got.offered); share > 0.01 || got.refused > got.offered/1000 {
				t.Errorf("at %v/s: %.2f %% fail: %+v", rate, 100*share, got)
			}
			down = false
			c.offer(rate, 5*time.Second)
			before := of[0].count()
			if got := c.offer(rate, 2*time.Second); of[0].count()-before < got.offered/5 {
				t.Errorf("at %v/s: five seconds after it healed it gets %d of %d calls: %+v", rate, of[0].count()-before, got.offered, es[0].Status())
			}
		})
	}
}

// A black hole answers nothing: each call that goes there is lost, after its whole time.
func TestABlackHoleAmongReplicas(t *testing.T) {
	fleet(t, 3, func(c *crowd, _ []*guard.Endpoint, of []*fragile) {
		c.offer(700, 10*time.Second)
		of[0].slow = 1e6
		got := c.offer(700, 30*time.Second)
		if share := float64(got.good) / float64(got.offered); share < 0.99 {
			t.Errorf("%.2f %% are answered: %+v", 100*share, got)
		}
	})
}

// Where all fail none is worse than the others: no call is refused for the sake of routing, and each replica gets its part.
func TestAllReplicasFail(t *testing.T) {
	s := fixed(30)
	s.Breaker.MinCalls = 1 << 30
	inBubble(t, s, func(r rig) {
		es := r.endpoints("a", "b", "c")
		calls := map[*guard.Endpoint]int{}
		for range 3000 {
			p := r.pass(call)
			calls[p.Endpoint()]++
			sleep(time.Millisecond)
			p.Done(guard.Failure)
		}
		for _, e := range es {
			if calls[e] < 500 {
				t.Errorf("%s got %d calls of 3000: %+v", e.Name(), calls[e], e.Status())
			}
		}
	})
}

// A call waits in line rather than going to a slow replica, which gets one call at a time.
func TestACallWaitsRatherThanGoingToASlowReplica(t *testing.T) {
	inBubble(t, lined(4), func(r rig) {
		es := r.endpoints("slow", "fast")
		took := func(p guard.Permit) time.Duration {
			if p.Endpoint() == es[0] {
				return 400 * time.Millisecond
			}
			return 20 * time.Millisecond
		}
		for range 60 { // until the guard knows
			p, q := r.pass(call), r.pass(call)
			sleep(min(took(p), took(q)))
			if took(q) < took(p) {
				p, q = q, p
			}
			p.Done(guard.Success)
			sleep(took(q) - took(p))
			q.Done(guard.Success)
		}
		if s := es[0].Status(); !s.Suspect || s.Latency < 300*time.Millisecond {
			t.Fatalf("status is %+v", s)
		}
		sleep(2 * time.Second) // a probe is due
		probes := 0
		for range 3 {
			if p := r.pass(call); p.Endpoint() == es[0] {
				probes++
			}
		}
		r.ask(r.Context(), call)
		r.waiting(1)
		if probes != 1 {
			t.Errorf("the slow one has %d calls", probes)
		}
		sleep(3 * time.Second) // it is still at it, and who waited has given up
		r.ask(r.Context(), call)
		r.waiting(1)
	})
}

// An endpoint whose limit is too low for its share learns so while the others still have room: they are what it takes from. When its limit
// was found only while all were full, a third of the capacity lay idle until one of the others failed.
func TestALimitIsLearnedBesideOthersWithRoom(t *testing.T) {
	overload(t, nil, func(c *crowd) {
		var of []*fragile
		more := func() {
			e, f := c.AddEndpoint("e"), newFragile(64, 20*time.Millisecond)
			e.Value = f
			e.SetState(guard.Ready)
			of = append(of, f)
		}
		more()
		c.offer(2000, 10*time.Second)
		more()
		c.offer(2000, 20*time.Second)
		before := of[1].count()
		if got := c.offer(2000, 10*time.Second); of[1].count()-before < got.offered*9/20 { // at eight it would be a fifth
			t.Errorf("the second endpoint gets %d of %d calls: %+v", of[1].count()-before, got.offered, c.Status().Endpoints)
		}
	})
}

// Of two that are both well the one that takes half as long has twice as many calls in flight, and so gets four times as many.
func TestTheQuickerOneGetsMore(t *testing.T) {
	s := guard.Default()
	s.Limit.Law, s.Limit.Initial = limit.Fixed, 100
	overloadWith(t, s, nil, func(c *crowd) {
		var of []*fragile
		for i := range 2 {
			e, f := c.AddEndpoint("e"), newFragile(64, time.Duration(i+1)*20*time.Millisecond)
			e.Value = f
			e.SetState(guard.Ready)
			of = append(of, f)
		}
		c.offer(1000, 10*time.Second)
		before := [2]int{of[0].count(), of[1].count()}
		c.offer(1000, 10*time.Second)
		if share := float64(of[0].count()-before[0]) / float64(of[1].count()-before[1]); share < 3 || share > 5 {
			t.Errorf("the quicker one gets %.1f times as many calls", share)
		}
	})
}
