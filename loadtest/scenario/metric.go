package scenario

import (
	"math"
	"slices"
	"time"
)

// Metric is a measure of a run.
type Metric uint8

// The metrics; where a number stands, it is that of the specification's list.
const (
	Goodput       Metric = iota // M1: good requests, as a share of the oracle
	WorstSecond                 // M4: the least of it in one second
	P99                         // M2: 99th percentile of how long admitted attempts took, the wait at the gate included, in seconds
	Convergence                 // M3: seconds from the change until every second for 3 s has 0.88 of the oracle
	Recovery                    // M5: seconds from the heal until every second for 5 s has 0.95 of the oracle
	Return                      // seconds from the heal until every second for 3 s has 0.9 of the oracle, which warms up
	FalseRefusals               // M10: refused requests, as a share of the offered, while less is offered than can be served
	Wasted                      // M7: work for callers that had given up or got it too late, as a share of all work
	Amplification               // M6: attempts sent to the back-end for each request
	Refused                     // refused requests, as a share of the offered
	Success                     // good requests, as a share of the offered
	Share                       // good requests, as a share of all good ones
	Rate                        // good requests a second
	Inversions                  // M8: critical requests that were not good while a lower class was sent on, as a share of the critical
	Jain                        // M9: Jain's index of the success of the classes: 1 is all alike
	Gap                         // how far the success of the classes is apart, as a share of the highest
	Dispatched                  // attempts sent a second
	Crashes                     // M15: deaths of the back-end, in the whole run
	Readmission                 // seconds from the heal until the first replica gets half of an equal share
	MessageP99                  // 99th percentile of how long messages of streams took, in seconds
	Resets                      // established streams that were broken
	OpenRefusal                 // 99th percentile of how long it took to refuse a stream, in seconds
	FlipAtGuard                 // M12: seconds from a command until no call is treated by the old value any more, the worst command
	FlipAtClients               // M12: seconds from a command until the library of every client knows it for good, the worst one
	FlipCut                     // calls of a feature that were at the back-end when it was switched, and did not end well
	AddedP50                    // M13: by how much the median of calls is above that of direct ones, in seconds
	AddedP99                    // M13: the same of the 99th percentile
)

// kind says how a worst seed may differ from the median, and how a figure is written.
type kind uint8

const (
	ratio   kind = iota // 0.03
	portion             // by half; written in per cent
	timing              // by half; written in seconds
	count               // not at all
)

// metrics describes each metric.
var metrics = [...]struct {
	name string
	kind kind
	of   func(*measurement, Window, Want) float64
}{
	Goodput:       {"goodput", ratio, goodput},
	WorstSecond:   {"worst second", ratio, worstSecond},
	P99:           {"p99", timing, p99},
	Convergence:   {"convergence", timing, convergence},
	Recovery:      {"recovery", timing, recovery},
	Return:        {"return", timing, returned},
	FalseRefusals: {"false refusals", portion, falseRefusals},
	Wasted:        {"wasted", portion, wasted},
	Amplification: {"amplification", ratio, amplification},
	Refused:       {"refused", portion, refused},
	Success:       {"success", ratio, success},
	Share:         {"share", portion, share},
	Rate:          {"rate", ratio, rate},
	Inversions:    {"inversions", portion, inversions},
	Jain:          {"Jain", ratio, jain},
	Gap:           {"gap", ratio, gap},
	Dispatched:    {"dispatched", count, dispatched},
	Crashes:       {"crashes", count, crashes},
	Readmission:   {"re-admission", timing, readmission},
	MessageP99:    {"message p99", timing, messageP99},
	Resets:        {"resets", count, resets},
	OpenRefusal:   {"refusal of streams", timing, openRefusal},
	FlipAtGuard:   {"flip at the guard", timing, flipAtGuard},
	FlipAtClients: {"flip at all clients", timing, flipAtClients},
	FlipCut:       {"cut by a flip", count, flipCut},
	AddedP50:      {"added p50", timing, addedP50},
	AddedP99:      {"added p99", timing, addedP99},
}

// String returns the name of a metric in words.
func (m Metric) String() string { return metrics[m].name }

// measurement is a record that is being measured.
type measurement struct {
	record *Record
	*Series
	scale float64 // of what is possible: below 1 where hindsight says so
}

func measured(r *Record) *measurement {
	m := &measurement{record: r, Series: r.Series(), scale: 1}
	if r.Scenario.Oracle == Hindsight {
		_, possible := m.score(r.Scenario.Measured)
		m.scale = r.Hindsight / possible
	}
	return m
}

// GoodIn returns how many requests of the measured window were good: what a Record of the best static limit tells as Hindsight.
func (r *Record) GoodIn() float64 {
	m := &measurement{record: r, Series: r.Series(), scale: 1}
	made, _ := m.score(r.Scenario.Measured)
	return made
}

// part is a share of a whole, of which there may be nothing.
func part(some, all float64) float64 {
	if all == 0 {
		return 0
	}
	return some / all
}

func goodput(m *measurement, w Window, _ Want) float64 { return m.ratio(w) }

func convergence(m *measurement, _ Window, _ Want) float64 {
	return m.settled(m.record.Scenario.Change, 0.88, 3*time.Second)
}

func recovery(m *measurement, _ Window, _ Want) float64 {
	return m.settled(m.record.Scenario.Heal, 0.95, 5*time.Second)
}

func returned(m *measurement, _ Window, _ Want) float64 {
	return m.settled(m.record.Scenario.Heal, 0.9, 3*time.Second)
}

func wasted(m *measurement, w Window, _ Want) float64 {
	return part(over(m.record.Wasted, w), over(m.record.Busy, w))
}

func amplification(m *measurement, w Window, _ Want) float64 {
	return part(over(m.Sent, w), over(m.Offered, w))
}

func refused(m *measurement, w Window, _ Want) float64 {
	return part(over(m.Refused, w), over(m.Offered, w))
}

func dispatched(m *measurement, w Window, _ Want) float64 { return over(m.Sent, w) / w.seconds() }

func rate(m *measurement, w Window, x Want) float64 { return m.tally(w, x.Classes).good / w.seconds() }

func crashes(m *measurement, _ Window, _ Want) float64 { return float64(len(m.record.Crashes)) }

func worstSecond(m *measurement, w Window, _ Want) float64 {
	worst := math.Inf(1)
	for b := range w.blocks {
		worst = min(worst, m.ratio(b))
	}
	return worst
}

func p99(m *measurement, w Window, _ Want) float64 {
	var took []time.Duration
	for _, a := range m.record.Attempts {
		if a.Sent >= 0 && a.Fate != Failed && w.holds(a.Made) && !m.streams(a) {
			took = append(took, a.Ended-a.Made)
		}
	}
	return percentile(took)
}

func (m *measurement) streams(a Attempt) bool {
	return m.record.Scenario.Classes[a.Class].Stream != nil
}

// percentile returns the 99th in seconds; 0 of nothing.
func percentile(took []time.Duration) float64 { return quantile(took, 99) }

// quantile returns a percentile in seconds; 0 of nothing.
func quantile(took []time.Duration, percent int) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, len(took)*percent/100)].Seconds()
}

func falseRefusals(m *measurement, w Window, _ Want) float64 {
	var refused, offered float64
	for b := range w.blocks {
		if over(m.Planned, b) < over(m.Supply, b) {
			refused += over(m.Refused, b)
			offered += over(m.Offered, b)
		}
	}
	return part(refused, offered)
}

// counts are of the requests of some classes.
type counts struct{ offered, good float64 }

func (c counts) success() float64 { return part(c.good, c.offered) }

// tally counts the requests of a window, of the classes named; of all if none is. Those of a feature that is off are nobody's loss.
func (m *measurement) tally(w Window, classes []string) (c counts) {
	for _, q := range m.record.Requests {
		if !w.holds(q.Due) || q.Off || len(classes) > 0 && !slices.Contains(classes, m.record.Scenario.Classes[q.Class].Name) {
			continue
		}
		c.offered++
		if q.Good {
			c.good++
		}
	}
	return c
}

// each returns the success of every class named; of all if none is.
func (m *measurement) each(w Window, classes []string) (list []float64) {
	for _, c := range m.record.Scenario.Classes {
		if len(classes) == 0 || slices.Contains(classes, c.Name) {
			list = append(list, m.tally(w, []string{c.Name}).success())
		}
	}
	return list
}

func success(m *measurement, w Window, x Want) float64 { return m.tally(w, x.Classes).success() }

func share(m *measurement, w Window, x Want) float64 {
	return part(m.tally(w, x.Classes).good, m.tally(w, nil).good)
}

func jain(m *measurement, w Window, x Want) float64 {
	var sum, squares float64
	each := m.each(w, x.Classes)
	for _, v := range each {
		sum += v
		squares += v * v
	}
	return part(sum*sum, squares*float64(len(each)))
}

func gap(m *measurement, w Window, x Want) float64 {
	each := m.each(w, x.Classes)
	return 1 - part(slices.Min(each), slices.Max(each))
}

func inversions(m *measurement, w Window, _ Want) float64 {
	classes := m.record.Scenario.Classes
	top := slices.MinFunc(classes, func(a, b Class) int { return int(a.Criticality) - int(b.Criticality) }).Criticality
	var lower []time.Duration // when calls of lower classes were sent
	for _, a := range m.record.Attempts {
		if a.Sent >= 0 && classes[a.Class].Criticality > top {
			lower = append(lower, a.Sent)
		}
	}
	slices.Sort(lower)
	var inverted, all float64
	for _, q := range m.record.Requests {
		if classes[q.Class].Criticality != top || !w.holds(q.Due) {
			continue
		}
		all++
		if i, _ := slices.BinarySearch(lower, q.Due); !q.Good && i < len(lower) && lower[i] <= q.Done {
			inverted++
		}
	}
	return part(inverted, all)
}

func readmission(m *measurement, _ Window, _ Want) float64 {
	s := m.record.Scenario
	first, all := make([]float64, s.bins()), make([]float64, s.bins())
	for _, a := range m.record.Attempts {
		add(all, a.Sent, a.Sent >= 0)
		add(first, a.Sent, a.Sent >= 0 && a.Replica == 0)
	}
	for t := s.Heal; t+time.Second <= s.Duration; t += Bin {
		w := Window{t, t + time.Second}
		if over(first, w) >= over(all, w)/float64(2*len(s.Replicas)) {
			return (w.To - s.Heal).Seconds()
		}
	}
	return math.Inf(1)
}
