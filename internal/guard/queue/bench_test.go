package queue_test

import (
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// filled returns a queue with n in line, over the four ranks.
func filled(n int) *queue.Queue[int] {
	q := queue.New[int](queue.Settings{MaxWait: time.Minute, MaxLength: 1000})
	for i := range n {
		q.Push(i, i%4-1, time.Time{}, start)
	}
	return q
}

// BenchmarkPushPop is what a call costs that waits and is served, with 500 others in line.
func BenchmarkPushPop(b *testing.B) {
	q := filled(500)
	b.ReportAllocs()
	for b.Loop() {
		q.Push(0, 0, time.Time{}, start)
		q.Pop(start)
	}
}

// BenchmarkPushRemove is what a call costs that waits in vain.
func BenchmarkPushRemove(b *testing.B) {
	q := filled(500)
	b.ReportAllocs()
	for b.Loop() {
		item, _, _ := q.Push(0, 0, time.Time{}, start)
		q.Remove(item)
	}
}

// BenchmarkPushFull is what a refusal costs when the line is full.
func BenchmarkPushFull(b *testing.B) {
	q := filled(1000)
	b.ReportAllocs()
	for b.Loop() {
		q.Push(0, 2, time.Time{}, start)
	}
}
