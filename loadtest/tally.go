package loadtest

import "google.golang.org/grpc/codes"

// Tally counts what became of the calls of one class. Once no call is outstanding, Offered is the sum of all others.
type Tally struct {
	Offered uint64                // scheduled and due
	Good    uint64                // answered with OK within the objective
	Late    uint64                // answered with OK after it
	Failed  map[codes.Code]uint64 // answered with an error, or not in time for the caller, by status code
	Refused map[string]uint64     // refused by a guard, by reason, as LIMIT_REACHED
	Dropped uint64                // not sent because too many calls were outstanding
	Cut     uint64                // in flight when the run was stopped
	// Latency is that of the calls answered with OK and of those that ran out of time, from the scheduled moment.
	Latency Histogram
}

// Failures returns the sum of Failed.
func (t *Tally) Failures() uint64 { return sum(t.Failed) }

// Refusals returns the sum of Refused.
func (t *Tally) Refusals() uint64 { return sum(t.Refused) }

// Ended returns how many calls have come to an end, of whatever kind.
func (t *Tally) Ended() uint64 {
	return t.Good + t.Late + t.Failures() + t.Refusals() + t.Dropped + t.Cut
}

// Merge adds what o has counted.
func (t *Tally) Merge(o *Tally) {
	t.Offered += o.Offered
	t.Good += o.Good
	t.Late += o.Late
	t.Failed = merge(t.Failed, o.Failed)
	t.Refused = merge(t.Refused, o.Refused)
	t.Dropped += o.Dropped
	t.Cut += o.Cut
	t.Latency.Merge(&o.Latency)
}

func sum[K comparable](m map[K]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// merge adds the counts of from to those of into, which may be nil, and returns it.
func merge[K comparable](into, from map[K]uint64) map[K]uint64 {
	for k, v := range from {
		into = count(into, k, v)
	}
	return into
}

// count adds n to the count of k in m, which may be nil, and returns it.
func count[K comparable](m map[K]uint64, k K, n uint64) map[K]uint64 {
	if m == nil {
		m = map[K]uint64{}
	}
	m[k] += n
	return m
}
