package proxy

import (
	"sync"
	"time"
)

// How long a call may stay half told before it is taken for a stream.
const (
	streamAfter = time.Second     // since its headers came without its end, or its first request message without the request's end
	emptyAfter  = 5 * time.Second // since it was sent on without a message: a large one may take its time to arrive
)

// life watches the messages of one call to learn whether it is a stream. It knows one when a second message passes in one direction, or
// when a call stays half told. Of its method only the back-end's second message tells anything: callers can say what they like, as slowly
// as they like. It has one timer and no goroutine. The zero life is ready for use; set stream and proven before the first hook.
type life struct {
	stream func() // it is a stream; called at most once, without a lock
	proven func() // its method is a streaming one; likewise, and then stream may be left out

	mu                        sync.Mutex
	sent, requested, answered time.Time // beginning, first request message, headers of the answer
	requests, responses       int
	halfClosed                bool // the request is complete
	streaming, shown, ended   bool
	timer                     *time.Timer
	due                       time.Time // when timer fires; zero: it does not
}

func (l *life) begin()     { l.change(func(now time.Time) { l.sent = now }) }
func (l *life) headers()   { l.change(func(now time.Time) { l.answered = now }) }
func (l *life) halfClose() { l.change(func(time.Time) { l.halfClosed = true }) }
func (l *life) response()  { l.change(func(time.Time) { l.responses++ }) }

func (l *life) request() {
	l.change(func(now time.Time) {
		if l.requests++; l.requests == 1 {
			l.requested = now
		}
	})
}

// end tells that the call has ended, and returns whether it was a stream. From then on stream is not called any more, unless it is being
// called already.
func (l *life) end() (streaming bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.scheduleLocked(time.Time{}, time.Time{})
	return l.streaming
}

// change takes what happened and draws the conclusion.
func (l *life) change(happened func(now time.Time)) {
	switch stream, proven := l.conclude(happened); {
	case proven:
		l.proven()
	case stream:
		l.stream()
	}
}

// conclude returns whether the call has just turned out to be a stream, and whether its method has.
func (l *life) conclude(happened func(now time.Time)) (stream, proven bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.shown {
		return false, false
	}
	now := time.Now()
	happened(now)
	l.shown = l.responses > 1
	if l.streaming {
		return false, l.shown
	}
	due := l.dueLocked()
	l.streaming = l.shown || l.requests > 1 || !due.IsZero() && !now.Before(due)
	if l.streaming {
		due = time.Time{}
	}
	l.scheduleLocked(due, now)
	return l.streaming, l.shown
}

// dueLocked returns when the call, as it is told now, is to be taken for a stream; zero is never.
func (l *life) dueLocked() (due time.Time) {
	switch {
	case l.halfClosed:
	case l.requests > 0:
		due = l.requested.Add(streamAfter)
	default:
		due = l.sent.Add(emptyAfter)
	}
	if !l.answered.IsZero() {
		if silent := l.answered.Add(streamAfter); due.IsZero() || silent.Before(due) {
			due = silent
		}
	}
	return due
}

// scheduleLocked lets the call be looked at again when it is due.
func (l *life) scheduleLocked(due, now time.Time) {
	switch {
	case due.Equal(l.due):
	case due.IsZero():
		l.timer.Stop() // There is one, or it would not have been due.
	case l.timer == nil:
		l.timer = time.AfterFunc(due.Sub(now), func() { l.change(func(time.Time) {}) })
	default:
		l.timer.Reset(due.Sub(now))
	}
	l.due = due
}
