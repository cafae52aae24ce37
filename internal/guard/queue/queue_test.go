package queue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/queue"
)

// start is when the tests begin.
var start = time.Date(2026, 12, 19, 1, 30, 0, 0, time.UTC)

func TestDefaultIsValid(t *testing.T) {
	s := queue.Default()
	if s.Validate() != nil || s.MaxWait != 100*time.Millisecond || s.StandingWait <= 0 || s.StandingWait > s.MaxWait || s.MaxLength != 1000 {
		t.Errorf("Default() = %+v (%v)", s, s.Validate())
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		s      queue.Settings
		faults []string // what each line of the error begins with
	}{
		{"no wait", queue.Settings{MaxLength: 5}, nil},
		{"no length", queue.Settings{MaxWait: time.Second}, nil},
		{"nothing at all", queue.Settings{}, nil},
		{"longest", queue.Settings{MaxWait: time.Minute, MaxLength: 1_000_000}, nil},
		{"wait negative", queue.Settings{MaxWait: -1, MaxLength: 5}, []string{"max_wait is -1ns"}},
		{"wait too long", queue.Settings{MaxWait: time.Hour, MaxLength: 5}, []string{"max_wait is 1h0m0s"}},
		{"length negative", queue.Settings{MaxWait: 1, MaxLength: -1}, []string{"max_length is -1"}},
		{"length too long", queue.Settings{MaxWait: 1, MaxLength: 1_000_001}, []string{"max_length is 1000001"}},
		{"standing as long", queue.Settings{MaxWait: 1, StandingWait: time.Minute, MaxLength: 1}, nil},
		{"standing negative", queue.Settings{MaxWait: 1, StandingWait: -1, MaxLength: 1}, []string{"standing_wait is -1ns"}},
		{"standing too long", queue.Settings{MaxWait: 1, StandingWait: time.Hour, MaxLength: 1}, []string{"standing_wait is 1h0m0s"}},
		{"all", queue.Settings{MaxWait: -1, StandingWait: -1, MaxLength: -1},
			[]string{"max_wait is -1ns", "standing_wait is -1ns", "max_length is -1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			if err := test.s.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.EqualFunc(got, test.faults, strings.HasPrefix) {
				t.Errorf("Validate() = %q, want faults %q", got, test.faults)
			}
		})
	}
}

func TestNobodyWaits(t *testing.T) {
	tests := []struct {
		name     string
		s        queue.Settings
		deadline time.Time
		evicted  bool
	}{
		{"without a wait", queue.Settings{MaxLength: 10}, time.Time{}, false},
		{"without a place", queue.Settings{MaxWait: time.Second}, time.Time{}, true},
		{"past the deadline", queue.Default(), start.Add(-1), false},
		{"at the deadline", queue.Default(), start, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := queue.New[string](test.s)
			item, evicted, ok := q.Push("a", queue.Claim{Deadline: test.deadline}, start)
			if item != nil || (evicted != nil) != test.evicted || ok || q.Len() != 0 {
				t.Errorf("Push = %v, %v, %v; %d in line", item, evicted, ok, q.Len())
			}
		})
	}
}

func TestGiveIsTheEarlierOfWaitAndDeadline(t *testing.T) {
	q := queue.New[string](queue.Default())
	tests := []struct {
		name           string
		deadline, want time.Time
	}{
		{"no deadline", time.Time{}, start.Add(100 * time.Millisecond)},
		{"late deadline", start.Add(time.Hour), start.Add(100 * time.Millisecond)},
		{"early deadline", start.Add(time.Millisecond), start.Add(time.Millisecond)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if item, _, ok := q.Push(test.name, queue.Claim{Deadline: test.deadline}, start); !ok || !item.Give.Equal(test.want) {
				t.Errorf("Push = %+v, %v; want to give up at %v", item, ok, test.want)
			}
		})
	}
}

// Whoever sees true from Remove tells the caller: it must be true once, and only for those whom nobody else tells.
func TestRemoveIsTrueOnceForWhoIsStillToBeTold(t *testing.T) {
	q := queue.New[string](queue.Settings{MaxWait: time.Second, MaxLength: 3})
	push := func(name string, rank int, wait time.Duration) *queue.Item[string] {
		item, _, _ := q.Push(name, queue.Claim{Rank: rank, Deadline: start.Add(wait)}, start)
		return item
	}
	popped, late, waits := push("popped", -1, time.Second), push("late", 0, time.Millisecond), push("waits", 0, time.Second)
	_, evicted, _ := q.Push("evicted", queue.Claim{Rank: 2}, start)
	q.Pop(start.Add(500 * time.Millisecond))
	for _, test := range []struct {
		name string
		item *queue.Item[string]
		want bool
	}{{"popped", popped, false}, {"given up", late, true}, {"waiting", waits, true}, {"evicted", evicted, false}} {
		if got := q.Remove(test.item); got != test.want {
			t.Errorf("Remove of who was %s = %v, want %v", test.name, got, test.want)
		}
		if q.Remove(test.item) {
			t.Errorf("a second Remove of who was %s = true", test.name)
		}
	}
	if _, ok := q.Pop(start); ok || q.Len() != 0 {
		t.Errorf("%d left in line, want none", q.Len())
	}
}

func TestRemoveFunc(t *testing.T) {
	q := queue.New[string](queue.Default())
	for i, name := range []string{"b1", "a1", "b2", "x", "a2"} {
		q.Push(name, queue.Claim{Rank: int(name[0])}, start.Add(time.Duration(i)))
	}
	var got []string
	for _, item := range q.RemoveFunc(func(name string) bool { return name != "x" }) {
		got = append(got, item.Value)
	}
	if want := []string{"a1", "a2", "b1", "b2"}; !slices.Equal(got, want) || q.Len() != 1 {
		t.Errorf("RemoveFunc = %v with %d left, want %v with 1", got, q.Len(), want)
	}
	if item, ok := q.Pop(start); !ok || item.Value != "x" {
		t.Errorf("Pop = %v, want x", item)
	}
	if q.RemoveFunc(func(string) bool { return true }) != nil {
		t.Error("RemoveFunc found somebody in an empty line")
	}
}
