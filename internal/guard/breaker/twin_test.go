package breaker_test

import (
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// twin is a breaker that is slow and plain: it keeps every call in lists and looks at all of them each time. It knows neither gobreaker
// nor rings nor running totals, only the rules.
type twin struct {
	settings, inForce breaker.Settings // inForce: OpenFor and Probes as of the state's begin
	state             breaker.State
	begin             time.Time // of the state
	retryAt           time.Time
	epoch             int
	calls             []call // all of this state
	forced            breaker.Override
	shown             breaker.State
	told              []change
}

// call is a call of the present state, under way or done.
type call struct {
	start, end time.Time
	done       bool
	result     breaker.Result
	slow       bool
}

// pass is what the twin gives a call: its place in the list of an epoch, from 1.
type pass struct{ epoch, place int }

type change struct {
	at       time.Time
	from, to breaker.State
	actor    string
}

func newTwin(s breaker.Settings, now time.Time) *twin {
	return &twin{settings: s, inForce: s, begin: now, epoch: 1}
}

func (w *twin) enter(s breaker.State, now time.Time) {
	w.state, w.begin, w.calls = s, now, nil
	w.epoch++
	if s != breaker.HalfOpen {
		w.inForce = w.settings
	}
	w.retryAt = now.Add(w.inForce.OpenFor)
	w.tell("", now)
}

func (w *twin) visible() breaker.State {
	if w.forced.State != breaker.Closed {
		return w.forced.State
	}
	return w.state
}

func (w *twin) tell(actor string, now time.Time) {
	if s := w.visible(); s != w.shown {
		w.told = append(w.told, change{now, w.shown, s, actor})
		w.shown = s
	}
}

// tick applies what time alone brings about.
func (w *twin) tick(now time.Time) {
	switch w.state {
	case breaker.Open:
		if now.Sub(w.retryAt) >= 0 {
			w.enter(breaker.HalfOpen, now)
		}
	case breaker.HalfOpen:
		if _, first, any := w.underWay(); any && now.Sub(first) >= w.settings.ProbeTimeout {
			w.enter(breaker.Open, now)
		}
	}
	if f := w.forced; f.State != breaker.Closed && !f.Until.IsZero() && now.Sub(f.Until) >= 0 {
		w.forced = breaker.Override{}
		w.tell("", now)
	}
}

// underWay returns the number of calls without a result, and when the first of them began.
func (w *twin) underWay() (n int, first time.Time, any bool) {
	for _, c := range w.calls {
		if c.done {
			continue
		}
		if !any || c.start.Before(first) {
			first = c.start
		}
		n, any = n+1, true
	}
	return n, first, any
}

// tally counts results of this state that f holds true for.
func (w *twin) tally(f func(call) bool) (n int) {
	for _, c := range w.calls {
		if c.done && c.result != breaker.Ignored && f(c) {
			n++
		}
	}
	return n
}

func isSuccess(c call) bool { return c.result == breaker.Success }

func (w *twin) free() bool {
	n, _, _ := w.underWay()
	return n+w.tally(isSuccess) < w.inForce.Probes
}

func (w *twin) ready(now time.Time) (bool, time.Duration) {
	w.tick(now)
	switch {
	case w.forced.State == breaker.ForcedClosed:
		return true, 0
	case w.forced.State == breaker.ForcedOpen && w.forced.Until.IsZero():
		return false, w.settings.OpenFor
	case w.forced.State == breaker.ForcedOpen:
		return false, w.forced.Until.Sub(now)
	case w.state == breaker.Open:
		return false, w.retryAt.Sub(now)
	case w.state == breaker.HalfOpen && !w.free():
		_, first, _ := w.underWay()
		return false, first.Add(w.settings.ProbeTimeout).Sub(now)
	}
	return true, 0
}

func (w *twin) allow(now time.Time) (pass, bool, time.Duration) {
	ok, retryAfter := w.ready(now)
	if !ok || w.state == breaker.Open || w.state == breaker.HalfOpen && !w.free() {
		return pass{}, ok, retryAfter
	}
	w.calls = append(w.calls, call{start: now})
	return pass{w.epoch, len(w.calls)}, true, 0
}

func (w *twin) done(p pass, r breaker.Result, took time.Duration, now time.Time) {
	w.tick(now)
	if p.epoch != w.epoch || w.calls[p.place-1].done {
		return
	}
	slow := w.settings.SlowAfter > 0 && took >= w.settings.SlowAfter
	c := &w.calls[p.place-1]
	c.done, c.end, c.result, c.slow = true, now, r, slow
	switch {
	case r == breaker.Ignored:
	case w.state == breaker.HalfOpen:
		w.judgeProbes(*c, now)
	case r == breaker.Failure || slow:
		w.judgeCalls(now)
	}
}

func (w *twin) judgeProbes(last call, now time.Time) {
	slow := w.tally(func(c call) bool { return c.slow && isSuccess(c) })
	switch {
	case last.result == breaker.Failure,
		last.slow && float64(slow)/float64(w.inForce.Probes) >= w.settings.SlowRatio:
		w.enter(breaker.Open, now)
	case w.tally(isSuccess) == w.inForce.Probes:
		w.enter(breaker.Closed, now)
	}
}

// judgeCalls looks at the calls of this tenth of a window, counted from the state's begin, and of the nine before.
func (w *twin) judgeCalls(now time.Time) {
	tenth := func(t time.Time) int { return int(t.Sub(w.begin) / (w.settings.Window / 10)) }
	recent := func(c call) bool { return tenth(c.end) > tenth(now)-10 }
	all := w.tally(recent)
	failures := w.tally(func(c call) bool { return recent(c) && c.result == breaker.Failure })
	slow := w.tally(func(c call) bool { return recent(c) && c.slow })
	if all < w.settings.MinCalls {
		return
	}
	if float64(failures)/float64(all) >= w.settings.FailureRatio ||
		w.settings.SlowAfter > 0 && float64(slow)/float64(all) >= w.settings.SlowRatio {
		w.enter(breaker.Open, now)
	}
}

// configure leaves the window's length alone: what is left of statistics is told by a scenario.
func (w *twin) configure(s breaker.Settings, now time.Time) {
	w.tick(now)
	changed := s.OpenFor != w.inForce.OpenFor || s.Probes != w.inForce.Probes
	w.settings = s
	if w.state == breaker.HalfOpen {
		return
	}
	w.inForce = s
	if changed && w.state == breaker.Open {
		w.retryAt = now.Add(s.OpenFor)
	}
}

func (w *twin) force(o breaker.Override, now time.Time) {
	w.tick(now)
	w.forced = o
	if o.State == breaker.Closed || !o.Until.IsZero() && now.Sub(o.Until) >= 0 {
		w.forced = breaker.Override{}
	}
	w.tell(o.Actor, now)
}
