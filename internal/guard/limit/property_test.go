package limit_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// naive is a twin that only counts, and checks after each step what must always hold.
type naive struct {
	*limit.Limiter
	settings limit.Settings
	now      time.Time
	inFlight int
	limit    int // after the last change
}

func newNaive(s limit.Settings) *naive {
	l := limit.New(s, epoch)
	return &naive{Limiter: l, settings: s, now: epoch, limit: l.Limit()}
}

// step does what op and arg say.
func (n *naive) step(t *testing.T, op, arg byte) {
	t.Helper()
	switch op % 8 {
	case 0, 1, 2:
		want := n.inFlight < n.Limit()
		if got := n.Acquire(n.now); got != want {
			t.Fatalf("Acquire = %v with %d in flight of %d", got, n.inFlight, n.Limit())
		} else if got {
			n.inFlight++
		}
	case 3, 4:
		n.Release(limit.Result(arg%4), time.Duration(arg)*time.Millisecond, n.now)
		n.inFlight = max(0, n.inFlight-1)
	case 5:
		n.now = n.now.Add(time.Duration(arg) * time.Millisecond)
	case 6:
		n.configure(arg)
	case 7:
		n.Restart(n.now)
	}
	n.check(t)
}

func (n *naive) configure(arg byte) {
	low := 1 + int(arg%16)
	n.settings = limit.Settings{Law: limit.Adaptive, Initial: 8, Min: low, Max: low + int(arg/4)}
	if arg%3 == 0 {
		n.settings.Law = limit.Fixed
	}
	if arg%11 == 0 {
		n.settings.Max = 0
	}
	n.Configure(n.settings, n.now)
}

func (n *naive) check(t *testing.T) {
	t.Helper()
	s, got := n.settings, n.Limit()
	if n.InFlight() != n.inFlight {
		t.Fatalf("InFlight = %d, want %d", n.InFlight(), n.inFlight)
	}
	if got > s.Max || got < min(s.Min, s.Max) {
		t.Fatalf("Limit = %d, want %d to %d", got, s.Min, s.Max)
	}
	if want := min(max(s.Initial, s.Min), s.Max); s.Law == limit.Fixed && got != want {
		t.Fatalf("Limit = %d, want the fixed %d", got, want)
	}
	for _, c := range n.Changes() {
		if c.From != n.limit || c.To == c.From || c.Reason == "" || c.Time.After(n.now) {
			t.Fatalf("change %+v at %v from limit %d", c, n.now, n.limit)
		}
		n.limit = c.To
	}
	if n.limit != got || n.Status().Reason == "" {
		t.Fatalf("changes lead to %d, Limit is %d: %q", n.limit, got, n.Status().Reason)
	}
}

// FuzzAccount checks that whatever happens in whatever order, slots are conserved, the limit is within its bounds and its moves are told.
func FuzzAccount(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 3, 1, 3, 2, 5, 50, 6, 33, 7, 0})
	f.Add([]byte{0, 0, 5, 255, 3, 2, 0, 0, 3, 2, 0, 0, 3, 2, 0, 0, 3, 1})
	f.Fuzz(func(t *testing.T, ops []byte) {
		n := newNaive(limit.Default())
		for i := 0; i+1 < len(ops); i += 2 {
			n.step(t, ops[i], ops[i+1])
		}
	})
}

// The same with long random runs, in which the law gets to work.
func TestAccountHolds(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := newNaive(limit.Default())
		for range 10_000 {
			op := byte(r.IntN(6))
			if r.IntN(1000) == 0 {
				op = byte(r.IntN(8))
			}
			n.step(t, op, byte(r.IntN(256)))
		}
	}
}

// A guard is deterministic given the instants: two limiters that see the same calls move alike.
func TestSameCallsSameMoves(t *testing.T) {
	var runs [2][]limit.Change
	for i := range runs {
		s := newSim(widths[1], limit.Default(), 7)
		s.rate = 3 * s.capacity()
		s.each = func(*second) { runs[i] = append(runs[i], s.Changes()...) }
		s.run(10 * time.Second)
	}
	if len(runs[0]) < 5 || len(runs[0]) != len(runs[1]) {
		t.Fatalf("%d and %d moves", len(runs[0]), len(runs[1]))
	}
	for i, c := range runs[0] {
		if c != runs[1][i] {
			t.Errorf("move %d is %+v and %+v", i, c, runs[1][i])
		}
	}
}
