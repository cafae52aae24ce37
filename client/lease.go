package client

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/capguard/capguard/internal/grpcguard"
)

const (
	// leaseDecay is how long a lease takes to become the static share. A guard that is started again is back in seconds, and in half a
	// minute all other clients may have come or gone.
	leaseDecay = 30 * time.Second
	// leaseWait is how long a call waits for a slot of the lease: as long as it would in the guard's line.
	leaseWait = 100 * time.Millisecond
	// leaseCredit is how much of the time that the part of a slot was free counts as rest from what follows: calls come in bursts.
	leaseCredit = 500 * time.Millisecond
	// leaseMemory is the time constant of what is averaged: our demand, and the leases that are heard.
	leaseMemory = 5 * time.Second
	// leaseEvery is how often a call asks for a lease, at most: more would tell nothing new.
	leaseEvery = 10 * time.Millisecond
	// leastDemand is what a client asks for that hardly ever calls, so that what it gets is not none.
	leastDemand = 0.01
	// leastSlots is what counts as none of a slot: less than that can not be told.
	leastSlots = 0.001
)

// lease is how much one client may do at the back-end itself while the guard is gone: the last word of the guard, which decays to a static
// share. Its methods take the time, of which none may run backwards by much.
//
// Slots come in whole ones and in one that is a part f: of the time that calls spend in it, it has to rest 1/f-1 times as long, so that on
// average it is taken for f. Clients that all may have less than one call in flight so are together below the limit, too.
type lease struct {
	share float64

	mu     sync.Mutex
	slots  mean      // as heard of lately
	asked  time.Time // when a call last asked
	calls  int       // in flight or waiting, wherever
	demand mean      // of calls

	whole  int       // whole slots in use
	part   bool      // the part of a slot is in use
	rested time.Time // when it may be used again
	line   []chan slot
	alarm  *time.Timer // looks at the line when the part has rested; nil before the first
}

// slot is one that a call has got.
type slot struct {
	part bool
	at   time.Time
}

// count counts n calls more.
func (l *lease) count(now time.Time, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.demand.add(float64(l.calls), now)
	l.calls += n
}

// mean is that of the last seconds, what is older counting less; in the first seconds it is that of all of them.
type mean struct {
	value       float64
	first, last time.Time // of what was added; zero: nothing was
}

// add takes in what was the value since the last one.
func (m *mean) add(value float64, now time.Time) {
	if m.first.IsZero() {
		*m = mean{value, now, now}
		return
	}
	if d := now.Sub(m.last); d > 0 {
		memory := min(leaseMemory, now.Sub(m.first))
		m.value = value + (m.value-value)*math.Exp(-d.Seconds()/memory.Seconds())
		m.last = now
	}
}

// ask returns the demand that a call is to tell; false if one has just told it.
func (l *lease) ask(now time.Time) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.asked) < leaseEvery {
		return "", false
	}
	l.asked = now
	return grpcguard.FormatLease(max(l.demand.value, leastDemand)), true
}

// hear takes what an answer grants: nothing unless it is one well-formed value. What says that the back-end can bear nothing counts at
// once; all else is averaged, since the guard tells each call what it sees at that moment.
func (l *lease) hear(values []string, now time.Time) {
	if len(values) != 1 {
		return
	}
	slots, ok := grpcguard.ParseLease(values[0])
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots.add(slots, now)
	if slots == 0 {
		l.slots.value = 0
	}
	l.rested = time.Time{}
}

// slotsLocked returns how many calls may be at the back-end now.
func (l *lease) slotsLocked(now time.Time) float64 {
	if l.slots.first.IsZero() {
		return l.share
	}
	age := min(max(now.Sub(l.slots.last), 0), leaseDecay)
	return l.slots.value + (l.share-l.slots.value)*age.Seconds()/leaseDecay.Seconds()
}

// takeLocked takes a slot if one is free.
func (l *lease) takeLocked(now time.Time) (slot, bool) {
	whole, part := l.partsLocked(now)
	switch {
	case l.whole < whole:
		l.whole++
		return slot{at: now}, true
	case l.whole == whole && part > 0 && !l.part && !now.Before(l.rested):
		l.part = true
		return slot{part: true, at: now}, true
	}
	return slot{}, false
}

// partsLocked returns the whole slots, and the part of one, that there are.
func (l *lease) partsLocked(now time.Time) (whole int, part float64) {
	n, part := math.Modf(l.slotsLocked(now) + leastSlots/2)
	if part < leastSlots {
		part = 0
	}
	return int(n), part
}

// giveLocked gives a slot back.
func (l *lease) giveLocked(s slot, now time.Time) {
	if !s.part {
		l.whole--
		return
	}
	l.part = false
	if _, part := l.partsLocked(now); part > 0 {
		from := s.at.Add(-leaseCredit)
		if l.rested.After(from) {
			from = l.rested
		}
		l.rested = from.Add(time.Duration(float64(now.Sub(s.at)) / part))
	}
}

// serveLocked gives free slots to those in line, and sees to it that somebody looks again.
func (l *lease) serveLocked(now time.Time) {
	for len(l.line) > 0 {
		s, ok := l.takeLocked(now)
		if !ok {
			l.alarmLocked(now)
			return
		}
		l.line[0] <- s
		l.line = slices.Delete(l.line, 0, 1)
	}
}

// alarmLocked looks at the line again when the part of a slot has rested; whoever gives a slot back looks, too.
func (l *lease) alarmLocked(now time.Time) {
	d := l.rested.Sub(now)
	switch {
	case l.part || d <= 0:
	case l.alarm == nil:
		l.alarm = time.AfterFunc(d, l.serve)
	default:
		l.alarm.Reset(d)
	}
}

func (l *lease) serve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serveLocked(time.Now())
}

// enter waits for a slot, first come first served, for a short time. It returns false if there is none.
func (l *lease) enter(ctx context.Context) (slot, bool) {
	s, turn, ok := l.queue(time.Now())
	if ok {
		return s, true
	}
	patience := time.NewTimer(leaseWait)
	defer patience.Stop()
	select {
	case s = <-turn:
		return s, true
	case <-patience.C:
	case <-ctx.Done():
	}
	return l.quit(turn)
}

// queue takes a slot, or a place in line for one.
func (l *lease) queue(now time.Time) (s slot, turn chan slot, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) == 0 {
		if s, ok = l.takeLocked(now); ok {
			return s, nil, true
		}
	}
	turn = make(chan slot, 1)
	l.line = append(l.line, turn)
	l.serveLocked(now)
	return s, turn, false
}

// quit leaves the line, with the slot that may have come at the last moment.
func (l *lease) quit(turn chan slot) (slot, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case s := <-turn:
		return s, true
	default:
	}
	l.line = slices.DeleteFunc(l.line, func(c chan slot) bool { return c == turn })
	return slot{}, false
}

// leave gives a slot back.
func (l *lease) leave(s slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.giveLocked(s, now)
	l.serveLocked(now)
}
