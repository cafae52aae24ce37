package breaker_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

func opened(s breaker.Settings) *breaker.Breaker {
	b := breaker.New(s, time.Now())
	for range s.MinCalls {
		t, _, _ := b.Allow(time.Now())
		b.Done(t, breaker.Failure, 0, time.Now())
	}
	return b
}

// One call in closed state. The clock is read outside, as its owner reads it once for all checks.
func BenchmarkAllowDone(b *testing.B) {
	now := time.Now()
	k := breaker.New(breaker.Default(), now)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		t, _, _ := k.Allow(now)
		k.Done(t, breaker.Success, time.Millisecond, now)
	}
}

// The same with a failure now and then, which has the window judged.
func BenchmarkAllowDoneFailing(b *testing.B) {
	now := time.Now()
	k := breaker.New(breaker.Default(), now)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(time.Microsecond)
		t, _, _ := k.Allow(now)
		k.Done(t, breaker.Success+breaker.Result(i&3/3), time.Millisecond, now)
	}
}

func BenchmarkReady(b *testing.B) {
	now := time.Now()
	long := breaker.Default()
	long.OpenFor, long.ProbeTimeout = time.Hour, time.Hour
	short := long
	short.OpenFor = time.Millisecond
	half := opened(short)
	forced := breaker.New(long, now)
	forced.Force(breaker.Override{State: breaker.ForcedOpen, Until: now.Add(time.Hour)}, now)
	for ok := false; !ok; {
		ok, _ = half.Ready(time.Now())
	}
	states := []struct {
		name string
		*breaker.Breaker
	}{{"closed", breaker.New(long, now)}, {"open", opened(long)}, {"half-open", half}, {"forced-open", forced}}
	for _, state := range states {
		b.Run(state.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				state.Ready(now)
			}
		})
	}
}

// One call in half-open: taken, cancelled, given back.
func BenchmarkProbe(b *testing.B) {
	s := breaker.Default()
	s.OpenFor, s.ProbeTimeout = time.Millisecond, time.Hour
	k := opened(s)
	for ok := false; !ok; {
		ok, _ = k.Ready(time.Now())
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		t, _, _ := k.Allow(now)
		k.Done(t, breaker.Ignored, 0, now)
	}
}
