package limit_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// FuzzAccount checks that whatever happens in whatever order, slots and charges are conserved, the limit is within its bounds and its moves
// are told.
func FuzzAccount(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 3, 1, 3, 2, 6, 50, 7, 33, 8, 0})
	f.Add([]byte{0, 0, 6, 255, 3, 2, 0, 0, 3, 2, 0, 0, 3, 2, 0, 0, 3, 1})
	f.Add([]byte{0, 253, 3, 21, 0, 253, 3, 104, 6, 40, 0, 0, 6, 10, 9, 200, 10, 3})
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := newTwin(limit.Default())
		for i := 0; i+1 < len(ops); i += 2 {
			w.step(t, ops[i], ops[i+1])
		}
		w.finish(t)
	})
}

// The same with long random runs, in which the laws get to work.
func TestAccountHolds(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := newTwin(limit.Settings{Law: limit.Laws()[seed%4], Initial: 8, Min: 1, Max: 1000})
		for range 5_000 {
			op := byte(r.IntN(7))
			if r.IntN(500) == 0 {
				op = byte(r.IntN(11))
			}
			if len(w.calls) > 100 {
				op = 3
			}
			w.step(t, op, byte(r.IntN(256)))
		}
		w.finish(t)
	}
}

// A guard is deterministic given the instants: two limiters that see the same calls move alike.
func TestSameCallsSameMoves(t *testing.T) {
	for _, law := range limit.Laws()[:3] {
		var runs [2][]limit.Change
		for i := range runs {
			settings := limit.Default()
			settings.Law = law
			s := newSim(widths[1], settings, 7)
			s.rate = 3 * s.capacity()
			s.each = func(*second) { runs[i] = append(runs[i], s.Changes()...) }
			s.run(10 * time.Second)
		}
		if len(runs[0]) < 5 || !slices.Equal(runs[0], runs[1]) {
			t.Errorf("%s: %d and %d moves, which are not the same", law, len(runs[0]), len(runs[1]))
		}
	}
}
