package limit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// twin keeps the account of a limiter in the plainest way, and checks after each step what must always hold.
type twin struct {
	*limit.Limiter
	settings limit.Settings
	now      time.Time // as the limiter has heard of it: it never goes back
	calls    []taken
	charges  []chargedUntil
	typical  float64 // seconds
	limit    int     // after the last change
}

type taken struct {
	slot limit.Slot
	cost int
}

type chargedUntil struct {
	until time.Time
	cost  int
}

func newTwin(s limit.Settings) *twin {
	l := limit.New(s, epoch)
	return &twin{Limiter: l, settings: s, now: epoch, limit: l.Limit()}
}

func (w *twin) inFlight() (sum int) {
	for _, c := range w.calls {
		sum += c.cost
	}
	return sum
}

func (w *twin) charged() (sum int) {
	for _, c := range w.charges {
		if c.until.After(w.now) {
			sum += c.cost
		}
	}
	return sum
}

func (w *twin) free(cost int) bool {
	busy := w.inFlight() + w.charged()
	return busy+cost <= w.Limit() || busy == 0 && w.Limit() > 0
}

// step does what op and arg say.
func (w *twin) step(t *testing.T, op, arg byte) {
	t.Helper()
	switch op % 11 {
	case 0, 1, 2:
		w.acquire(t, 1+int(arg%16)/13*int(arg/16)) // mostly 1, else up to 16
	case 3, 4, 5:
		w.release(arg)
	case 6:
		w.tick(arg)
	case 7:
		w.configure(arg)
	case 8:
		w.Restart(w.now)
	case 9:
		w.Resume(int(arg)-1, w.now)
	case 10:
		cost := 1 + int(arg%4)
		w.calls = append(w.calls, taken{w.Force(cost, w.now), cost})
	}
	w.check(t)
}

func (w *twin) acquire(t *testing.T, cost int) {
	t.Helper()
	want := w.free(cost)
	if got := w.Free(cost, w.now); got != want {
		t.Fatalf("Free(%d) = %v with %d in flight and %d charged of %d", cost, got, w.inFlight(), w.charged(), w.Limit())
	}
	slot, ok := w.Acquire(cost, w.now)
	if ok != want {
		t.Fatalf("Acquire(%d) = %v with %d in flight and %d charged of %d", cost, ok, w.inFlight(), w.charged(), w.Limit())
	}
	if !ok {
		w.Held()
		return
	}
	w.calls = append(w.calls, taken{slot, cost})
}

// release gives back the slot that arg picks, with a result and a time of its own.
func (w *twin) release(arg byte) {
	if len(w.calls) == 0 {
		w.Release(limit.Slot{}, limit.TimedOut, time.Hour, 0, w.now) // none: nothing happens
		return
	}
	i := int(arg) % len(w.calls)
	c := w.calls[i]
	w.calls = slices.Delete(w.calls, i, i+1)
	r, took := limit.Result(arg%6), time.Duration(arg)*time.Millisecond
	w.Release(c.slot, r, took, float64(arg%3), w.now)
	switch r {
	case limit.Success:
		if w.typical == 0 {
			w.typical = took.Seconds()
		} else {
			w.typical += 0.05 * (took.Seconds() - w.typical)
		}
	case limit.TimedOut:
		d := min(took, 2*time.Duration(w.typical*float64(time.Second)))
		w.charges = append(w.charges, chargedUntil{w.now.Add(d), c.cost})
	case limit.Abandoned:
		d := time.Duration(w.typical*float64(time.Second)) - took
		w.charges = append(w.charges, chargedUntil{w.now.Add(d), c.cost})
	}
}

// tick lets the clock go on, jump ahead, or jump back, which the limiter must take for standing still.
func (w *twin) tick(arg byte) {
	switch {
	case arg == 255:
		w.now = w.now.Add(24 * time.Hour)
	case arg > 250:
		w.Free(1, w.now.Add(-time.Hour))
	default:
		w.now = w.now.Add(time.Duration(arg) * time.Millisecond)
	}
	w.Free(1, w.now)
}

func (w *twin) configure(arg byte) {
	low := 1 + int(arg%16)
	laws := limit.Laws()
	w.settings = limit.Settings{Law: laws[int(arg/5)%len(laws)], Initial: 8, Min: low, Max: low + int(arg/4)}
	if arg%11 == 0 {
		w.settings.Max = 0
	}
	w.Configure(w.settings, w.now)
}

func (w *twin) check(t *testing.T) {
	t.Helper()
	s, got := w.settings, w.Limit()
	if want := w.inFlight(); w.InFlight() != want {
		t.Fatalf("InFlight = %d, want %d", w.InFlight(), want)
	}
	if want := w.charged(); w.Status().Charged != want {
		t.Fatalf("Charged = %d, want %d", w.Status().Charged, want)
	}
	if due, ok := w.Due(); ok != (w.charged() > 0) || ok && !due.After(w.now) {
		t.Fatalf("Due = %v, %v with %d charged at %v", due, ok, w.charged(), w.now)
	}
	if got > s.Max || got < min(s.Min, s.Max) {
		t.Fatalf("Limit = %d, want %d to %d", got, s.Min, s.Max)
	}
	if want := min(max(s.Initial, s.Min), s.Max); s.Law == limit.Fixed && (got != want || w.Known() != 0) {
		t.Fatalf("Limit = %d, Known = %d, want the fixed %d and none", got, w.Known(), want)
	}
	if s.Law != limit.Fixed && w.Known() < 1 && s.Max > 0 {
		t.Fatalf("Known = %d", w.Known())
	}
	w.checkChanges(t)
}

// checkChanges follows the moves, which must lead to the limit in force.
func (w *twin) checkChanges(t *testing.T) {
	t.Helper()
	for _, c := range w.Changes() {
		if c.From != w.limit || c.To == c.From || c.Reason == "" || c.Time.After(w.now) {
			t.Fatalf("change %+v at %v from limit %d", c, w.now, w.limit)
		}
		w.limit = c.To
	}
	if w.limit != w.Limit() || w.Status().Reason == "" {
		t.Fatalf("changes lead to %d, Limit is %d: %q", w.limit, w.Limit(), w.Status().Reason)
	}
}

// finish gives all slots back; when the last charge has ended nothing is left.
func (w *twin) finish(t *testing.T) {
	t.Helper()
	for len(w.calls) > 0 {
		w.release(byte(len(w.calls)))
		w.check(t)
	}
	for due, ok := w.Due(); ok; due, ok = w.Due() {
		w.now = due
		w.Free(1, w.now)
	}
	if w.InFlight() != 0 || w.Status().Charged != 0 {
		t.Fatalf("%d in flight and %d charged when all is over", w.InFlight(), w.Status().Charged)
	}
}
