package guard_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// FuzzTwin drives a guard and its twin by the same bytes; after every step they must agree.
func FuzzTwin(f *testing.F) {
	f.Add([]byte{0x00, 0x08, 0x10, 0x18, 0x23, 0x01, 0x04, 0x05, 0x06, 0x07})
	f.Fuzz(func(t *testing.T, program []byte) { runProgram(t, program[:min(len(program), 1000)]) })
}

// The same for random programs, with every run of the tests; together they must have met every reason that the twin knows.
func TestTwinOnRandomPrograms(t *testing.T) {
	var seen guard.Totals
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		program := make([]byte, 500)
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		totals := runProgram(t, program)
		for r := range totals.Refused {
			seen.Refused[r] += totals.Refused[r]
			seen.WouldRefuse[r] += totals.WouldRefuse[r]
		}
	}
	for r := guard.FeatureOff; r <= guard.QueueTimeout; r++ {
		if known := r != guard.FeatureDimmed && r != guard.RetryBudgetExhausted; known && seen.Refused[r] < 50 {
			t.Errorf("only %d refusals for reason %d", seen.Refused[r], r)
		}
	}
	if seen.WouldRefuse[guard.LimitReached] < 50 {
		t.Errorf("mode observe was hardly met: %+v", seen.WouldRefuse)
	}
}

// twins is a guard, its twin, and the calls at both.
type twins struct {
	rig
	twin  *twin
	calls []twinned
}

type twinned struct {
	real *answer
	twin *twinCall
}

func runProgram(t *testing.T, program []byte) (totals guard.Totals) {
	s := lined(2)
	s.MaxStreams, s.Queue.MaxLength = 2, 3
	s.Breaker.MinCalls = 1 << 30 // only an operator opens it
	inBubble(t, s, func(r rig) {
		w := &twins{rig: r, twin: newTwin(s)}
		for i, b := range program {
			w.step(int(b&7), int(b>>3))
			synctest.Wait()
			w.twin.move()
			if w.agree(i); r.Failed() {
				return
			}
		}
		sleep(time.Second) // for all to leave the line
		totals = w.twin.totals
	})
	return totals
}

func (w *twins) step(what, how int) {
	switch what {
	case 0, 1:
		w.admit(how)
	case 2, 3:
		w.done(how)
	case 4:
		w.pause([]time.Duration{1100 * time.Microsecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second}[how&3])
	case 5:
		w.configure(how)
	case 6:
		w.command(how)
	case 7:
		w.tell(how)
	}
}

// pause lets time pass, and the twin move whenever time alone frees something.
func (w *twins) pause(d time.Duration) {
	end := time.Now().Add(d)
	for next := w.twin.opens(); !next.IsZero() && next.Before(end); next = w.twin.opens() {
		sleep(time.Until(next))
		synctest.Wait()
		w.twin.move()
	}
	sleep(time.Until(end))
}

func (w *twins) admit(how int) {
	c := guard.Call{
		Method:      strconv.Itoa(len(w.calls)),
		Criticality: guard.Criticality(how&3 - 1),
		Feature:     []string{"", "a", "b", ""}[how>>2&3],
	}
	switch how >> 2 {
	case 1:
		c.Stream = true
	case 3:
		c.Deadline = time.Now().Add(300 * time.Millisecond)
	case 7:
		c.Deadline = time.Now()
	}
	twin := w.twin.admit(c)
	if len(w.calls)%2 == 0 {
		w.calls = append(w.calls, twinned{w.ask(w.Context(), c), twin})
		return
	}
	real, _ := w.line(c)
	w.calls = append(w.calls, twinned{real, twin})
}

// done ends a call, perhaps one that has ended or was refused.
func (w *twins) done(how int) {
	if len(w.calls) == 0 {
		return
	}
	c := w.calls[max(0, len(w.calls)-1-how&15)]
	if !c.real.done || !c.real.d.Admitted {
		return
	}
	o := []guard.Outcome{guard.Ignored, guard.Failure}[how>>4]
	c.real.p.Done(o)
	w.twin.done(c.twin, o)
}

func (w *twins) configure(how int) {
	s := w.twin.s
	s.Limit.Initial = 1 + how&3
	s.MaxStreams = how >> 1 & 3
	s.Mode = []guard.Mode{guard.Enforce, guard.Enforce, guard.Observe, guard.Off}[how>>2&3]
	s.Limit.Max = 100 * min(1, how)
	w.twin.s = s
	w.Configure(s, "fuzz", "")
}

func (w *twins) command(how int) {
	if how&4 != 0 {
		w.twin.forced = how&3 == 0
		o := breaker.Override{}
		if w.twin.forced {
			o.State = breaker.ForcedOpen
		}
		w.ForceBreaker(o)
		return
	}
	w.twin.off = map[string]bool{"a": how&3 == 1, "b": how&3 == 2}
	fs := map[string]guard.Feature{}
	for name, off := range w.twin.off {
		if off {
			fs[name] = guard.Feature{Revision: int64(how)}
		}
	}
	w.SetFeatures(fs)
}

// tell says of a call that it is answered, or a stream; its method, which is all its own then, may learn from it.
func (w *twins) tell(how int) {
	if len(w.twin.out) == 0 {
		return
	}
	twin := w.twin.out[how%len(w.twin.out)]
	i := slices.IndexFunc(w.calls, func(c twinned) bool { return c.twin == twin })
	w.calls[i].real.p.Answered()
	twin.opened = true
	if how&16 != 0 {
		w.calls[i].real.p.Stream()
		twin.stream = true
	}
}

func (w *twins) agree(step int) {
	s := w.Status()
	if s.InFlight != w.twin.unary() || s.OpenStreams != w.twin.streams() || s.Queued != len(w.twin.waiting) {
		w.Errorf("step %d: %d calls, %d streams, %d in line; want %d, %d, %d", step, s.InFlight, s.OpenStreams, s.Queued,
			w.twin.unary(), w.twin.streams(), len(w.twin.waiting))
	}
	s.Totals.WouldRefuse[guard.LimitReached] += s.Totals.WouldWait // the twin foresees no wait
	s.Totals.WouldWait = 0
	if s.Totals != w.twin.totals || s.DoubleReturns != w.twin.doubles {
		w.Errorf("step %d: totals %+v, doubles %d; want %+v, %d", step, s.Totals, s.DoubleReturns, w.twin.totals, w.twin.doubles)
	}
	for i, c := range w.calls {
		if c.real.look(); c.real.done != c.twin.answered || c.real.done && c.real.d.Reason != c.twin.reason && !c.real.waited(c.twin) {
			w.Errorf("step %d: call %d is answered %v: %+v; want %v: %d", step, i, c.real.done, c.real.d, c.twin.answered, c.twin.reason)
		}
	}
}
