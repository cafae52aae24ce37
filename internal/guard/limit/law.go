package limit

import "fmt"

// law is how a limit is found. The Limiter counts; a law looks at what the Limiter has seen, and moves its limit by Limiter.move.
type law interface {
	// sends takes note of a call of a cost that is sent at a level, and returns a mark for its slot.
	sends(l *Limiter, level, cost int) uint32
	// learn takes in an answer.
	learn(l *Limiter, a answer)
	// restart begins again from the lowest limit.
	restart(l *Limiter)
	// resume goes on from a limit that was known before.
	resume(l *Limiter, limit int)
	// bounded takes note that the limit in force lies outside of new bounds, or that the law has just taken over.
	bounded(l *Limiter)
	// knows is the limit that has proved right, to begin with after a restart of the guard.
	knows() int
}

// answer is what came back with a slot.
type answer struct {
	result Result
	took   float64 // in seconds
	usual  float64 // how long calls of its kind take beside others
	cost   int     // units that it took
	level  int     // units taken when it was sent, its own and charges included
	mark   uint32  // of its slot
}

// tells reports whether r is a sample of latency.
func (r Result) tells() bool { return r == Success || r == Overload }

// newLaw returns the law that the settings name, beginning at a limit.
func (s Settings) newLaw(first int) law {
	switch s.Law {
	case AIMD:
		return &aimd{standing: standing{float64(first)}}
	case Gradient:
		return &gradient{standing: standing{float64(first)}}
	case Fixed:
		return fixed{}
	}
	return &adaptive{base: float64(first), seeking: true}
}

// resumed is the reason of a limit that was known before.
func resumed(limit int) string { return fmt.Sprintf("resume: %d was known before", limit) }

// fixed never moves.
type fixed struct{}

func (fixed) sends(*Limiter, int, int) uint32 { return 0 }
func (fixed) learn(*Limiter, answer)          {}
func (fixed) restart(*Limiter)                {}
func (fixed) resume(*Limiter, int)            {}
func (fixed) bounded(*Limiter)                {}
func (fixed) knows() int                      { return 0 }
