package queue_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// The one who fits and whose turn comes first is taken, past those who do not fit; it is charged, and all others keep their turns.
func TestNextFit(t *testing.T) {
	q, now := queue.New[string](queue.Default()), time.Now()
	push := func(v string, rank int, tenant string) {
		q.Push(v, queue.Claim{Rank: rank, Tenant: tenant}, now)
	}
	push("heavy a1", 0, "a")
	push("light a2", 0, "a")
	push("heavy b1", 0, "b")
	push("light b2", 0, "b")
	push("light c1", 1, "c")
	light := func(v string) bool { return v[0] == 'l' }
	var got []string
	for it, ok := q.NextFit(now, light); ok; it, ok = q.NextFit(now, light) {
		q.Take(it, now)
		got = append(got, it.Value)
	}
	for it, ok := q.Pop(now); ok; it, ok = q.Pop(now) {
		got = append(got, it.Value)
	}
	want := []string{"light a2", "light b2", "light c1", "heavy a1", "heavy b1"}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("took %q, want %q", got, want)
		}
	}
}

// Where everybody fits NextFit is Next, whatever has happened before.
func TestNextFitOfAllIsNext(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	q, now := queue.New[int](queue.Settings{MaxWait: 50 * time.Millisecond, StandingWait: 20 * time.Millisecond, MaxLength: 100}), time.Now()
	for i := range 20_000 {
		switch now = now.Add(time.Duration(r.IntN(1000)) * time.Microsecond); r.IntN(3) {
		case 0:
			q.Pop(now)
		default:
			q.Push(i, queue.Claim{Rank: r.IntN(3), Tenant: string(rune('a' + r.IntN(5))), Weight: float64(r.IntN(3))}, now)
		}
		best, ok := q.Next(now)
		fit, fits := q.NextFit(now, func(int) bool { return true })
		if ok != fits || ok && best.Rank == fit.Rank && best != fit {
			t.Fatalf("step %d: NextFit is %v, want %v", i, fit, best)
		}
	}
}
