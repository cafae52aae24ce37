package netflix

import "time"

// AIMD adds one for every good sample while at least half of the limit is used, and takes a tenth for every drop.
type AIMD struct {
	// Initial, Min and Max bound the limit: 20, 20 and 200 by default.
	Initial, Min, Max int
	// Timeout is the round-trip time beyond which a sample is a drop: five seconds by default.
	Timeout time.Duration

	limit int
}

// backoff is what a drop leaves of the limit.
const backoff = 0.9

// NewAIMD returns it at its defaults.
func NewAIMD() *AIMD { return &AIMD{Initial: 20, Min: 20, Max: 200, Timeout: 5 * time.Second} }

// Limit implements Law.
func (a *AIMD) Limit() int {
	if a.limit == 0 {
		a.limit = a.Initial
	}
	return a.limit
}

// Sample implements Law.
func (a *AIMD) Sample(_ time.Time, rtt time.Duration, inFlight int, dropped bool) {
	limit := a.Limit()
	switch {
	case dropped || rtt > a.Timeout:
		limit = int(float64(limit) * backoff)
	case inFlight*2 >= limit:
		limit++
	}
	a.limit = min(max(limit, a.Min), a.Max)
}
