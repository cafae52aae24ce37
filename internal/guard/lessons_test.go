package guard_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// Lesson: an idle stream adds nothing to latency. Streams that lived for an hour, answered or ended by their trailers alone, make neither
// the breaker believe in slow calls nor the deadlines of other calls of the method unreachable.
func TestStreamsAddNothingToLatency(t *testing.T) {
	s := fixed(10)
	s.Breaker.SlowAfter = time.Second
	inBubble(t, s, func(r rig) {
		var open []guard.Permit
		for i := range 4 * s.Breaker.MinCalls {
			p := r.open(guard.Call{Method: check, Stream: true})
			if i%2 == 0 {
				p.Answered()
			}
			open = append(open, p)
		}
		sleep(time.Hour)
		for _, p := range open {
			p.Done(guard.Success)
		}
		r.state(breaker.Closed)
		r.pass(guard.Call{Method: check, Deadline: time.Now().Add(time.Millisecond)}).Done(guard.Ignored)
	})
}

// Lesson: refusals do not enter latency samples; nor does the time that an admitted call waited in line, which is the guard's own doing.
func TestTheWaitIsNoLatency(t *testing.T) {
	s := lined(1)
	s.Breaker.SlowAfter = 500 * time.Millisecond
	inBubble(t, s, func(r rig) {
		for range 2 * s.Breaker.MinCalls {
			p := r.pass(guard.Call{Method: "/shop.Stock/List"})
			a := r.ask(r.Context(), call)
			sleep(400 * time.Millisecond)
			p.Done(guard.Ignored)
			r.settled(a, guard.None, 400*time.Millisecond)
			sleep(100 * time.Millisecond)
			a.p.Done(guard.Success)
		}
		r.state(breaker.Closed)
		r.pass(guard.Call{Method: check, Deadline: time.Now().Add(150 * time.Millisecond)}).Done(guard.Ignored)
	})
}

// Lesson: a change of configuration or flag must not amnesty the back-end: what the adaptive limit has learned stays.
func TestConfigureKeepsTheLearnedLimit(t *testing.T) {
	before, after := limitsUnder(t, guard.Overload, time.Second, func(r rig) {
		learned := r.Status().Limit
		other := r.Settings()
		other.MaxStreams, other.Queue.MaxLength, other.Breaker.OpenFor = 7, 9, time.Minute
		r.Configure(other, "alice", "")
		r.set("report", 50)
		if got := r.Status().Limit; got != learned {
			r.Errorf("limit %+v -> %+v", learned, got)
		}
	})
	if after >= before/2 {
		t.Errorf("nothing was learned: limit %d -> %d", before, after)
	}
}

// Lesson: limit 0 lets no call pass, also with many goroutines at once; so do 0 streams. Real goroutines, no bubble: from the moment in
// which Configure has returned the number of admitted calls stands still.
func TestLimitZeroUnderLoad(t *testing.T) {
	open := lined(8)
	shut := open
	shut.Limit.Max, shut.MaxStreams = 0, 0
	g := guard.New(open)
	var left atomic.Int64
	left.Store(200_000)
	var clients sync.WaitGroup
	for i := range 64 {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				p, _ := g.Admit(t.Context(), guard.Call{Method: check, Stream: i%4 == 0})
				runtime.Gosched()
				p.Done(guard.Success)
			}
		})
	}
	flips, admitted := 0, uint64(0)
	for ; left.Load() > 0; flips++ {
		g.Configure(shut, "", "")
		admitted = g.Status().Totals.Admitted
		for range 10 {
			runtime.Gosched()
			if now := g.Status().Totals.Admitted; now != admitted {
				t.Errorf("%d calls passed a limit of 0", now-admitted)
			}
		}
		g.Configure(open, "", "")
		for range 100 {
			runtime.Gosched()
		}
	}
	clients.Wait()
	if flips < 3 || admitted == 0 {
		t.Errorf("%d flips, %d calls admitted: nothing was tested", flips, admitted)
	}
}
