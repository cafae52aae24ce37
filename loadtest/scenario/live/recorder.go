package live

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/capguard/capguard/loadtest"
	"github.com/capguard/capguard/loadtest/scenario"
)

// recorder writes a record from many goroutines.
type recorder struct {
	start time.Time

	mu       sync.Mutex
	record   *scenario.Record
	lateness loadtest.Histogram
	open     int               // attempts made and not ended
	inFlight int               // attempts sent and not ended
	asked    *scenario.Command // given and not answered
}

func newRecorder(r *scenario.Record) *recorder { return &recorder{start: time.Now(), record: r} }

func (r *recorder) now() time.Duration { return time.Since(r.start) }

// sleepUntil waits for a moment of the run; false if ctx ends before.
func (r *recorder) sleepUntil(ctx context.Context, at time.Duration) bool {
	select {
	case <-time.After(time.Until(r.start.Add(at))):
		return true
	case <-ctx.Done():
		return false
	}
}

// request notes a request that was scheduled for due, and returns its index.
func (r *recorder) request(class int, due time.Duration) (i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lateness.Record(r.now() - due)
	r.record.Requests = append(r.record.Requests, scenario.Request{Class: class, Due: due})
	return len(r.record.Requests) - 1
}

// made notes an attempt and returns its index.
func (r *recorder) made(class int, at time.Duration) (i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	r.record.Attempts = append(r.record.Attempts, scenario.Attempt{Class: class, Made: at, Sent: -1})
	return len(r.record.Attempts) - 1
}

// reached notes that an attempt has reached a replica. One that its caller has ended already counts as well: the back-end does not know.
func (r *recorder) reached(attempt float64, replica int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.record.Attempts[int(attempt)]
	if a.Sent < 0 && a.Ended == 0 {
		r.inFlight++
	}
	a.Sent, a.Replica = r.now(), replica
	if a.Ended > 0 {
		a.Sent = min(a.Sent, a.Ended)
	}
}

// ended notes how an attempt of a request ended; it is good if that was before late.
func (r *recorder) ended(request, attempt int, fate scenario.Fate, late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, q := &r.record.Attempts[attempt], &r.record.Requests[request]
	r.open--
	if a.Sent >= 0 {
		r.inFlight--
	}
	a.Ended, a.Fate = max(r.now(), 1), fate
	q.Done = a.Ended
	q.Good = fate == scenario.Served && a.Ended <= late
	q.Refused, q.Off = q.Refused || fate == scenario.Shed, q.Off || fate == scenario.Off
}

// opened notes that a stream was opened, which is what its request wanted.
func (r *recorder) opened(request int, late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := &r.record.Requests[request]
	q.Done = r.now()
	q.Good = q.Done <= late
}

// closed notes how an open stream ended.
func (r *recorder) closed(attempt int, fate scenario.Fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	r.inFlight--
	a := &r.record.Attempts[attempt]
	a.Ended, a.Fate = r.now(), fate
}

func (r *recorder) message(class int, sent time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Messages = append(r.record.Messages, scenario.Message{Class: class, Sent: sent, Answered: r.now()})
}

// sample completes and notes a sample.
func (r *recorder) sample(s scenario.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.InFlight, s.Queued = r.inFlight, r.open-r.inFlight
	r.record.Samples = append(r.record.Samples, s)
}

// commanded notes that an operator gives a command.
func (r *recorder) commanded(f scenario.Flip) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.now()
	r.asked = &scenario.Command{Flip: f, Issued: at, Clients: slices.Repeat([]time.Duration{at}, r.record.Scenario.Clients)}
}

// answered notes whether the guard has heard the command.
func (r *recorder) answered(heard bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if heard {
		r.asked.Answered = r.now()
		r.record.Commands = append(r.record.Commands, *r.asked)
	}
	r.asked = nil
}

// look notes which clients do not know the last command: on tells whether a feature is on for a client.
func (r *recorder) look(on func(client int, feature string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.asked
	if n := len(r.record.Commands); c == nil && n > 0 {
		c = &r.record.Commands[n-1]
	}
	if c == nil {
		return
	}
	for i := range c.Clients {
		if on(i, c.Feature) == c.Off {
			c.Clients[i] = r.now()
		}
	}
}
