package virtual

import (
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/loadtest/fragile"
	"github.com/capguard/capguard/loadtest/scenario"
)

// talk is what the loop knows of an open stream.
type talk struct {
	*scenario.Stream
	until time.Duration // when its caller closes it
}

// message is one message of a stream at the back-end.
type message struct {
	call *Call
	at   time.Duration
}

// open opens an admitted stream: that is what its request wanted. Its first message comes within the time between two.
func (r *run) open(c *Call, s *scenario.Stream) {
	c.talk = &talk{s, r.now + time.Duration(r.rng.ExpFloat64()*float64(s.Lifetime))}
	q := &r.record.Requests[c.request]
	q.Done, q.Good = r.now, r.now <= r.late(c)
	r.agenda.add(r.now+time.Duration(r.rng.Float64()*float64(s.Every)), func() { r.speak(c) })
}

// speak sends the next message of a stream, or closes it. Streams outlive the run.
func (r *run) speak(c *Call) {
	switch {
	case c.stage == over || r.now >= r.s.Duration+after:
		return
	case r.now >= c.talk.until:
		r.close(c, guard.Success, scenario.Served)
		return
	}
	class := r.record.Attempts[c.attempt].Class
	_, err := r.cores[c.replica].Arrive(r.s.Classes[class].Stream.Weight, &message{c, r.now}, r.now)
	if err != nil {
		r.close(c, guard.Overload, scenario.Failed)
		return
	}
	r.tell(c, false)
	r.agenda.add(r.now+c.talk.Every, func() { r.speak(c) })
}

// reply is the answer to a message; a crash ends the stream.
func (r *run) reply(m *message, j *fragile.Job) {
	if m.call.stage == over {
		return
	}
	if j.Err != nil {
		r.close(m.call, guard.Overload, scenario.Failed)
		return
	}
	r.record.Work(j.Began, j.Ends, j.Ends)
	r.record.Messages = append(r.record.Messages, scenario.Message{
		Class: r.record.Attempts[m.call.attempt].Class, Sent: m.at, Answered: r.now,
	})
	r.tell(m.call, true)
}

func (r *run) tell(c *Call, answered bool) {
	if g, ok := c.gate.(Streaming); ok {
		g.Message(c, answered)
	}
}

// close ends a stream.
func (r *run) close(c *Call, o guard.Outcome, fate scenario.Fate) {
	c.stage = over
	r.inFlight--
	a := &r.record.Attempts[c.attempt]
	a.Ended, a.Fate = r.now, fate
	c.gate.Ended(c, o, r.now-c.admitted)
}
