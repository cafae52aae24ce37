package proxy

import "time"

// How long a call may stay half told before it is taken for a stream.
const (
	streamAfter = time.Second     // since its headers came without its end, or its first request message without the request's end
	emptyAfter  = 5 * time.Second // since it was sent on without a message: a large one may take its time to arrive
)

// life watches the messages of one call to learn whether it is a stream. It knows one when a second message passes in one direction, or
// when a call stays half told. Of its method only the back-end's second message tells anything: callers can say what they like, as slowly
// as they like. Its owner's lock guards it.
type life struct {
	sent, requested, answered time.Time // beginning, first request message, headers of the answer
	many, shown               bool      // a second request message, a second one of the answer
	halfClosed                bool      // the request is complete
	streaming                 bool
	told                      bool // that its method is one of streams
}

// evidence is what has just turned out of a call.
type evidence uint8

const (
	nothing      evidence = iota
	stream                // it is a stream
	methodStream          // its method is a streaming one, and so is the call
)

// conclude draws the conclusion from what has happened until now, and tells each thing once.
func (l *life) conclude(now time.Time) evidence {
	if l.shown {
		l.streaming = true
		if l.told {
			return nothing
		}
		l.told = true
		return methodStream
	}
	if due := l.due(); l.streaming || !l.many && (due.IsZero() || now.Before(due)) {
		return nothing
	}
	l.streaming = true
	return stream
}

// due returns when the call, as it is told now, is to be taken for a stream; zero is never, or that it is one already.
func (l *life) due() (due time.Time) {
	switch {
	case l.streaming || l.sent.IsZero():
		return time.Time{}
	case l.halfClosed:
	case !l.requested.IsZero():
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
