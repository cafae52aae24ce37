package guard_test

import (
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// twin is a guard with a fixed limit as one would explain it: lists, no slots, no cleverness, and time only as it is told.
type twin struct {
	s       guard.Settings
	off     map[string]bool
	forced  bool
	out     []*twinCall // admitted and not given back
	line    []*twinCall // by arrival
	totals  guard.Totals
	doubles uint64
}

type twinCall struct {
	guard.Call
	stream      bool
	since, give time.Time
	reason      guard.Reason
	answered    bool
}

func (w *twin) unary() (n int) {
	for _, c := range w.out {
		if !c.stream {
			n++
		}
	}
	return n
}

func (w *twin) streams() int { return len(w.out) - w.unary() }

func (w *twin) settle(c *twinCall, r guard.Reason) {
	c.reason, c.answered = r, true
	if r == guard.None {
		w.totals.Admitted++
		w.out = append(w.out, c)
		return
	}
	w.totals.Refused[r]++
}

func (w *twin) admit(call guard.Call) *twinCall {
	c := &twinCall{Call: call, stream: call.Stream}
	if w.off[c.Feature] {
		w.settle(c, guard.FeatureOff)
		return c
	}
	r := guard.None
	if w.s.Mode != guard.Off {
		r = w.check(c)
	}
	switch {
	case w.s.Mode == guard.Enforce && r == guard.LimitReached && !c.stream && w.limit() > 0:
		w.push(c)
	case w.s.Mode == guard.Enforce:
		w.settle(c, r)
	default:
		if r != guard.None {
			w.totals.WouldRefuse[r]++
		}
		w.settle(c, guard.None)
		c.reason = r
	}
	return c
}

func (w *twin) limit() int { return min(w.s.Limit.Initial, w.s.Limit.Max) }

func (w *twin) check(c *twinCall) guard.Reason {
	switch {
	case !c.Deadline.IsZero() && !c.Deadline.After(time.Now()):
		return guard.DeadlineUnreachable
	case w.forced:
		return guard.BreakerOpen
	case c.stream && w.streams() >= w.s.MaxStreams, !c.stream && w.unary() >= w.limit():
		return guard.LimitReached
	}
	return guard.None
}

func (w *twin) push(c *twinCall) {
	c.since = time.Now()
	c.give = c.since.Add(w.s.Queue.MaxWait)
	if !c.Deadline.IsZero() && c.Deadline.Before(c.give) {
		c.give = c.Deadline
	}
	w.line = append(w.line, c)
	if len(w.line) > w.s.Queue.MaxLength {
		w.leave(w.worst(), guard.LimitReached)
	}
}

func (w *twin) leave(c *twinCall, r guard.Reason) {
	w.line = slices.DeleteFunc(w.line, func(x *twinCall) bool { return x == c })
	w.settle(c, r)
}

// rank returns those of one criticality in the order in which they are served.
func (w *twin) rank(c guard.Criticality) []*twinCall {
	var of []*twinCall
	for _, x := range w.line {
		if x.Criticality == c {
			of = append(of, x)
		}
	}
	if len(of) > 0 && time.Since(of[0].since) >= w.s.Queue.MaxWait/2 {
		slices.Reverse(of)
	}
	return of
}

func (w *twin) order() (all []*twinCall) {
	for c := guard.CriticalPlus; c <= guard.Sheddable; c++ {
		all = append(all, w.rank(c)...)
	}
	return all
}

func (w *twin) worst() *twinCall { return w.order()[len(w.line)-1] }

// move does what is due: whose time is over leaves, who may go goes.
func (w *twin) move() {
	for _, c := range slices.Clone(w.line) {
		switch {
		case w.off[c.Feature]:
			w.leave(c, guard.FeatureOff)
		case w.s.Mode != guard.Enforce:
			w.leave(c, guard.None)
		case w.forced:
			w.leave(c, guard.BreakerOpen)
		case !c.give.After(time.Now()) && c.give.Equal(c.Deadline):
			w.leave(c, guard.DeadlineUnreachable)
		case !c.give.After(time.Now()):
			w.leave(c, guard.QueueTimeout)
		}
	}
	for len(w.line) > 0 && w.unary() < w.limit() {
		w.leave(w.order()[0], guard.None)
	}
}

func (w *twin) done(c *twinCall, o guard.Outcome) {
	i := slices.Index(w.out, c)
	if i < 0 {
		w.doubles++
		return
	}
	w.out = slices.Delete(w.out, i, i+1)
	*[]*uint64{&w.totals.Ignored, &w.totals.Succeeded, &w.totals.Overloaded, &w.totals.Failed}[o]++
}
