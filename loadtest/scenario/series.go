package scenario

import (
	"math"
	"time"
)

// Series is a Record in bins of time, for measures and for plots. It is about unary calls; the messages of streams go first, and are taken
// off what can be served. Requests are counted when they were scheduled, unless it says otherwise; those of a feature that is off are not.
type Series struct {
	Offered []float64 // requests
	Good    []float64 // of them
	Refused []float64 // of them, at least once
	Served  []float64 // good requests, when they succeeded
	Sent    []float64 // attempts, when they were sent
	Supply  []float64 // unary calls of weight 1 that the back-ends can serve at best
	Timely  []float64 // share of calls that the best replica serves in time, if none waits
	Planned []float64 // requests to be expected by the schedules
}

// Series returns r in bins.
func (r *Record) Series() *Series {
	n := r.Scenario.bins()
	fresh := func() []float64 { return make([]float64, n) }
	s := &Series{Offered: fresh(), Good: fresh(), Refused: fresh(), Served: fresh(), Sent: fresh(), Planned: fresh()}
	s.Supply, s.Timely = r.supply(n)
	streams := func(class int) bool { return r.Scenario.Classes[class].Stream != nil }
	for _, q := range r.Requests {
		if streams(q.Class) || q.Off {
			continue
		}
		add(s.Offered, q.Due, true)
		add(s.Good, q.Due, q.Good)
		add(s.Refused, q.Due, q.Refused)
		add(s.Served, q.Done, q.Good)
	}
	for _, a := range r.Attempts {
		add(s.Sent, a.Sent, a.Sent >= 0 && !streams(a.Class))
	}
	for _, m := range r.Messages {
		if i := int(m.Sent / Bin); i < n {
			s.Supply[i] -= r.Scenario.Classes[m.Class].Stream.Weight
		}
	}
	for i := range n {
		for c, class := range r.Scenario.Classes {
			if !streams(c) {
				s.Planned[i] += class.Rate.Calls(time.Duration(i)*Bin, time.Duration(i+1)*Bin)
			}
		}
	}
	return s
}

func add(bins []float64, at time.Duration, counts bool) {
	if i := int(at / Bin); counts && i < len(bins) {
		bins[i]++
	}
}

// supply returns what all replicas can serve in each of n bins, and which share of calls the best of them serves in time.
func (r *Record) supply(n int) (jobs, timely []float64) {
	jobs, timely = make([]float64, n), make([]float64, n)
	s := r.Scenario
	for i, replica := range s.Replicas {
		for b, can := range replica.Supply(Bin, n, min(s.Timeout, s.Good()), s.killsOf(i)...) {
			if len(s.Kills) > 0 {
				can.Jobs /= r.Coldness[i][b]
			}
			jobs[b] += can.Jobs
			timely[b] = max(timely[b], can.Timely)
		}
	}
	return jobs, timely
}

func (s *Scenario) killsOf(replica int) (at []time.Duration) {
	for _, k := range s.Kills {
		if k.Replica == replica {
			at = append(at, k.At)
		}
	}
	return at
}

// over sums bins over a window.
func over(bins []float64, w Window) (sum float64) {
	for i := int(w.From / Bin); i < min(int(w.To/Bin), len(bins)); i++ {
		sum += bins[i]
	}
	return sum
}

// possible returns how many requests of a window could be good, and whether there are so few because no more were offered.
func (m *measurement) possible(w Window) (n float64, all bool) {
	n = over(m.Offered, w)
	if supply := over(m.Supply, w); supply < n && m.record.Scenario.Oracle != Offered {
		return supply * m.timely(w) * m.scale, false
	}
	return n * m.timely(w) * m.scale, true
}

// timely returns the mean share of calls in a window that can be served in time.
func (m *measurement) timely(w Window) float64 {
	return over(m.Timely, w) * float64(Bin) / float64(w.To-w.From)
}

// made returns how many requests of a window were good. Where all that is offered can be served, a request counts at its scheduled moment,
// so that it does not matter how the moments of success lie; where not, when it succeeded: what waits at the end of a window is not yet an
// achievement.
func (m *measurement) made(w Window, all bool) float64 {
	if all {
		return over(m.Good, w)
	}
	return over(m.Served, w)
}

// score returns what was good and what was possible, second by second.
func (m *measurement) score(w Window) (made, possible float64) {
	for b := range w.blocks {
		n, all := m.possible(b)
		possible += n
		made += m.made(b, all)
	}
	return made, possible
}

// blocks yields the seconds of a window.
func (w Window) blocks(yield func(Window) bool) {
	for t := w.From; t < w.To; t += time.Second {
		if !yield(Window{t, min(t+time.Second, w.To)}) {
			return
		}
	}
}

// ratio returns the share of the possible that was good; 1 if nothing was.
func (m *measurement) ratio(w Window) float64 {
	if made, possible := m.score(w); possible > 0 {
		return made / possible
	}
	return 1
}

// settled returns how long after since the ratio of every window of a second is at least level for as long as hold; infinite if never.
func (m *measurement) settled(since time.Duration, level float64, hold time.Duration) float64 {
	run := time.Duration(0)
	for t := since; t+time.Second <= m.record.Scenario.Duration; t += Bin {
		if m.ratio(Window{t, t + time.Second}) < level {
			run = 0
			continue
		}
		if run += Bin; run > hold-time.Second {
			return (t - run + Bin - since).Seconds()
		}
	}
	return math.Inf(1)
}
