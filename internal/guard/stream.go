package guard

import (
	"math"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// A stream that is idle costs nothing. What it costs is its messages: one that the back-end has and has not answered is work like a unary
// call. It takes a unit of the limit, beyond it if need be, for established streams are neither cut nor held up; so unary calls give way.

const (
	// streamShare is how much of the limit the work of streams may take before no more streams are opened. The rest is for unary calls and
	// for what the streams that are open may still want: nothing can be taken from them any more.
	streamShare = 0.7

	// streamMean is over how long the work of streams is averaged. Messages of long streams come about once a second; what comes in bursts is
	// a matter for the work of the moment.
	streamMean = time.Second

	// mostMessages bounds the messages of one stream that are followed at a time. A handler mostly works on one message after the other.
	mostMessages = 8

	// A message that is not answered after patience, or twice as long as messages usually take, needs no answer, or gets none: it is no work
	// any more as far as can be seen. A call would long have been given up by then.
	patience      = time.Second
	patienceTimes = 2

	// openTime is how long the opening of a stream is work, if it is neither answered nor followed by a message. The first message comes
	// with the headers, or when there is something to say.
	openTime = 5 * time.Millisecond

	// openPatience is the longest wait of an opening for the work of the others: a client that opens some dozens of streams at once is served,
	// one that opens more than the back-end can take is told so soon.
	openPatience = 50 * time.Millisecond
)

// message is one that the back-end has and has not answered, or the opening of a stream.
type message struct {
	sent       time.Duration
	slot       limit.Slot // none when it is not charged, or not any more
	to         *Endpoint
	talk       *talk
	after      *message // in its talk
	prev, next *message // in its letters, while it is charged
}

// talk is the messages of one stream, the oldest first.
type talk struct {
	method      *method
	first, last *message
	n           int
	opening     *message      // while it is charged
	answered    time.Duration // when the last answer came
	quiet       bool          // answers do not come in time: messages are not charged
}

// letters are messages that are charged, by when they were sent.
type letters struct{ first, last *message }

func (l *letters) add(m *message) {
	if m.prev = l.last; m.prev == nil {
		l.first = m
	} else {
		m.prev.next = m
	}
	l.last = m
}

func (l *letters) remove(m *message) {
	if m.prev == nil {
		l.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		l.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
}

// work is what streams have the back-end do.
type work struct {
	mean             float64 // of units, the last second counting most, as of the instant at
	at               time.Duration
	units            int
	opened, messages letters
	typical          time.Duration // time of an answer, the last ones counting most
	due              time.Duration // when the next charge ends for want of an answer; 0 is never
}

// patience is how long a message is work.
func (w *work) patience() time.Duration { return max(patience, patienceTimes*w.typical) }

// setDue finds when time alone changes something.
func (w *work) setDue() {
	w.due = 0
	if m := w.messages.first; m != nil {
		w.due = m.sent + w.patience()
	}
	if m := w.opened.first; m != nil && (w.due == 0 || m.sent+openTime < w.due) {
		w.due = m.sent + openTime
	}
}

// change takes in that so many units more are taken.
func (w *work) change(n int, at time.Duration) {
	w.mean, w.at = w.meanAt(at), at
	w.units += n
	w.setDue()
}

func (w *work) meanAt(at time.Duration) float64 {
	units := float64(w.units)
	return units + (w.mean-units)*math.Exp(-float64(at-w.at)/float64(streamMean))
}

// busyLocked tells whether streams have the back-end do as much as they may: at the moment, or on average. One opening at a time there always
// may be.
func (g *Guard) busyLocked(at time.Duration) bool {
	most := g.streamLimitLocked()
	return g.work.units >= most || g.work.meanAt(at) >= float64(most)
}

// streamLimitLocked is how many units of the limit the work of streams may take for another one to be opened.
func (g *Guard) streamLimitLocked() int { return max(int(streamShare*float64(g.limit)), 1) }

// countsLocked tells whether one stream more is within the bound on their number.
func (g *Guard) countsLocked() bool { return g.streams < g.settings.MaxStreams }

// roomForStreamLocked tells whether one stream more may be opened.
func (g *Guard) roomForStreamLocked(at time.Duration) bool {
	return g.countsLocked() && !g.busyLocked(at)
}

// placeLocked finds room for a stream. Those in line go first.
func (g *Guard) placeLocked(a *ask) bool {
	if g.openings.Len() > 0 && g.settings.Mode == Enforce {
		g.dispatchLocked(a.at)
	}
	return g.openings.Len() == 0 && g.roomForStreamLocked(a.at)
}

// streamFiguresLocked returns the figures of the bound on streams that is nearer: on their work, or on their number.
func (g *Guard) streamFiguresLocked(at time.Duration) (limit, inFlight int) {
	if g.countsLocked() && g.busyLocked(at) {
		return g.streamLimitLocked(), max(g.work.units, int(math.Round(g.work.meanAt(at))))
	}
	return g.settings.MaxStreams, g.streams
}

// chargeLocked has m take a unit of the limit.
func (g *Guard) chargeLocked(m *message, in *letters, now time.Time) {
	m.slot = m.to.limiter.Force(1, now)
	in.add(m)
	m.to.work++
	g.work.change(1, now.Sub(g.start))
}

// dischargeLocked gives the unit back; without one it does nothing. The limit learns nothing from a message: streams send what they like,
// whatever the limit is, and so what is in flight with it was put there by nobody who asked.
func (g *Guard) dischargeLocked(m *message, in *letters, now time.Time) {
	if m.slot == (limit.Slot{}) {
		return
	}
	m.to.limiter.Release(m.slot, limit.Ignored, 0, 0, now)
	m.slot = limit.Slot{}
	in.remove(m)
	m.to.work--
	g.work.change(-1, now.Sub(g.start))
}

// openLocked charges the opening of a stream.
func (g *Guard) openLocked(s *slot, at time.Duration) {
	s.talk = &talk{method: s.method}
	if s.to == nil || g.settings.Mode == Off {
		return
	}
	s.talk.opening = &message{sent: at, to: s.to, talk: s.talk}
	g.chargeLocked(s.talk.opening, &g.work.opened, g.now(at))
}

// openedLocked ends the opening of a stream.
func (g *Guard) openedLocked(t *talk, now time.Time) {
	if t != nil && t.opening != nil {
		g.dischargeLocked(t.opening, &g.work.opened, now)
		t.opening = nil
	}
}

// Messages tells of the messages that passed on a stream since the last time: sent to the back-end, and answered by it. Of a call that is no
// stream it tells nothing: that is work as a whole.
func (p Permit) Messages(sent, answered int) {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	defer p.g.unlock()
	if s := p.g.permits.find(p); s != nil && s.stream && s.to != nil {
		p.g.messagesLocked(s, sent, answered)
	}
}

func (g *Guard) messagesLocked(s *slot, sent, answered int) {
	at := g.clock()
	now := g.now(at)
	if s.talk == nil { // It has turned out to be a stream.
		s.talk = &talk{method: s.method}
	}
	t := s.talk
	for range min(answered, t.n) {
		g.answerLocked(t, at)
	}
	for range min(sent, mostMessages-t.n) {
		g.openedLocked(t, now)
		m := &message{sent: at, to: s.to, talk: t}
		t.add(m)
		if !t.quiet && g.settings.Mode != Off {
			g.chargeLocked(m, &g.work.messages, now)
		}
	}
	g.noteLocked(now, "")
	g.dispatchLocked(at)
}

// answerLocked takes the oldest message of a talk for answered. One that was sent before the last answer has been worked on since then.
func (g *Guard) answerLocked(t *talk, at time.Duration) {
	m := t.take()
	took := at - max(m.sent, t.answered)
	t.answered = at
	t.quiet = at-m.sent > g.work.patience()
	if m.slot == (limit.Slot{}) {
		return
	}
	g.work.typical += (took - g.work.typical) / 20
	g.dischargeLocked(m, &g.work.messages, g.now(at))
	if t.method != g.methods.other {
		t.method.spent.learn(took, at) // and not in the mean of calls, beside which those would all look heavy
	}
}

func (t *talk) add(m *message) {
	if t.n++; t.first == nil {
		t.first = m
	} else {
		t.last.after = m
	}
	t.last = m
}

func (t *talk) take() *message {
	m := t.first
	t.n--
	t.first = m.after
	return m
}

// silenceLocked ends what a stream has the back-end do.
func (g *Guard) silenceLocked(s *slot, now time.Time) {
	t := s.talk
	if t == nil {
		return
	}
	g.openedLocked(t, now)
	for t.n > 0 {
		g.dischargeLocked(t.take(), &g.work.messages, now)
	}
	s.talk = nil
}

// expireLocked ends the charges that no answer ended in time.
func (g *Guard) expireLocked(at time.Duration) {
	if g.work.due != 0 && at >= g.work.due {
		g.giveUpOnLocked(at)
	}
}

func (g *Guard) giveUpOnLocked(at time.Duration) {
	w, now := &g.work, g.now(at)
	for m := w.opened.first; m != nil && at-m.sent >= openTime; m = w.opened.first {
		g.openedLocked(m.talk, now)
	}
	for m := w.messages.first; m != nil && at-m.sent >= w.patience(); m = w.messages.first {
		m.talk.quiet = true
		g.dischargeLocked(m, &w.messages, now)
	}
}
