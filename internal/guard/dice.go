package guard

import (
	"math/bits"
	"math/rand/v2"
)

// dice draw numbers under the guard's lock: a third of what the generator that all goroutines share costs, which a refusal notices.
type dice struct{ pcg *rand.PCG }

func newDice() dice { return dice{rand.NewPCG(rand.Uint64(), rand.Uint64())} }

// below returns a number from 0 to n, n not included; how likely each is differs by less than one in a million for any n in use here.
func (d dice) below(n int64) int64 {
	high, _ := bits.Mul64(d.pcg.Uint64(), uint64(n))
	return int64(high)
}
