package guard_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

var watch = guard.Call{Method: "/shop.Stock/Watch", Stream: true}

// work checks how many units of the limit streams take.
func (r rig) work(want int) {
	r.Helper()
	if s := r.Status(); s.StreamWork != want {
		r.Errorf("streams take %d units, want %d", s.StreamWork, want)
	}
}

// openStreams opens some, and waits until they are idle.
func (r rig) openStreams(n int) (ps []guard.Permit) {
	for range n {
		p := r.open(watch)
		p.Answered()
		ps = append(ps, p)
	}
	return ps
}

// A message that the back-end has and has not answered takes the room of a call; an idle stream takes none.
func TestMessagesAreWork(t *testing.T) {
	inBubble(t, fixed(2), func(r rig) {
		p := r.openStreams(1)[0]
		r.work(0)
		p.Messages(1, 0)
		r.work(1)
		unary := r.pass(call)
		r.refuse(call, guard.LimitReached)
		p.Messages(0, 1)
		r.work(0)
		r.pass(call).Done(guard.Success)
		unary.Done(guard.Success)
		p.Done(guard.Success)
	})
}

// An established stream is neither cut nor held up: its messages pass beyond the limit, and calls wait until there is room again.
func TestMessagesPassBeyondTheLimit(t *testing.T) {
	inBubble(t, lined(2), func(r rig) {
		ps := r.openStreams(1)
		r.pass(call)
		unary := r.pass(call)
		ps[0].Messages(3, 0)
		r.work(3)
		unary.Done(guard.Success)
		waits := r.ask(r.Context(), call)
		r.waiting(1)
		ps[0].Messages(0, 2)
		r.waiting(1)
		ps[0].Messages(0, 1)
		synctest.Wait()
		if waits.look(); !waits.d.Admitted {
			t.Error("nobody got the room of the messages")
		}
	})
}

// What is never answered is work for a second, or twice as long as answers usually take; then the stream is taken for one that goes one
// way, and its messages cost nothing until they are answered in time again. Calls that wait for the room are told without another event.
func TestOneWayStreams(t *testing.T) {
	s := lined(1)
	s.Queue.MaxWait = 10 * time.Second
	inBubble(t, s, func(r rig) {
		p := r.openStreams(1)[0]
		p.Messages(1, 0)
		waits := r.ask(r.Context(), call)
		sleep(time.Second)
		r.settled(waits, guard.None, time.Second)
		waits.p.Done(guard.Success)
		for range 20 {
			p.Messages(1, 0)
			r.work(0)
			sleep(time.Millisecond)
		}
		p.Messages(0, 20) // late, but for those that are followed: eight
		p.Messages(1, 0)
		r.work(1)
		p.Messages(0, 1)

		for range 100 { // where answers take long
			p.Messages(1, 0)
			sleep(900 * time.Millisecond)
			p.Messages(0, 1)
		}
		p.Messages(1, 0)
		waits = r.ask(r.Context(), call)
		sleep(1700 * time.Millisecond)
		r.work(1)
		sleep(100 * time.Millisecond)
		if waits.look(); !waits.d.Admitted {
			t.Error("the message is still work after twice the usual time")
		}
		p.Done(guard.Success)
	})
}

// The end of a stream ends its work, whatever was not answered; messages of calls that are none, or are over, are nothing.
func TestWorkEndsWithTheStream(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		p := r.openStreams(1)[0]
		p.Messages(100, 0)
		r.work(8)
		p.Done(guard.Overload)
		r.work(0)
		p.Messages(1, 0)
		r.work(0)
		unary := r.pass(call)
		unary.Messages(5, 0)
		r.work(0)
		unary.Stream()
		unary.Messages(0, 3) // answers to nothing
		unary.Messages(1, 0)
		r.work(1)
		unary.Done(guard.Success)
		r.work(0)
		r.pass(watch).Done(guard.Ignored) // while it is being opened
		r.work(0)
	})
}

// Openings wait a moment for the work of streams to come below its share of the limit, and are refused then; idle streams are no reason.
func TestOpeningsBeyondTheShare(t *testing.T) {
	inBubble(t, lined(10), func(r rig) {
		r.openStreams(100)
		busy := r.openStreams(7)
		for _, p := range busy {
			p.Messages(1, 0)
		}
		r.work(7)
		late := r.ask(r.Context(), watch)
		r.waiting(1)
		sleep(50 * time.Millisecond)
		r.settled(late, guard.QueueTimeout, 50*time.Millisecond)
		if late.d.Limit != 7 || late.d.InFlight != 7 {
			t.Errorf("refused with limit %d and %d in flight, want those of the work of streams", late.d.Limit, late.d.InFlight)
		}
		waits := r.ask(r.Context(), watch)
		r.waiting(1)
		sleep(10 * time.Millisecond)
		busy[0].Messages(0, 1)
		r.settled(waits, guard.None, 10*time.Millisecond)
		r.work(7) // it is being opened
		first := r.ask(r.Context(), watch)
		r.waiting(1)
		sleep(opening)
		r.settled(first, guard.None, opening)
	})
}

// What counts is not the moment alone: opened in the gaps between messages, streams would come to have more work done than there is room for.
func TestOpeningsByTheWorkOnAverage(t *testing.T) {
	inBubble(t, fixed(10), func(r rig) {
		busy := r.openStreams(9)
		say := func() {
			for _, p := range busy {
				p.Messages(1, 0)
			}
			sleep(90 * time.Millisecond)
			for _, p := range busy {
				p.Messages(0, 1)
			}
			sleep(10 * time.Millisecond)
		}
		for range 30 {
			say()
		}
		r.work(0)
		if mean := r.Status().StreamWorkMean; mean < 7.5 || mean > 8.5 {
			t.Errorf("mean is %v, want 9 units for nine tenths of the time", mean)
		}
		if d := r.refuse(watch, guard.LimitReached); d.Limit != 7 || d.InFlight != 8 {
			t.Errorf("refused with limit %d and %d in flight, want those of the work of streams", d.Limit, d.InFlight)
		}
		sleep(500 * time.Millisecond)
		r.pass(watch)
	})
}

// A client that opens some dozens of streams at once is served, on the smallest limit there is by default.
func TestABurstOfOpenings(t *testing.T) {
	inBubble(t, guard.Default(), func(r rig) {
		var asked []*answer
		for range 40 {
			asked = append(asked, r.ask(r.Context(), watch))
		}
		sleep(50 * time.Millisecond)
		for i, a := range asked {
			if a.look(); !a.d.Admitted {
				t.Errorf("stream %d: %+v", i, a.d)
			}
		}
	})
}

// The work of streams is nothing to a guard that is off, and no reason to refuse for one that observes.
func TestStreamsInOtherModes(t *testing.T) {
	s := fixed(1)
	s.Mode = guard.Off
	inBubble(t, s, func(r rig) {
		p := r.pass(watch)
		r.work(0)
		p.Messages(3, 0)
		r.work(0)
		s.Mode = guard.Observe
		r.Configure(s, "", "")
		q := r.pass(watch)
		r.work(1)
		r.would(guard.LimitReached, watch)
		q.Messages(1, 0)
		r.work(1)
		r.would(guard.LimitReached, call)
	})
}

// Messages belong to the endpoint where their stream is, and do not go along with one that goes elsewhere.
func TestWorkPerEndpoint(t *testing.T) {
	inBubble(t, fixed(20), func(r rig) {
		es := r.endpoints("a", "b")
		p := r.open(watch)
		p.Messages(2, 0)
		from := p.Endpoint()
		if got := from.Status().StreamWork; got != 2 {
			t.Errorf("%d units", got)
		}
		p.Elsewhere()
		if a, b := es[0].Status().StreamWork, es[1].Status().StreamWork; a+b != 0 {
			t.Errorf("%d and %d units", a, b)
		}
		p.Messages(1, 0)
		if got := p.Endpoint().Status().StreamWork; got != 1 || p.Endpoint() == from {
			t.Errorf("%d units", got)
		}
		p.Done(guard.Success)
		r.at(es[0], 0, 0)
		r.at(es[1], 0, 0)
	})
}
