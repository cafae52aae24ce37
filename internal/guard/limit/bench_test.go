package limit_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// BenchmarkCall is what an admitted call costs, with the law at work: demand is held back, so that it tries and judges all the time.
func BenchmarkCall(b *testing.B) {
	l, now := limit.New(limit.Default(), time.Now()), time.Now()
	for l.Acquire(now) {
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		l.Release(limit.Success, time.Duration(l.Limit())*time.Millisecond, now)
		for l.Acquire(now) {
		}
	}
}

// BenchmarkCallUnbound is what a call costs in calm, one at a time.
func BenchmarkCallUnbound(b *testing.B) {
	l, now := limit.New(limit.Default(), time.Now()), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		l.Acquire(now)
		now = now.Add(time.Millisecond)
		l.Release(limit.Success, time.Millisecond, now)
	}
}

// BenchmarkRefusal is what a refused call costs.
func BenchmarkRefusal(b *testing.B) {
	l, now := limit.New(limit.Settings{Law: limit.Fixed, Initial: 1, Min: 1, Max: 1}, time.Now()), time.Now()
	l.Acquire(now)
	b.ReportAllocs()
	for b.Loop() {
		l.Acquire(now)
	}
}
