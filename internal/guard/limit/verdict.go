package limit

import (
	"fmt"
	"math"
)

// verdict is a comparison of two windows at different limits.
type verdict struct {
	throughput, concurrency float64 // ratios, later to earlier
	worth                   bool    // concurrency buys throughput
	sure                    bool    // the figures can carry it
	likely                  bool    // they lean to it
	slower                  bool    // answers took longer, beyond noise and a tenth
}

// String gives the figures behind it.
func (v verdict) String() string {
	percent := func(ratio float64) int { return int(math.Round(100 * (ratio - 1))) } // whole, for there is no -0
	return fmt.Sprintf("throughput %+d %% with concurrency %+d %%", percent(v.throughput), percent(v.concurrency))
}

// partly reports whether throughput went along, up or down, as much as a small step that pays would have moved it.
func (v verdict) partly(up bool) bool {
	gain := math.Log(v.throughput)
	if !up {
		gain = -gain
	}
	return gain >= worth*math.Log(smallStep)
}

// compare asks whether concurrency buys throughput: the elasticity of throughput, the ratio of their relative changes. step is the
// logarithm of the change of the limit; in-flight that did not follow it says nothing. The error of a throughput, and of a latency, over n
// answers is about spread/√n; two such errors make it sure, or an error so small that it matters no more; one makes it likely.
func compare(before, after window, step float64) verdict {
	v := verdict{throughput: after.throughput() / before.throughput(), concurrency: after.inFlight() / before.inFlight()}
	err := max(before.spread(), after.spread()) * math.Sqrt(1/before.answers()+1/after.answers())
	v.slower = math.Log(after.latency()/before.latency()) > max(err, 0.1)
	dn := math.Log(v.concurrency)
	if dn/step < worth {
		return v
	}
	e := math.Log(v.throughput) / dn
	err /= math.Abs(dn)
	enough := after.answers() >= fewest
	v.worth = e > worth
	v.sure = enough && (math.Abs(e-worth) >= 2*err || err <= 0.2)
	v.likely = enough && math.Abs(e-worth) >= err
	return v
}

// binds reports whether limit held demand back in w.
func (w *window) binds(limit int) bool { return w.held > 0 && w.inFlight() >= binding*float64(limit) }

// overrun reports whether far more was asked for than limit let through: then a queue may stand at the back-end that is of no use to
// anybody, and less may do. Slots were taken all the time, or three asked for each.
func (w *window) overrun() bool {
	return float64(w.full) >= 0.95*float64(w.span) || w.held >= 2*w.answers()
}

// serves reports whether demand found a slot, but for a few calls.
func (w *window) serves() bool { return w.held <= 0.1*w.answers() }

// differs reports whether the back-end became another one: at the same limit its answers take much longer or shorter than before.
func (w *window) differs(ref window) bool {
	if ref.answers() < firstLook || w.answers() < firstLook {
		return false
	}
	d := math.Abs(math.Log(w.latency() / ref.latency()))
	return d > 4*ref.spread()*math.Sqrt(1/ref.answers()+1/w.answers())
}
