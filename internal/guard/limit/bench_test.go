package limit_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

// crowd is calls in flight that cost nothing to keep: the first to be sent is the first to come back.
type crowd struct {
	slots      [64]limit.Slot
	sent, back uint8
}

func (c *crowd) fill(l *limit.Limiter, now time.Time) {
	for {
		s, ok := l.Acquire(1, now)
		if !ok {
			l.Held()
			return
		}
		c.slots[c.sent%64] = s
		c.sent++
	}
}

func (c *crowd) first() limit.Slot {
	c.back++
	return c.slots[(c.back-1)%64]
}

// BenchmarkCall is what an admitted call costs together with one that is held back, with the law at work: it tries and judges all the time.
func BenchmarkCall(b *testing.B) {
	for _, law := range limit.Laws() {
		b.Run(string(law), func(b *testing.B) {
			l, now, c := limit.New(limit.Settings{Law: law, Initial: 8, Min: 1, Max: 32}, epoch), epoch, crowd{}
			c.fill(l, now)
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				l.Release(c.first(), limit.Success, time.Duration(l.Limit())*time.Millisecond, 0, now)
				c.fill(l, now)
			}
		})
	}
}

// BenchmarkCallUnbound is what a call costs in calm, one at a time.
func BenchmarkCallUnbound(b *testing.B) {
	l, now := limit.New(limit.Default(), epoch), epoch
	b.ReportAllocs()
	for b.Loop() {
		s, _ := l.Acquire(1, now)
		now = now.Add(time.Millisecond)
		l.Release(s, limit.Success, time.Millisecond, 0, now)
	}
}

// BenchmarkRefusal is what a refused call costs.
func BenchmarkRefusal(b *testing.B) {
	l, now := limit.New(limit.Settings{Law: limit.Fixed, Initial: 1, Min: 1, Max: 1}, epoch), epoch
	l.Acquire(1, now)
	b.ReportAllocs()
	for b.Loop() {
		l.Acquire(1, now)
		l.Held()
	}
}
