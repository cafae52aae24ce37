package virtual

import (
	"container/heap"
	"time"
)

// clock is the clock of the bubble.
type clock struct {
	start  time.Time
	timer  *time.Timer
	spoken chan struct{} // somebody said something while the loop slept
	settle func()        // waits until all others in the bubble rest
}

func newClock(settle func()) *clock {
	c := &clock{start: time.Now(), timer: time.NewTimer(time.Hour), spoken: make(chan struct{}, 1), settle: settle}
	c.timer.Stop()
	return c
}

// sleep moves the time to at; false if the gate said something before that. All others have come to rest then.
func (r *run) sleep(at time.Duration) bool {
	if r.clock == nil || at == r.now {
		r.now = at
		return true
	}
	r.mu.Lock()
	r.rest, r.until = true, at
	r.mu.Unlock()
	r.clock.timer.Reset(at - r.now)
	select {
	case <-r.clock.timer.C:
	case <-r.clock.spoken:
		r.clock.timer.Stop()
	}
	r.clock.settle()
	r.now = time.Since(r.clock.start)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = false
	return len(r.said) == 0 && r.now == at
}

// nap is for how long the loop need not know that a call was refused: its caller pauses for longer before it tries again.
const nap = 10 * time.Millisecond

// say puts an answer into the box, and wakes the loop if it sleeps and the answer cannot wait.
func (r *run) say(c *Call, replica int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rest {
		r.said = append(r.said, answer{c, replica, r.now})
		return
	}
	now := time.Since(r.clock.start)
	r.said = append(r.said, answer{c, replica, now})
	if replica == refused && r.until-now < nap {
		return
	}
	select {
	case r.clock.spoken <- struct{}{}:
	default:
	}
}

// agenda is what will happen when, as a heap.
type agenda struct {
	events []event
	seq    uint64
}

// event is one entry of an agenda.
type event struct {
	at     time.Duration
	seq    uint64 // decides at the same moment
	happen func()
}

func (a *agenda) add(at time.Duration, happen func()) {
	a.seq++
	heap.Push(a, event{at, a.seq, happen})
}

func (a *agenda) next() (at time.Duration, ok bool) {
	if len(a.events) == 0 {
		return 0, false
	}
	return a.events[0].at, true
}

// happen takes the first entry and makes it happen.
func (a *agenda) happen() { heap.Pop(a).(event).happen() }

// Len is for package heap, as are the methods below.
func (a *agenda) Len() int { return len(a.events) }

// Less orders by time.
func (a *agenda) Less(i, k int) bool {
	if a.events[i].at != a.events[k].at {
		return a.events[i].at < a.events[k].at
	}
	return a.events[i].seq < a.events[k].seq
}

// Swap swaps two.
func (a *agenda) Swap(i, k int) { a.events[i], a.events[k] = a.events[k], a.events[i] }

// Push adds at the end.
func (a *agenda) Push(x any) { a.events = append(a.events, x.(event)) }

// Pop takes the last.
func (a *agenda) Pop() any {
	last := len(a.events) - 1
	e := a.events[last]
	a.events[last] = event{}
	a.events = a.events[:last]
	return e
}
