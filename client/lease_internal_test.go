package client

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var noon = time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)

// after returns an instant so many seconds after noon.
func after(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// heard returns a lease of so many slots, granted at noon.
func heard(share float64, slots ...string) *lease {
	l := &lease{share: share}
	l.hear(slots, noon)
	return l
}

func TestALeaseDecaysToTheShare(t *testing.T) {
	for name, test := range map[string]struct {
		lease *lease
		want  map[float64]float64 // slots by seconds
	}{
		"from above":            {heard(2, "8"), map[float64]float64{-1: 8, 0: 8, 5: 7, 15: 5, 30: 2, 3600: 2}},
		"from below":            {heard(2, "0"), map[float64]float64{0: 0, 15: 1, 30: 2}},
		"to nothing":            {heard(0, "8"), map[float64]float64{0: 8, 30: 0}},
		"never heard":           {heard(2), map[float64]float64{-1: 2, 0: 2, 3600: 2}},
		"two values":            {heard(2, "8", "8"), map[float64]float64{0: 2}},
		"nonsense":              {heard(2, "1e9"), map[float64]float64{0: 2}},
		"more than anybody has": {heard(2, "9999999"), map[float64]float64{0: 2}},
	} {
		for at, want := range test.want {
			if got := test.lease.slotsLocked(after(at)); math.Abs(got-want) > 1e-9 {
				t.Errorf("%s: %v slots after %v s, want %v", name, got, at, want)
			}
		}
	}
}

// Grants are averaged, each with the time since the one before; none counts at once.
func TestGrantsAreAveraged(t *testing.T) {
	l := heard(1, "10")
	for at := 0.1; at <= 60.01; at += 0.1 {
		l.hear([]string{"10"}, after(at))
	}
	for at := 60.1; at <= 65.01; at += 0.1 {
		l.hear([]string{"20"}, after(at))
	}
	if want := 20 - 10*math.Exp(-1); math.Abs(l.slots.value-want) > 0.01 {
		t.Errorf("%v slots after one time constant, want %v", l.slots.value, want)
	}
	l.hear([]string{"what"}, after(66))
	if !l.slots.last.Before(after(65.1)) {
		t.Error("nonsense made the lease younger")
	}
	if l.hear([]string{"0"}, after(67)); l.slots.value != 0 {
		t.Errorf("%v slots although the back-end can bear none", l.slots.value)
	}
}

// In the first seconds a mean is that of all there was, not of that and of a past without anything.
func TestTheFirstMean(t *testing.T) {
	var m mean
	for i := range 101 {
		m.add(float64(1+i%2*2), after(float64(i)/100)) // 1 and 3 by turns
	}
	if math.Abs(m.value-2) > 0.1 {
		t.Errorf("the mean is %v after a second, want 2", m.value)
	}
	m.add(100, after(0.5)) // A clock that was read before another's turn.
	if math.Abs(m.value-2) > 0.1 || !m.last.Equal(after(1)) {
		t.Errorf("the mean is %v as of %v", m.value, m.last)
	}
}

// The demand is the mean of what is under way, and one call in a long time counts as a little.
func TestDemand(t *testing.T) {
	l := &lease{}
	for i := range 600 { // Three calls of half a second each second, from noon on.
		at := float64(i / 3)
		l.count(after(at), 1)
		if i%3 == 2 {
			for range 3 {
				l.count(after(at+0.5), -1)
			}
		}
	}
	l.count(after(200), 0)
	if text, ok := l.ask(after(200)); !ok || text != "1.4" && text != "1.5" {
		t.Errorf("the demand is %q, want the mean of 1.5", text)
	}
	if text, ok := l.ask(after(200.009)); ok {
		t.Errorf("%q is told again at once", text)
	}
	l.count(after(3600), 0)
	if text, ok := l.ask(after(3600)); !ok || text != "0.01" {
		t.Errorf("an hour later the demand is %q", text)
	}
}

// Callers that are always there never have more in flight than the lease, rounded up, and on average not more than the lease.
func TestALeaseIsKept(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		slots := math.Floor(rng.Float64()*rng.Float64()*5000) / 1000
		l := &lease{share: slots}
		type job struct {
			s   slot
			end float64
		}
		var jobs []job
		busy, most, d := 0.0, 0, 0.01+rng.Float64()
		const span = 1000.0
		for at := 0.0; at < span; at += d / 20 { // Somebody asks all the time.
			for {
				s, ok := l.takeLocked(after(at))
				if !ok {
					break
				}
				jobs = append(jobs, job{s, at + d*(0.5+rng.Float64())})
			}
			most = max(most, len(jobs))
			jobs = slices.DeleteFunc(jobs, func(j job) bool {
				over := j.end <= at
				if over {
					l.giveLocked(j.s, after(at))
				}
				return over
			})
			busy += float64(len(jobs)) * d / 20
		}
		// The first had credit, the last has its rest still before it.
		mean := busy / span
		if float64(most) > math.Ceil(slots) || mean > slots+2*(d+0.5)/span || mean < 0.9*slots-2*d/span {
			t.Errorf("seed %d: %v slots were used by %.3f calls on average, %d at most", seed, slots, mean, most)
		}
	}
}

// Time without calls counts as rest, but not more than the credit: of ten calls in a row, of a tenth of a second each, in half a slot, five
// have rested before they came, and each of the others rests as long as it took.
func TestIdlenessIsRest(t *testing.T) {
	l := &lease{share: 0.5}
	var begun []int
	for tick := range 20 {
		at := 100 + float64(tick)/10
		if s, ok := l.takeLocked(after(at)); ok {
			begun = append(begun, tick)
			l.giveLocked(s, after(at+0.1))
		}
	}
	if want := []int{0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17, 19}; !slices.Equal(begun, want) {
		t.Errorf("calls began after %v tenths of a second, want %v", begun, want)
	}
}

// When a lease shrinks, calls that are there stay, and none comes in their stead.
func TestAShrinkingLeaseTakesNoMore(t *testing.T) {
	l := heard(0, "3")
	for range 3 {
		if _, ok := l.takeLocked(noon); !ok {
			t.Fatal("no slot")
		}
	}
	if _, ok := l.takeLocked(after(5)); ok {
		t.Error("a fourth call, of 2.5 slots")
	}
	l.giveLocked(slot{}, after(5))
	if s, ok := l.takeLocked(after(5)); !ok || !s.part {
		t.Errorf("half a slot was free: %v, %v", s, ok)
	}
}

// First come, first served; who is not served in time, or has gone, leaves no trace; and no slot is lost.
func TestTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{share: 1}
		first, ok := l.enter(t.Context())
		if !ok {
			t.Fatal("no slot")
		}
		var mu sync.Mutex
		var served []int
		var all sync.WaitGroup
		for i := range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			all.Go(func() {
				defer cancel()
				if s, ok := l.enter(ctx); ok {
					mu.Lock()
					served = append(served, i)
					mu.Unlock()
					time.Sleep(30 * time.Millisecond)
					l.leave(s)
				}
			})
			synctest.Wait()
			if i == 1 {
				cancel()
			}
			synctest.Wait()
		}
		l.leave(first)
		all.Wait()
		if !slices.Equal(served, []int{0, 2, 3, 4}) { // After 0, 30, 60 and 90 ms.
			t.Errorf("served were %v", served)
		}
		if last, ok := l.enter(t.Context()); !ok || len(l.line) != 0 {
			t.Errorf("a slot was lost; %d are in line", len(l.line))
		} else {
			begun := time.Now()
			if _, ok := l.enter(t.Context()); ok || time.Since(begun) != leaseWait {
				t.Errorf("served: %v, after %v", ok, time.Since(begun))
			}
			l.leave(last)
		}
	})
}

// A part of a slot that has rested wakes who waits for it.
func TestTheLineIsWokenAfterARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{share: 0.5}
		for range 20 {
			s, ok := l.enter(t.Context())
			if !ok {
				t.Fatal("nobody looked at the line")
			}
			time.Sleep(50 * time.Millisecond)
			l.leave(s)
		}
		if d := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); d < 1400*time.Millisecond || d > 2*time.Second {
			t.Errorf("20 calls of 50 ms in half a slot took %v", d)
		}
	})
}

// BenchmarkLease is what a lease adds to a call: it is counted twice, and may ask.
func BenchmarkLease(b *testing.B) {
	l := &lease{share: 1}
	b.ReportAllocs()
	for b.Loop() {
		l.count(time.Now(), 1)
		l.ask(time.Now())
		l.count(time.Now(), -1)
	}
}
