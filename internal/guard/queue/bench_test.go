package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

var roomy = queue.Settings{MaxWait: time.Minute, MaxLength: 1_000_000}

// filled returns a queue with n in line, of so many tenants in turn.
func filled(n, tenants int, s queue.Settings) *queue.Queue[int] {
	q := queue.New[int](s)
	for i := range n {
		q.Push(i, queue.Claim{Tenant: fmt.Sprint(i % tenants)}, start)
	}
	return q
}

// BenchmarkPushPop is what a call costs that waits and is served, beside so many others in line.
func BenchmarkPushPop(b *testing.B) {
	for _, tenants := range []int{1, 1000} {
		for _, waiters := range []int{0, 100, 10_000} {
			b.Run(fmt.Sprintf("tenants=%d/waiters=%d", tenants, waiters), func(b *testing.B) {
				q := filled(waiters, tenants, roomy)
				names := make([]string, tenants)
				for i := range names {
					names[i] = fmt.Sprint(i)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					q.Push(0, queue.Claim{Tenant: names[i%tenants]}, start)
					q.Pop(start)
				}
			})
		}
	}
}

// BenchmarkPushRemove is what a call costs that waits in vain.
func BenchmarkPushRemove(b *testing.B) {
	q := filled(500, 1, roomy)
	b.ReportAllocs()
	for b.Loop() {
		item, _, _ := q.Push(0, queue.Claim{}, start)
		q.Remove(item)
	}
}

// BenchmarkPushFull is what a refusal costs when the line is full.
func BenchmarkPushFull(b *testing.B) {
	q := filled(1000, 10, queue.Settings{MaxWait: time.Minute, MaxLength: 1000})
	b.ReportAllocs()
	for b.Loop() {
		q.Push(0, queue.Claim{Rank: 2}, start)
	}
}

// BenchmarkStrangers is what a flood of names costs that were never seen before.
func BenchmarkStrangers(b *testing.B) {
	q := filled(1000, 1, roomy)
	names := make([]string, 1<<16)
	for i := range names {
		names[i] = fmt.Sprint("stranger ", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Push(0, queue.Claim{Tenant: names[i%len(names)]}, start)
		q.Pop(start)
	}
}
