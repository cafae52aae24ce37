package guard_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

const check = "/shop.Stock/Check"

// call is the plainest one.
var call = guard.Call{Method: check}

// fixed lets n calls in flight and nobody wait.
func fixed(n int) guard.Settings {
	s := guard.Default()
	s.Limit.Law, s.Limit.Initial = "fixed", n
	s.Queue.MaxWait = 0
	return s
}

// lined lets n calls in flight and others wait for a second, however long the line has been.
func lined(n int) guard.Settings {
	s := fixed(n)
	s.Queue.MaxWait, s.Queue.StandingWait = time.Second, 0
	return s
}

// rig is a guard under test.
type rig struct {
	*testing.T
	*guard.Guard
}

// inBubble runs a test on a new guard where the clock moves only when all sleep.
func inBubble(t *testing.T, s guard.Settings, test func(r rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(rig{T: t, Guard: guard.New(s)}) })
}

// sleep stands for time that passes; only bubbles use it.
func sleep(d time.Duration) { time.Sleep(d) }

// pass is an Admit that must succeed.
func (r rig) pass(c guard.Call) guard.Permit {
	r.Helper()
	p, d := r.Admit(r.Context(), c)
	if !d.Admitted || d.Reason != guard.None {
		r.Fatalf("%v refused or marked: %+v", c, d)
	}
	return p
}

// open is a pass of a stream, and the time that its opening is work.
func (r rig) open(c guard.Call) guard.Permit {
	r.Helper()
	p := r.pass(c)
	sleep(opening)
	return p
}

// refuse is an Admit that must be refused, for a reason.
func (r rig) refuse(c guard.Call, want guard.Reason) guard.Decision {
	r.Helper()
	p, d := r.Admit(r.Context(), c)
	if d.Admitted || d.Reason != want || p != (guard.Permit{}) {
		r.Fatalf("%v: got %+v, %+v; want refusal %d", c, p, d, want)
	}
	return d
}

// run makes n calls one after the other that take so long and end so.
func (r rig) run(n int, c guard.Call, took time.Duration, o guard.Outcome) {
	r.Helper()
	for range n {
		p := r.pass(c)
		sleep(took)
		p.Done(o)
	}
}

// answer is what an Admit in its own goroutine came to, as of the last look.
type answer struct {
	p     guard.Permit
	d     guard.Decision
	after time.Duration
	done  bool
	came  chan answer
}

// ask starts an Admit and looks at its answer once all that can move has moved.
func (r rig) ask(ctx context.Context, c guard.Call) *answer {
	a, begun := &answer{came: make(chan answer, 1)}, time.Now()
	go func() {
		p, d := r.Admit(ctx, c)
		a.came <- answer{p: p, d: d, after: time.Since(begun), done: true}
	}()
	synctest.Wait()
	return a.look()
}

// line is the same by an Ask, and its wait.
func (r rig) line(c guard.Call) (*answer, guard.Wait) {
	a := &answer{came: make(chan answer, 2)}
	s := settler{came: a.came, begun: time.Now()}
	p, d, w := r.Ask(c, s)
	if !w.Waiting() {
		s.Settle(p, d)
	}
	synctest.Wait()
	return a.look(), w
}

// settler passes on what it is told.
type settler struct {
	came  chan answer
	begun time.Time
}

func (s settler) Settle(p guard.Permit, d guard.Decision) {
	s.came <- answer{p: p, d: d, after: time.Since(s.begun), done: true}
}

func (a *answer) look() *answer {
	select {
	case got := <-a.came:
		got.came = a.came
		*a = got
	default:
	}
	return a
}

func (r rig) waiting(want int) {
	r.Helper()
	synctest.Wait()
	if got := r.Status().Queued; got != want {
		r.Fatalf("%d wait, want %d", got, want)
	}
}

// inFlight checks that permits out are as many as they should be.
func (r rig) inFlight(unary, streams int) {
	r.Helper()
	if s := r.Status(); s.InFlight != unary || s.OpenStreams != streams {
		r.Fatalf("%d calls and %d streams in flight, want %d and %d", s.InFlight, s.OpenStreams, unary, streams)
	}
}

func (r rig) state(want breaker.State) {
	r.Helper()
	if got := r.Status().Breaker; got.State != want {
		r.Fatalf("breaker is %v (%s), want %v", got.State, got.Reason, want)
	}
}

// trip opens the breaker by calls that fail.
func (r rig) trip() {
	r.Helper()
	for n := 0; n < 1000 && r.Status().Breaker.State == breaker.Closed; n++ {
		r.run(1, call, 0, guard.Failure)
	}
	r.state(breaker.Open)
}

// halfOpen opens the breaker and waits until it probes.
func (r rig) halfOpen() {
	r.Helper()
	r.trip()
	sleep(breaker.Default().OpenFor + time.Millisecond)
	r.state(breaker.HalfOpen)
}

// set puts one switch to a position.
func (r rig) set(feature string, percent float64) {
	r.SetFeatures(map[string]guard.Feature{feature: {Percent: percent, Revision: time.Now().UnixNano(), Why: "INC-1"}})
}
