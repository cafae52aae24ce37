package guard_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Whatever calls, outcomes and commands come: permits out equal calls in flight, every call ends in exactly one decision, and every permit
// in exactly one outcome.
func TestConservation(t *testing.T) {
	for seed := range uint64(5) {
		inBubble(t, guard.Default(), func(r rig) {
			k := &keeper{rig: r, random: rand.New(rand.NewPCG(seed, 7))}
			for range 200 {
				for range k.random.IntN(40) {
					c, fate := k.draw(), k.random.IntN(8)
					wait := time.Duration(k.random.ExpFloat64() * float64(30*time.Millisecond))
					k.clients.Go(func() { k.call(c, fate, wait) })
				}
				k.command()
				synctest.Wait()
				k.check()
				sleep(time.Duration(k.random.IntN(60)) * time.Millisecond)
			}
			k.SetFeatures(nil)
			k.clients.Wait()
			k.check()
			r.inFlight(0, 0)
			if n := k.Quiesce(r.Context()); n != 0 {
				t.Errorf("%d calls are on their way", n)
			}
		})
	}
}

// The same with endpoints that come, go and fail, and calls that do not reach theirs.
func TestConservationPerEndpoint(t *testing.T) {
	for seed := range uint64(5) {
		inBubble(t, guard.Default(), func(r rig) {
			k := &keeper{rig: r, random: rand.New(rand.NewPCG(seed, 8)), at: map[*guard.Endpoint]int{}}
			for range 200 {
				for range k.random.IntN(40) {
					c, fate := k.draw(), k.random.IntN(9)
					wait := time.Duration(k.random.ExpFloat64() * float64(30*time.Millisecond))
					k.clients.Go(func() { k.call(c, fate, wait) })
				}
				k.command()
				k.turn()
				synctest.Wait()
				k.check()
				sleep(time.Duration(k.random.IntN(60)) * time.Millisecond)
			}
			k.SetFeatures(nil)
			k.clients.Wait()
			k.check()
			r.inFlight(0, 0)
		})
	}
}

// turn adds, removes or changes an endpoint, now and then.
func (k *keeper) turn() {
	switch k.random.IntN(6) {
	case 0:
		if len(k.present) < 5 {
			e := k.AddEndpoint("e")
			k.present = append(k.present, e)
			k.goes(e, e)
		}
	case 1:
		if len(k.present) > 0 && k.random.IntN(3) == 0 {
			k.present[0].Remove()
			k.present = k.present[1:]
		}
	default:
		if len(k.present) > 0 {
			k.present[k.random.IntN(len(k.present))].SetState(guard.EndpointState(min(k.random.IntN(5), 2)))
		}
	}
}

// goes notes that a call goes from one endpoint to another.
func (k *keeper) goes(from, to *guard.Endpoint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at != nil {
		k.at[from]--
		k.at[to]++
	}
}

// keeper keeps its own books beside the guard's.
type keeper struct {
	rig
	mu                  sync.Mutex
	at                  map[*guard.Endpoint]int // permits; nil where nobody asks
	present             []*guard.Endpoint
	random              *rand.Rand
	clients             sync.WaitGroup
	asked, decided, out atomic.Int64
}

func (k *keeper) draw() guard.Call {
	c := guard.Call{
		Method:      []string{check, "/shop.Stock/List", "/shop.Stock/Watch"}[k.random.IntN(3)],
		Feature:     []string{"", "report", "search"}[k.random.IntN(3)],
		Criticality: guard.Criticality(k.random.IntN(4) - 1),
		Attempt:     k.random.IntN(2),
	}
	if k.random.IntN(2) == 0 {
		c.Deadline = time.Now().Add(time.Duration(k.random.IntN(100)) * time.Millisecond)
	}
	c.Stream = c.Method == "/shop.Stock/Watch"
	return c
}

// call makes one call; fate tells how it ends.
func (k *keeper) call(c guard.Call, fate int, took time.Duration) {
	ctx, cancel := context.WithTimeout(k.Context(), 150*time.Millisecond)
	defer cancel()
	k.asked.Add(1)
	p, d := k.Admit(ctx, c)
	k.decided.Add(1)
	if !d.Admitted {
		return
	}
	k.out.Add(1)
	at := p.Endpoint()
	k.goes(nil, at)
	if c.Stream {
		p.Messages(fate, 0)
	}
	sleep(took / 2)
	if fate == 8 {
		to, _ := p.Elsewhere()
		k.goes(at, to)
		at = to
	}
	if fate&1 == 0 {
		p.Answered()
	}
	if fate == 6 {
		p.Stream()
	}
	p.Messages(1, fate/2)
	sleep(took / 2)
	k.out.Add(-1)
	k.goes(at, nil)
	p.Done(guard.Outcome(max(0, fate-4) % 4))
	if fate == 7 {
		p.Done(guard.Success)
	}
}

// command changes something, now and then.
func (k *keeper) command() {
	switch k.random.IntN(12) {
	case 0:
		k.set("report", float64(50*k.random.IntN(3)))
	case 1:
		state := []breaker.State{breaker.ForcedOpen, breaker.ForcedClosed, breaker.Closed}[k.random.IntN(3)]
		k.ForceBreaker(breaker.Override{State: state, Until: time.Now().Add(200 * time.Millisecond)})
	case 2:
		s := guard.Default()
		s.Mode = guard.Mode(k.random.IntN(3))
		s.Limit.Max, s.MaxStreams, s.Queue.MaxLength = 1+k.random.IntN(10), k.random.IntN(10), k.random.IntN(10)
		k.Configure(s, "", "")
	}
}

// checkEndpoints checks that each endpoint has as many permits as the books say, and, where none is out, that nothing of its limit is taken.
func (k *keeper) checkEndpoints() {
	k.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for e, n := range k.at {
		if e == nil {
			continue
		}
		if s := e.Status(); s.InFlight+s.OpenStreams != n || n == 0 && s.StreamWork != 0 {
			k.Fatalf("%d permits are at an endpoint, it knows of %d calls, %d streams and %d messages", n, s.InFlight, s.OpenStreams, s.StreamWork)
		}
	}
}

func (k *keeper) check() {
	k.Helper()
	s := k.Status()
	if out := k.out.Load(); int64(s.InFlight+s.OpenStreams) != out {
		k.Fatalf("%d permits are out, the guard knows of %d calls and %d streams", out, s.InFlight, s.OpenStreams)
	}
	if waiting := k.asked.Load() - k.decided.Load(); int64(s.Queued) != waiting {
		k.Fatalf("%d calls wait, the guard knows of %d", waiting, s.Queued)
	}
	k.checkEndpoints()
	refused := uint64(0)
	for _, n := range s.Totals.Refused {
		refused += n
	}
	if got := s.Totals.Admitted + refused; int64(got) != k.decided.Load() {
		k.Fatalf("%d decisions are counted, %d were made", got, k.decided.Load())
	}
	ended := s.Totals.Succeeded + s.Totals.Overloaded + s.Totals.Failed + s.Totals.Ignored
	if int(s.Totals.Admitted-ended) != s.InFlight+s.OpenStreams {
		k.Fatalf("totals are %+v with %d in flight", s.Totals, s.InFlight+s.OpenStreams)
	}
}
