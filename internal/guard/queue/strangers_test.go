package queue_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// A caller at 2.25 times the capacity gave each of its calls another tenant. All of them started at the virtual time of the line, which stood
// still while a thousand accounts had their turn: a known tenant of weight 100, at a quarter of the capacity, was served 8 of 500 calls.
// Beside one name, or ten, it was served all. Now it is served its share beside ten strangers at least, and those are served beside it.
func TestStrangersWithoutEndDoNotStarveTheKnown(t *testing.T) {
	for _, names := range []int{1, 10, 1000, 1 << 30} {
		for _, weight := range []float64{1, 100} {
			t.Run(fmt.Sprintf("%d names, weight %v", names, weight), func(t *testing.T) {
				q, now := queue.New[string](queue.Default()), start
				served := map[string]int{}
				for ms := range 5_000 { // of each ten ms nine strangers, one known call, four slots
					now = now.Add(time.Millisecond)
					if ms%10 != 0 {
						q.Push("stranger", queue.Claim{Tenant: "s" + strconv.Itoa(ms%names)}, now)
					} else {
						q.Push("known", queue.Claim{Tenant: "known", Weight: weight}, now)
					}
					if ms%5 < 2 {
						it, _ := q.Pop(now)
						served[it.Value]++
					}
				}
				want := min(495, int(1990*weight/(weight+float64(min(names, 10)))))
				if served["known"] < want || served["stranger"] < 1490 {
					t.Errorf("of 2,000 slots %v: want %d known calls at least, and strangers the rest", served, want)
				}
			})
		}
	}
}

// Whoever always has something in line gets its share at least, by its weight beside those of the others who are known and of ten strangers,
// however many names those use; strangers together get that of one at least.
func TestSharesBesideStrangers(t *testing.T) {
	const grants = 4000
	r := rand.New(rand.NewPCG(4, 2))
	for range 40 {
		names := []int{1, 3, 70, 1500, 1 << 30}[r.IntN(5)]
		weights := make([]float64, 1+r.IntN(5)) // the first is that of all strangers
		weights[0] = 1
		sum := float64(min(names, 10))
		for i := range weights[1:] {
			weights[i+1] = []float64{0.01, 0.5, 1, 7, 100}[r.IntN(5)]
			sum += weights[i+1]
		}
		q, served := queue.New[int](roomy), make([]int, len(weights))
		push := func(i int) {
			c := queue.Claim{Tenant: strconv.Itoa(i), Weight: weights[i]}
			if i == 0 {
				c = queue.Claim{Tenant: strconv.Itoa(r.IntN(names))} // maybe of the name of one who is known
			}
			q.Push(i, c, start)
		}
		for i := range weights {
			push(i)
			push(i)
		}
		for range grants {
			it, _ := q.Pop(start)
			served[it.Value]++
			push(it.Value)
			push(0)
		}
		for i, w := range weights {
			if share := grants * w / sum; float64(served[i]) < share-float64(len(weights)) {
				t.Errorf("weights %v, %d names: served %v, want %.0f of number %d", weights, names, served, share, i)
			}
		}
	}
}

// Nobody who is known, and has no more in line than its share of the places, loses one to strangers: neither by many names nor by many calls.
func TestStrangersDoNotEvictTheKnown(t *testing.T) {
	for _, names := range []int{1, 10, 1 << 30} {
		q := queue.New[string](queue.Settings{MaxWait: time.Minute, MaxLength: 100})
		stranger := func(i int) {
			if _, evicted, _ := q.Push("", queue.Claim{Tenant: strconv.Itoa(i % names)}, start); evicted != nil && evicted.Value != "" {
				t.Fatalf("%d names: a stranger evicted %s", names, evicted.Value)
			}
		}
		for i := range 200 {
			stranger(i)
		}
		for i := range 100 {
			if i < 20 { // of the weights 3 and 1, beside 10 of strangers at most
				q.Push("heavy", queue.Claim{Tenant: "heavy", Weight: 3}, start)
			}
			if i < 7 {
				q.Push("light", queue.Claim{Tenant: "light", Weight: 1}, start)
			}
			stranger(i)
		}
		in := map[string]int{}
		for it, ok := q.Pop(start); ok; it, ok = q.Pop(start) {
			in[it.Value]++
		}
		if in["heavy"] != 20 || in["light"] != 7 || in[""] != 73 {
			t.Errorf("%d names: in line are %v, want 20, 7 and 73", names, in)
		}
	}
}

// Who is named while its calls wait is charged as known from then on; those that wait leave as they came.
func TestNamedWhileItWaits(t *testing.T) {
	q := queue.New[string](roomy)
	for range 4 {
		q.Push("before", queue.Claim{Tenant: "a"}, start)
	}
	for range 4 {
		q.Push("after", queue.Claim{Tenant: "a", Weight: 3}, start)
	}
	after := 0
	for range 5 {
		if it, _ := q.Pop(start); it.Value == "after" {
			after++
		}
	}
	if after < 3 || q.Len() != 3 {
		t.Errorf("%d of the first 5 came after the naming, %d are left; want 3 at least, 3", after, q.Len())
	}
}

// A flood of names makes other strangers be forgotten, and nobody who is known: its line stands as before.
func TestStrangersAreForgottenFirst(t *testing.T) {
	q, now := queue.New[string](queue.Default()), start
	known := queue.Claim{Tenant: "known", Weight: 1}
	for range 9 {
		q.Push("", known, now)
	}
	now = now.Add(100 * time.Millisecond)
	for i := range 3000 {
		q.Push("", queue.Claim{Tenant: strconv.Itoa(i)}, now)
		q.Pop(now)
	}
	if it, _, _ := q.Push("", known, now); !it.Give.Equal(now.Add(50 * time.Millisecond)) {
		t.Errorf("after 3,000 names the known tenant waits for %v, want 50ms", it.Give.Sub(now))
	}
}
