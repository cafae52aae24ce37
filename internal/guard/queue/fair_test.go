package queue_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/capguard/capguard/internal/guard/queue"
)

// source is a stream of calls that claim the same, as a Poisson process.
type source struct {
	claim  queue.Claim
	rate   float64 // calls a second
	next   time.Time
	sent   int
	served int
}

// overload plays sources against a back-end that does so many units of cost a second, one call after the other. Its slots are taken all the
// time: whatever it serves has waited in line.
func overload(seed uint64, q *queue.Queue[*source], sources []*source, units float64, lasts time.Duration) {
	r := rand.New(rand.NewPCG(seed, 7))
	after := func(now time.Time, seconds float64) time.Time {
		return now.Add(time.Duration(seconds * float64(time.Second)))
	}
	for _, s := range sources {
		s.next = after(start, r.ExpFloat64()/s.rate)
	}
	for now, free := start, start; now.Before(start.Add(lasts)); {
		next := slices.MinFunc(sources, func(a, b *source) int { return a.next.Compare(b.next) })
		if next.next.Before(free) {
			now = next.next
			q.Push(next, next.claim, now)
			next.sent++
			next.next = after(now, r.ExpFloat64()/next.rate)
			continue
		}
		now = free
		cost := 0.1 // nobody to serve: look again soon
		if it, ok := q.Pop(now); ok {
			it.Value.served++
			cost = max(1, it.Value.claim.Cost)
		}
		free = after(now, cost/units)
	}
}

// jain is Jain's index of fairness: 1 when all are equal, 1/n when one has everything.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, x := range shares {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// Four at 60 calls a second each, and a hog at 3,000, before a back-end that takes 400: nobody but the hog feels it. With the hog as one
// of many names, or of heavy calls, it is the same.
func TestHogHurtsNobody(t *testing.T) {
	tests := []struct {
		name string
		hog  source
	}{
		{"calls", source{claim: queue.Claim{Tenant: "hog"}, rate: 3000}},
		{"heavy calls", source{claim: queue.Claim{Tenant: "hog", Cost: 10}, rate: 3000}},
		{"nobody in particular", source{rate: 8000}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(2) {
				hog := test.hog
				sources := []*source{&hog}
				for i := range 4 {
					sources = append(sources, &source{claim: queue.Claim{Tenant: fmt.Sprint(i)}, rate: 60})
				}
				overload(seed, queue.New[*source](queue.Default()), sources, 400, 20*time.Second)
				var shares []float64
				for _, s := range sources[1:] {
					shares = append(shares, float64(s.served)/float64(s.sent))
					if shares[len(shares)-1] < 0.99 {
						t.Errorf("seed %d: %s was served %d of %d calls, want 99 %%", seed, s.claim.Tenant, s.served, s.sent)
					}
				}
				if j := jain(shares); j < 0.99 {
					t.Errorf("seed %d: Jain's index of the victims is %.3f, want 0.99", seed, j)
				}
				if units := float64(hog.served) * max(1, hog.claim.Cost) / 20; units < 0.9*160 {
					t.Errorf("seed %d: the hog got %.0f units a second of the 160 left over", seed, units)
				}
			}
		})
	}
}

// Who asks for more than it can get gets what its weight says.
func TestShares(t *testing.T) {
	tests := []struct {
		name         string
		a, b         queue.Claim
		rateA, rateB float64
		want         float64 // calls of a for one of b
	}{
		{"equal", queue.Claim{}, queue.Claim{}, 1000, 1000, 1},
		{"equal, one louder", queue.Claim{}, queue.Claim{}, 700, 8000, 1},
		{"one to three", queue.Claim{Weight: 3}, queue.Claim{}, 1000, 1000, 3},
		{"one to three, the light one louder", queue.Claim{Weight: 0.3}, queue.Claim{Weight: 0.1}, 700, 8000, 3},
		{"cheap and dear", queue.Claim{}, queue.Claim{Cost: 5}, 1000, 1000, 5},
		{"by weight and cost", queue.Claim{Weight: 2}, queue.Claim{Cost: 3}, 1000, 1000, 6},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for seed := range uint64(2) {
				a, b := &source{claim: test.a, rate: test.rateA}, &source{claim: test.b, rate: test.rateB}
				a.claim.Tenant, b.claim.Tenant = "a", "b"
				overload(seed, queue.New[*source](queue.Default()), []*source{a, b}, 400, 15*time.Second)
				if got := float64(a.served) / float64(b.served); got < test.want*0.98 || got > test.want*1.02 {
					t.Errorf("seed %d: a was served %d, b %d calls, %.3f to one; want %v", seed, a.served, b.served, got, test.want)
				}
			}
		})
	}
}

// Two hours in which critical calls alone are more than the back-end can take: every rank is served, and critical calls lose less than one
// per cent by it, however slow the back-end.
func TestNobodyStarvesForHours(t *testing.T) {
	for _, capacity := range []float64{10, 400} {
		t.Run(fmt.Sprint(capacity, " a second"), func(t *testing.T) {
			lasts := 2 * time.Hour / time.Duration(capacity/10)
			var sources []*source
			for rank := -1; rank <= 2; rank++ {
				sources = append(sources, &source{claim: queue.Claim{Rank: rank}, rate: capacity * 1.5})
			}
			overload(1, queue.New[*source](queue.Settings{MaxWait: 10 * time.Second, MaxLength: 100}),
				sources, capacity, lasts)
			lower := 0
			for _, s := range sources[1:] {
				lower += s.served
				every := lasts / time.Duration(max(1, s.served))
				if longest := max(2*time.Second, time.Duration(400/capacity*float64(time.Second))); every > longest {
					t.Errorf("rank %d was served every %v, want every %v", s.claim.Rank, every, longest)
				}
			}
			if share := float64(lower) / float64(lower+sources[0].served); share > 0.0101 {
				t.Errorf("the lower ranks got %.4f of all, want one per cent at most", share)
			}
		})
	}
}

// A quarter of a million names, each seen once: what is kept of them is bounded, and those who were known before have their share beside them.
func TestTenantsWithoutEnd(t *testing.T) {
	q := queue.New[int](queue.Settings{MaxWait: 200 * time.Millisecond, MaxLength: 500})
	before, now := heap(), start
	served := make([]int, 3)
	name := []byte("stranger ")
	for i := range 250_000 {
		now = now.Add(time.Millisecond / 8)
		q.Push(0, queue.Claim{Tenant: string(strconv.AppendInt(name, int64(i), 10)), Rank: i % 2}, now)
		if i%4 > 0 {
			continue
		}
		q.Push(1, queue.Claim{Tenant: "known", Weight: 1}, now)
		q.Push(2, queue.Claim{Tenant: "regular"}, now)
		if it, ok := q.Pop(now); ok {
			served[it.Value]++
		}
	}
	// Some 500 in line, and 1,000 and 64 accounts.
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("%d bytes are kept of 250,000 names", grown)
	}
	if served[0] == 0 || served[1] < served[0]/1000 || served[2] < served[0]/1000 {
		t.Errorf("%d strangers were served, %d calls of a known tenant and %d of a regular one", served[0], served[1], served[2])
	}
	t.Log(served)
	runtime.KeepAlive(q)
}

// While a thousand strangers wait, others share accounts, and do not keep them to themselves; known tenants have their own.
func TestTenantsBeyondTheBound(t *testing.T) {
	tests := []struct {
		name        string
		weight      float64
		least, most int // how many of 200 have an account of their own
	}{
		{"strangers share 64 accounts", 0, 50, 64},
		{"known ones do not", 1, 200, 200},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := queue.New[string](roomy)
			push := func(name string, c queue.Claim) {
				c.Tenant = name
				q.Push(name, c, start)
			}
			for i := range 2000 {
				push(fmt.Sprint("waiting ", i/2), queue.Claim{})
			}
			for i := range 400 {
				push(fmt.Sprint("late ", i/2), queue.Claim{Weight: test.weight})
			}
			late := map[string]bool{}
			for range 1000 + test.most { // as many turns as there are accounts
				if it, ok := q.Pop(start); ok && strings.HasPrefix(it.Value, "late") {
					late[it.Value] = true
				}
			}
			if len(late) < test.least || len(late) > test.most {
				t.Errorf("%d of 200 had a turn before anybody's second, want %d to %d", len(late), test.least, test.most)
			}
		})
	}
}

// Once those who had accounts are gone, strangers have their own again.
func TestIdleTenantsAreForgotten(t *testing.T) {
	q := queue.New[string](roomy)
	for i := range 5000 {
		q.Push("gone", queue.Claim{Tenant: fmt.Sprint("gone ", i), Rank: i % 3}, start)
		q.Pop(start)
	}
	for _, call := range []string{"first", "second"} {
		for i := range 500 {
			q.Push(call, queue.Claim{Tenant: fmt.Sprint("new ", i)}, start)
		}
	}
	for i := range 500 {
		if it, _ := q.Pop(start); it.Value != "first" {
			t.Fatalf("the second call of a tenant had turn %d, before the first of another", i)
		}
	}
}

// Who is out of line is not held by the queue, and holds nobody who is in it.
func TestNothingIsHeld(t *testing.T) {
	q := queue.New[*source](queue.Default())
	var left []weak.Pointer[source]
	push := func() *queue.Item[*source] {
		s := new(source)
		left = append(left, weak.Make(s))
		it, _, _ := q.Push(s, queue.Claim{}, start)
		return it
	}
	held, removed := push(), push()
	push()
	q.Remove(removed)
	q.Pop(start) // held
	q.Pop(start)
	push()
	runtime.GC()
	if left[1].Value() != nil || left[2].Value() != nil {
		t.Error("the queue holds on to who was popped or removed")
	}
	runtime.KeepAlive(q)
	runtime.GC()
	if left[3].Value() != nil {
		t.Error("who was popped holds on to others")
	}
	runtime.KeepAlive(held)
}

// A name that is cut from a long header would keep all of it.
func TestNamesAreCloned(t *testing.T) {
	q := queue.New[int](queue.Default())
	before := heap()
	for i := range 500 {
		header := strings.Repeat(fmt.Sprintf("%3d,", i), 4096)
		q.Push(0, queue.Claim{Tenant: header[:3]}, start)
	}
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("%d bytes are kept of 500 short names", grown)
	}
	runtime.KeepAlive(q)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
