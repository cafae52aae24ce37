package guard_test

import (
	"slices"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/queue"
)

// opening is how long a stream that is opened and neither answered nor written to is work.
const opening = 5 * time.Millisecond

// twin is a guard with a fixed limit as one would explain it: lists, no slots, no cleverness, and time only as it is told. In which order a
// line is served is the queue's own business, and proved there.
type twin struct {
	s       guard.Settings
	off     map[string]bool
	forced  bool
	out     []*twinCall // admitted and not given back
	lines   [2]*queue.Queue[*twinCall]
	waiting []*twinCall         // in either line
	ranks   []guard.Criticality // of all who were admitted, the last one last
	totals  guard.Totals
	doubles uint64
}

type twinCall struct {
	guard.Call
	stream   bool
	item     *queue.Item[*twinCall]
	admitted time.Time
	opened   bool // a stream that is known to be
	reason   guard.Reason
	answered bool
}

func newTwin(s guard.Settings) *twin {
	return &twin{
		s: s, off: map[string]bool{},
		lines: [2]*queue.Queue[*twinCall]{queue.New[*twinCall](s.Queue), queue.New[*twinCall](s.Queue)},
	}
}

// line is the line that c waits in.
func (w *twin) line(c *twinCall) *queue.Queue[*twinCall] {
	if c.stream {
		return w.lines[1]
	}
	return w.lines[0]
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

// work is how many streams are being opened.
func (w *twin) work() (n int) {
	for _, c := range w.out {
		if c.Stream && !c.opened && time.Since(c.admitted) < opening {
			n++
		}
	}
	return n
}

// opens is when the next of them is open; zero if none is being opened.
func (w *twin) opens() (next time.Time) {
	for _, c := range w.out {
		if end := c.admitted.Add(opening); c.Stream && !c.opened && end.After(time.Now()) && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	return next
}

func (w *twin) settle(c *twinCall, r guard.Reason) {
	c.reason, c.answered, c.admitted = r, true, time.Now()
	if r == guard.None {
		c.opened = w.s.Mode == guard.Off // nothing is work there
		w.totals.Admitted++
		w.ranks = append(w.ranks, c.Criticality)
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
	case w.s.Mode == guard.Enforce && r == guard.LimitReached && w.limit() > 0 && (!c.stream || w.streams() < w.s.MaxStreams):
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

// waited tells whether a call passed in mode observe, of which the twin says only that it found no slot.
func (a *answer) waited(c *twinCall) bool {
	return c.reason == guard.LimitReached && a.d.Admitted && a.d.Reason == guard.None
}

func (w *twin) limit() int { return min(w.s.Limit.Initial, w.s.Limit.Max) }

// room tells whether a call, or a stream, is admitted.
func (w *twin) room(stream bool) bool {
	if !stream {
		return w.unary()+w.work() < w.limit()
	}
	return w.streams() < w.s.MaxStreams && (w.work() == 0 || w.work() < int(0.7*float64(w.limit())))
}

func (w *twin) check(c *twinCall) guard.Reason {
	switch {
	case !c.Deadline.IsZero() && !c.Deadline.After(time.Now()):
		return guard.DeadlineUnreachable
	case w.forced:
		return guard.BreakerOpen
	case !w.room(c.stream), w.s.Mode == guard.Enforce && w.line(c).Len() > 0:
		return guard.LimitReached
	}
	return guard.None
}

func (w *twin) push(c *twinCall) {
	claim := queue.Claim{Rank: int(c.Criticality), Deadline: c.Deadline}
	for _, r := range w.ranks[max(0, len(w.ranks)-64):] {
		if r > c.Criticality {
			claim.Patience = 3 * w.s.Queue.MaxWait
		}
	}
	if c.stream {
		claim.Patience = min(50*time.Millisecond, w.s.Queue.MaxWait)
	}
	item, evicted, ok := w.line(c).Push(c, claim, time.Now())
	if !ok {
		w.settle(c, guard.LimitReached)
		return
	}
	c.item = item
	w.waiting = append(w.waiting, c)
	if evicted != nil {
		w.leave(evicted.Value, guard.LimitReached)
	}
}

// leave ends a wait.
func (w *twin) leave(c *twinCall, r guard.Reason) {
	w.line(c).Remove(c.item)
	w.waiting = slices.DeleteFunc(w.waiting, func(x *twinCall) bool { return x == c })
	w.settle(c, r)
}

// move does what is due: whose time is over leaves, who may go goes.
func (w *twin) move() {
	for _, l := range w.lines {
		l.Pass(time.Now())
	}
	for _, c := range slices.Clone(w.waiting) {
		switch {
		case w.off[c.Feature]:
			w.leave(c, guard.FeatureOff)
		case w.s.Mode != guard.Enforce:
			w.leave(c, guard.None)
		case w.forced:
			w.leave(c, guard.BreakerOpen)
		case !c.item.Give.After(time.Now()) && c.item.Give.Equal(c.Deadline):
			w.leave(c, guard.DeadlineUnreachable)
		case !c.item.Give.After(time.Now()):
			w.leave(c, guard.QueueTimeout)
		}
	}
	for i, l := range w.lines {
		for l.Len() > 0 && w.room(i == 1) {
			if it, ok := l.Pop(time.Now()); ok {
				w.leave(it.Value, guard.None)
			}
		}
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
