package queue_test

import (
	"fmt"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// The more critical call is served first; whoever waited too long says goodbye.
func Example() {
	now := time.Now()
	q := queue.New[string](queue.Settings{MaxWait: 100 * time.Millisecond, MaxLength: 1000})
	report, _, _ := q.Push("report", queue.Claim{Rank: 2}, now)
	q.Push("payment", queue.Claim{}, now)

	next, _ := q.Pop(now.Add(10 * time.Millisecond))
	fmt.Println("served:", next.Value)

	if now = report.Give; q.Remove(report) {
		fmt.Println("gave up:", report.Value)
	}
	// Output:
	// served: payment
	// gave up: report
}
