package scenario

import "time"

// Bin is the step of time in which a Record adds up what has no moment of its own.
const Bin = 100 * time.Millisecond

// Record is what happened in one run. Moments are counted from its start.
type Record struct {
	Scenario *Scenario
	Variant  Variant
	Gate     string // what stood in front of the back-end
	Seed     uint64
	Requests []Request // in the order of their scheduled moments
	Attempts []Attempt // in the order in which they were made
	// Busy and Wasted are how long all workers worked in each Bin, in seconds, and how much of it was for attempts whose callers had given up
	// or that were late already.
	Busy, Wasted []float64
	Messages     []Message // of streams, in the order of their answers
	Samples      []Sample  // at the end of each Bin
	Crashes      []time.Duration
	// Coldness is how much longer jobs took at each replica at the end of each Bin because its cache was cold; 1 is full. Only a scenario
	// with kills needs it, for what a replica can serve at best depends on how far it has warmed up.
	Coldness [][]float64
	// Hindsight is how many requests of the measured window are good under the best static limit; only the oracle of that name needs it.
	Hindsight float64
	Commands  []Command // that the guard has heard, in their order
}

// Request is what a caller wants, in one or more attempts.
type Request struct {
	Class   int
	Due     time.Duration // when it was scheduled
	Done    time.Duration // when it succeeded or was given up
	Good    bool          // it succeeded in time
	Refused bool          // an attempt of it was refused
	Off     bool          // it was refused because its feature is off
}

// Message is one of a stream that was answered.
type Message struct {
	Class          int
	Sent, Answered time.Duration
}

// Attempt is one call. A stream ends when it is closed.
type Attempt struct {
	Class   int
	Made    time.Duration
	Sent    time.Duration // to the back-end; negative if it never was
	Ended   time.Duration
	Replica int // to which it was sent
	Fate    Fate
}

// Fate is how an attempt ended.
type Fate uint8

// The fates.
const (
	Served   Fate = iota
	Shed          // refused by the gate
	TimedOut      // its caller gave up
	Failed        // the back-end refused it, crashed or was not there; or the gate died
	Off           // refused by the gate, for its feature is off
)

// Sample is the state at one moment.
type Sample struct {
	At       time.Duration
	InFlight int     // attempts sent and not ended, as their callers see it
	Work     int     // jobs running and queued at the back-ends, work for nobody included
	Queued   int     // attempts that wait at the gate
	Limit    float64 // of the gate; 0 if it has none
}

// NewRecord returns an empty record of a run.
func NewRecord(s *Scenario, v Variant, gate string, seed uint64) *Record {
	bins := s.bins()
	return &Record{
		Scenario: s, Variant: v, Gate: gate, Seed: seed,
		Busy: make([]float64, bins), Wasted: make([]float64, bins), Coldness: make([][]float64, len(s.Replicas)),
	}
}

// bins is how many bins the time in which calls are scheduled has.
func (s *Scenario) bins() int { return int((s.Duration + Bin - 1) / Bin) }

// Work adds that a worker was busy in a span of time, for a call that was late or given up from late on.
func (r *Record) Work(from, to, late time.Duration) {
	spread(r.Busy, from, to)
	spread(r.Wasted, max(from, late), to)
}

// spread adds the seconds of a span to the bins that it lies in.
func spread(bins []float64, from, to time.Duration) {
	for from < to && int(from/Bin) < len(bins) {
		i := int(from / Bin)
		end := min(to, time.Duration(i+1)*Bin)
		bins[i] += (end - from).Seconds()
		from = end
	}
}
