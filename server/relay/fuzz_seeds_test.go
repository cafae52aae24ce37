package relay_test

import (
	"math/rand/v2"
	"testing"
)

// scripts are games worth beginning with. Each step is who, what, and what that needs.
func scripts() [][]byte {
	const client, backend, held = 0, 1, 4
	call := []byte{0,
		client, 0, 2, 0, // a request
		client, 4, 4, // 1000 bytes of it
		client, 4, 0x84, // and the last
		backend, 4, 4, // the answer begins
		backend, 10, 0, // and ends with trailers
	}
	return [][]byte{
		call,
		{0, client, 0, 3, 0, backend, 0, 1, 0},
		{0, client, 0, 2, 2, client, 4, 4, client, 0, 3, 2},                                           // answers of the hook
		{0, client, 0, 2, 4, client, 4, 6, client, 28, 0, client, 4, 0x86, backend, 4, 6},             // a decision that comes later
		{12, client, 0, 2, 0, client, 4, 6, client, 4, 6, backend, 13, 0x43, backend, 16, 0x10, 0x84}, // small windows
		{0, client, 0, 2, 0, client, 12, 8, backend, 4, 4},
		{0, client, 0, 2, 0, client, 4, 4, backend, 12, 7, backend, 18, 1},
		{2, client, 0, 2, 8, client, 4, 4, backend, 12, 7, 2, 4, 4, 2, 10, 0}, // refused, and sent elsewhere
		{1, client, 0, 2, 0, backend + 1, 0, 2, 0, client, 22, 0, backend, 4, 6, backend, 4, 6, client, 23},
		{0, client, 19, 0x1e, client, 0, 2 + 4*4, 0, client, 4, 4, backend, 19, 9, backend, 4, 4, backend, 10, 0},
		{0, client | held, 0, 2, 0, client | held, 4, 4, client | 13<<3, 25, client, 4, 0x84},
		{0, client, 0, 2, 0, client, 20, 0, 1, 4, 1, 2, 3, 4},
		{0, client, 0, 2, 0, client | 5<<3, 21, 1, 2, 3, 4, 5, backend, 18, 0x18},
		{0, client, 18, 0x10, client, 0, 2, 0, client, 17, 1, client, 27, 2},
		{4, client, 0, 2, 0, client, 13, 6, backend, 4, 6, backend, 4, 6, backend, 4, 6, backend, 4, 6, backend, 4, 6, client, 13, 0x46},
		{0, client, 0, 2, 0, client, 0, 2, 0, backend | held, 0, 0, 0, client, 12, 8, backend | 1<<3, 0, 0, 0}, // an answer that comes too late
		{0, backend, 18, 1, client, 0, 2, 0, client, 30, 6, client, 30, 1},
	}
}

// The same over long random scripts.
func TestFramesInAnyOrder(t *testing.T) {
	for seed := range uint64(2_000) {
		r := rand.New(rand.NewPCG(seed, 11))
		script := make([]byte, r.IntN(600))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		if verdict, _ := play(script, false); verdict != "" {
			_, story := play(script, true)
			t.Fatalf("seed %d, %x: %s\n%s", seed, script, verdict, story)
		}
	}
}
