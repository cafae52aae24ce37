package guard_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// lease checks what a client with a demand is due.
func (r rig) lease(demand, want float64) {
	r.Helper()
	if got := r.Lease(demand); math.Abs(got-want) > 1e-9 {
		r.Errorf("a demand of %v is due %v slots, want %v", demand, got, want)
	}
}

// A lease is the part of the limit that the demand is of all there is; never more than the limit, and nothing of a back-end that is ill.
func TestLease(t *testing.T) {
	inBubble(t, lined(8), func(r rig) {
		r.lease(1, 8)
		r.lease(0.25, 2)
		r.lease(0, 0)
		r.lease(1e6, 8)
		var permits []guard.Permit
		for range 3 {
			permits = append(permits, r.pass(call))
		}
		r.lease(1, 2) // of four
		for range 5 {
			permits = append(permits, r.pass(call))
		}
		r.lease(1, 1) // of eight: there is no room
		for range 7 {
			r.Ask(call, deaf{}) // in line
		}
		r.lease(1, 8.0/15)
		r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen, Until: time.Now().Add(time.Hour)})
		r.lease(1, 0)
		r.ForceBreaker(breaker.Override{})
		for _, p := range permits {
			p.Done(guard.Success)
		}
	})
}

// Clients of all sizes come at random. What each is granted, on average, is in proportion to its demand, and the sum is the limit.
func TestLeasesSumUpToTheLimit(t *testing.T) {
	inBubble(t, fixed(40), func(r rig) {
		rng := rand.New(rand.NewPCG(1, 0))
		demands := []float64{0.1, 0.4, 1.5, 3} // calls of a second on average, so many a second: five are there
		var sums, counts [4]float64
		for range 20_000 {
			sleep(time.Duration(rng.ExpFloat64() / 5 * float64(time.Second)))
			i, at := 0, rng.Float64()*5
			for ; at > demands[i]; i++ {
				at -= demands[i]
			}
			sums[i] += r.Lease(demands[i])
			counts[i]++
			p, _ := r.Admit(t.Context(), call)
			time.AfterFunc(time.Duration(rng.ExpFloat64()*float64(time.Second)), func() { p.Done(guard.Ignored) })
		}
		sleep(time.Minute)
		sum := 0.0
		for i, d := range demands {
			lease := sums[i] / counts[i]
			if want := 40 * d / 5; math.Abs(lease-want) > 0.1*want {
				t.Errorf("a demand of %v is granted %.2f, want %v", d, lease, want)
			}
			sum += lease
		}
		if math.Abs(sum-40) > 2 {
			t.Errorf("leases of %.2f in all, of a limit of 40", sum)
		}
	})
}

// deaf does not mind what is decided.
type deaf struct{}

func (deaf) Settle(p guard.Permit, _ guard.Decision) { p.Done(guard.Ignored) }

// What heavy calls take counts as what they take, so that leases in calls are of the limit in units.
func TestLeaseAmongHeavyCalls(t *testing.T) {
	inBubble(t, fixed(9), func(r rig) {
		heavy := call
		heavy.Cost = 4
		a, b := r.pass(heavy), r.pass(heavy)
		r.lease(2, 2) // both are ours
		a.Done(guard.Success)
		b.Done(guard.Success)
	})
}
