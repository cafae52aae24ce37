package limit_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard/limit"
)

func TestDefaultIsValid(t *testing.T) {
	want := limit.Settings{Law: limit.Adaptive, Initial: 8, Min: 1, Max: 1000}
	if got := limit.Default(); got != want || got.Validate() != nil {
		t.Errorf("Default() = %+v (%v), want %+v", got, got.Validate(), want)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*limit.Settings)
		faults []string // what each line of the error begins with
	}{
		{"default", func(*limit.Settings) {}, nil},
		{"fixed", func(s *limit.Settings) { s.Law = limit.Fixed }, nil},
		{"no call passes", func(s *limit.Settings) { s.Max = 0 }, nil},
		{"min is max", func(s *limit.Settings) { s.Min, s.Max = 5, 5 }, nil},
		{"initial outside the bounds", func(s *limit.Settings) { s.Initial, s.Min, s.Max = 8, 10, 20 }, nil},
		{"largest", func(s *limit.Settings) { s.Initial, s.Min, s.Max = 1_000_000, 1_000_000, 1_000_000 }, nil},
		{"law unknown", func(s *limit.Settings) { s.Law = "vegas" }, []string{`law is "vegas"`}},
		{"law empty", func(s *limit.Settings) { s.Law = "" }, []string{`law is ""`}},
		{"initial zero", func(s *limit.Settings) { s.Initial = 0 }, []string{"initial is 0"}},
		{"initial huge", func(s *limit.Settings) { s.Initial = 1_000_001 }, []string{"initial is 1000001"}},
		{"min zero", func(s *limit.Settings) { s.Min = 0 }, []string{"min is 0"}},
		{"max negative", func(s *limit.Settings) { s.Max = -1 }, []string{"max is -1"}},
		{"max huge", func(s *limit.Settings) { s.Max = 1_000_001 }, []string{"max is 1000001"}},
		{"max below min", func(s *limit.Settings) { s.Min, s.Max = 9, 5 }, []string{"max is 5, below min, which is 9"}},
		{"all wrong", func(s *limit.Settings) { *s = limit.Settings{Max: -3} }, []string{"law", "initial", "min", "max"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := limit.Default()
			test.change(&s)
			checkFaults(t, s.Validate(), test.faults)
		})
	}
}

// checkFaults compares the lines of err with what they should begin with.
func checkFaults(t *testing.T, err error, want []string) {
	t.Helper()
	var got []string
	if err != nil {
		got = strings.Split(err.Error(), "\n")
	}
	if len(got) != len(want) {
		t.Fatalf("Validate() = %q, want faults %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d is %q, want it to begin with %q", i, got[i], want[i])
		}
	}
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); err != nil && (!ok || len(joined.Unwrap()) != len(want)) {
		t.Errorf("Validate() = %v, want %d joined errors", err, len(want))
	}
}

func TestReleaseWithoutASlotDoesNothing(t *testing.T) {
	l := newAccount(limit.Default())
	for range 10 {
		l.release(limit.Overload, time.Second, epoch)
	}
	if l.InFlight() != 0 || l.Limit() != 8 {
		t.Errorf("in flight %d of %d, want 0 of 8", l.InFlight(), l.Limit())
	}
}

func TestStatus(t *testing.T) {
	l := limit.New(limit.Settings{Law: limit.Adaptive, Initial: 8, Min: 2, Max: 20}, epoch)
	later := epoch.Add(time.Minute)
	l.Restart(later)
	got := l.Status()
	want := limit.Status{Limit: 2, Min: 2, Max: 20, Law: limit.Adaptive, Reason: got.Reason, Changed: later}
	if got != want || !strings.HasPrefix(got.Reason, "restart: ") {
		t.Errorf("Status() = %+v, want %+v with the reason restart", got, want)
	}
}

func TestChangesAreTakenOnceAndBounded(t *testing.T) {
	l := limit.New(limit.Settings{Law: limit.Fixed, Initial: 1, Min: 1, Max: 1000}, epoch)
	for i := range 100 {
		l.Configure(limit.Settings{Law: limit.Fixed, Initial: i + 2, Min: 1, Max: 1000}, epoch)
	}
	got := l.Changes()
	if len(got) != 32 || got[31].To != 101 || got[0].To != 70 {
		t.Errorf("got %d changes, the last to %d, want the last 32, to 101", len(got), got[len(got)-1].To)
	}
	if again := l.Changes(); len(again) != 0 {
		t.Errorf("got %d changes again, want none", len(again))
	}
}

// A clock that goes backwards must not spoil the figures: it stands still.
func TestClockGoesBackwards(t *testing.T) {
	l := newAccount(limit.Default())
	for i := range 1000 {
		now := epoch.Add(time.Duration(i%7) * time.Second)
		l.acquire(1, now)
		l.release(limit.Success, 0, now.Add(-time.Minute))
	}
	if l.Limit() != 8 || l.InFlight() != 0 {
		t.Errorf("in flight %d of %d, want 0 of 8", l.InFlight(), l.Limit())
	}
	l.Configure(limit.Settings{Law: limit.Fixed, Initial: 3, Min: 1, Max: 9}, epoch.Add(-time.Hour))
	if at := l.Status().Changed; at.Before(epoch) {
		t.Errorf("changed at %v, before the beginning", at)
	}
}

// Lesson: ten caller cancellations, and calls that were never sent: limit unchanged. Here with all slots taken and more demand.
func TestIgnoredCallsChangeNothing(t *testing.T) {
	l, now := newAccount(limit.Default()), epoch
	for range 10_000 {
		for l.acquire(1, now) {
		}
		now = now.Add(10 * time.Millisecond)
		l.release(limit.Ignored, time.Minute, now)
	}
	if got := l.Changes(); len(got) != 0 || l.Limit() != 8 {
		t.Errorf("limit is %d after %v, want 8 as ever", l.Limit(), got)
	}
}

// Charges are bounded in number: of more than 1,024 the first to end ends early. None is lost from the account.
func TestChargesAreBounded(t *testing.T) {
	l, now := newAccount(limit.Settings{Law: limit.Fixed, Initial: 5000, Min: 1, Max: 5000}), epoch
	for range 2001 {
		l.acquire(2, now)
	}
	l.release(limit.Success, time.Second, now)
	for range 2000 {
		l.release(limit.TimedOut, time.Second, now)
	}
	if got := l.Status().Charged; got != 2*1024 {
		t.Errorf("%d units are charged, want %d", got, 2*1024)
	}
	if l.Free(1, now.Add(time.Second)); l.Status().Charged != 0 {
		t.Errorf("%d units are charged when all is over, want none", l.Status().Charged)
	}
}

func TestResume(t *testing.T) {
	for _, law := range limit.Laws() {
		l := limit.New(limit.Settings{Law: law, Initial: 8, Min: 2, Max: 20}, epoch)
		want, known := 20, 20 // taken into the bounds
		if law == limit.Fixed {
			want, known = 8, 0
		}
		l.Resume(0, epoch)
		l.Resume(-1, epoch)
		if l.Limit() != 8 {
			t.Errorf("%s: limit is %d after nothing was known, want 8", law, l.Limit())
		}
		l.Resume(30, epoch)
		if l.Limit() != want || l.Known() != known {
			t.Errorf("%s: limit is %d and %d is known, want %d and %d", law, l.Limit(), l.Known(), want, known)
		}
	}
}
