package breaker

import (
	"fmt"
	"slices"
	"time"

	"github.com/sony/gobreaker/v2"
)

// clockLag is the retry hint for the moment in which the open time is over by now, but still runs by gobreaker's later look at the clock.
const clockLag = time.Millisecond

// probe is a half-open call without a result so far.
type probe struct {
	number uint64
	start  time.Time
	done   func(error)
}

// startProbe takes a permit of half-open. None is left only below a forced closed state, whose calls pass all the same, untold.
func (b *Breaker) startProbe(now time.Time) Ticket {
	done, err := b.machine.Allow()
	if err != nil {
		return Ticket{}
	}
	b.lastProbe++
	b.probes = append(b.probes, probe{number: b.lastProbe, start: now, done: done})
	return Ticket{generation: b.generation, probe: b.lastProbe}
}

// doneProbe hands a probe's result to the machine; a second result of the same probe finds nothing.
func (b *Breaker) doneProbe(t Ticket, r Result, took time.Duration, now time.Time) {
	i := slices.IndexFunc(b.probes, func(p probe) bool { return p.number == t.probe })
	if i < 0 {
		return
	}
	done := b.probes[i].done
	b.probes = slices.Delete(b.probes, i, i+1)
	switch {
	case r == Ignored:
		done(errIgnored)
	case r == Failure:
		b.failProbe(done, fmt.Sprintf("probe_failed: after %v", took), now)
	case b.tooManySlow(took):
		b.failProbe(done, fmt.Sprintf("probe_slow: %d of %d probes took %v or more, the last %v",
			b.slowProbes, b.machine.probes, b.settings.SlowAfter, took), now)
	default:
		b.succeedProbe(done, now)
	}
}

// tooManySlow counts a probe that succeeded, and tells whether the slow ones among all that are needed reach SlowRatio.
func (b *Breaker) tooManySlow(took time.Duration) bool {
	if !b.settings.slow(took) {
		return false
	}
	b.slowProbes++
	return share(b.slowProbes, b.machine.probes) >= b.settings.SlowRatio
}

func (b *Breaker) failProbe(done func(error), reason string, now time.Time) {
	done(errFailed)
	b.become(Open, reason, now)
}

func (b *Breaker) succeedProbe(done func(error), now time.Time) {
	done(nil)
	if b.machine.State() == gobreaker.StateClosed {
		b.become(Closed, fmt.Sprintf("probes_succeeded: %d", b.machine.probes), now)
	}
}

// endOpen goes to half-open when the open time is over by both clocks.
func (b *Breaker) endOpen(now time.Time) {
	if !now.Before(b.retryAt) && b.machine.State() == gobreaker.StateHalfOpen {
		b.become(HalfOpen, fmt.Sprintf("open_time_over: %v", b.machine.openFor), now)
	}
}

// endProbe fails the oldest probe if its time is over; one failure opens.
func (b *Breaker) endProbe(now time.Time) {
	if len(b.probes) == 0 || now.Sub(b.probes[0].start) < b.settings.ProbeTimeout {
		return
	}
	b.failProbe(b.probes[0].done, fmt.Sprintf("probe_timeout: no result after %v", now.Sub(b.probes[0].start)), now)
}

// wait is the time until a machine that refuses may do otherwise.
func (b *Breaker) wait(now time.Time) time.Duration {
	if b.state == HalfOpen {
		return b.settings.ProbeTimeout - now.Sub(b.probes[0].start)
	}
	if left := b.retryAt.Sub(now); left > 0 {
		return left
	}
	return clockLag
}
