package breaker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/capguard/capguard/internal/guard/breaker"
)

// quick is Default with a slow limit and the fewest calls, so that tests are short, and whole seconds, so that instants are easy to follow.
func quick() breaker.Settings {
	s := breaker.Default()
	s.MinCalls = 10
	s.SlowAfter = time.Second
	s.OpenFor = 2 * time.Second
	return s
}

// rig is a breaker on a bubble's clock.
type rig struct {
	*testing.T
	*breaker.Breaker
}

// inBubble runs a test on a breaker of quick settings inside a bubble, where the clock moves only by sleep.
func inBubble(t *testing.T, test func(b rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(rig{T: t, Breaker: breaker.New(quick(), time.Now())})
	})
}

// sleep moves a bubble's clock.
func sleep(d time.Duration) { time.Sleep(d) }

// pass is an Allow that must succeed.
func (b rig) pass() breaker.Ticket {
	b.Helper()
	t, ok, retryAfter := b.Allow(time.Now())
	if !ok {
		b.Fatalf("call refused in state %v, retry after %v", b.Status(time.Now()).State, retryAfter)
	}
	return t
}

// calls makes n calls, one after the other, that last took each by their own account.
func (b rig) calls(n int, r breaker.Result, took time.Duration) {
	b.Helper()
	for range n {
		b.Done(b.pass(), r, took, time.Now())
	}
}

// open lets ten calls fail.
func (b rig) open() {
	b.Helper()
	b.calls(10, breaker.Failure, 0)
	b.want(breaker.Open)
}

// halfOpen lets ten calls fail and the open time run out.
func (b rig) halfOpen() {
	b.Helper()
	b.open()
	sleep(quick().OpenFor)
	b.want(breaker.HalfOpen)
}

func (b rig) want(s breaker.State) {
	b.Helper()
	if got := b.Status(time.Now()); got.State != s {
		b.Fatalf("state is %v (%s), want %v", got.State, got.Reason, s)
	}
}

func (b rig) wantRefused(retryAfter time.Duration) {
	b.Helper()
	ready, hint := b.Ready(time.Now())
	_, ok, again := b.Allow(time.Now())
	if ready || ok || hint != retryAfter || again != retryAfter {
		b.Fatalf("Ready = %v, %v and Allow = %v, %v; want refusals with %v", ready, hint, ok, again, retryAfter)
	}
}

func TestNames(t *testing.T) {
	want := "closed open half-open forced-open forced-closed unknown"
	var got []string
	for s := breaker.Closed; s <= breaker.ForcedClosed+1; s++ {
		got = append(got, s.String())
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("states are %q, want %q", s, want)
	}
}

// What is not a permit of the breaker is given back without a trace: the zero ticket, and a probe's second result.
func TestDoneOfNothing(t *testing.T) {
	inBubble(t, func(b rig) {
		for range 100 {
			b.Done(breaker.Ticket{}, breaker.Failure, 0, time.Now())
		}
		b.want(breaker.Closed)
		b.halfOpen()
		b.Done(breaker.Ticket{}, breaker.Failure, 0, time.Now())
		probe := b.pass()
		for range 3 {
			b.Done(probe, breaker.Success, 0, time.Now())
		}
		b.want(breaker.HalfOpen)
		b.calls(2, breaker.Success, 0)
		b.want(breaker.Closed)
	})
}

// Nobody polls: the memory for transitions stays bounded, and the newest are kept.
func TestTransitionsAreBounded(t *testing.T) {
	inBubble(t, func(b rig) {
		for range 1000 {
			b.Force(breaker.Override{State: breaker.ForcedOpen, Actor: "alice"}, time.Now())
			sleep(time.Second)
			b.Force(breaker.Override{State: breaker.Closed, Actor: "bob"}, time.Now())
		}
		got := b.Transitions(time.Now())
		if n := len(got); n != 256 || got[n-1].Actor != "bob" || !got[n-1].Time.Equal(time.Now()) {
			t.Errorf("%d transitions, want the last 256", n)
		}
		if again := b.Transitions(time.Now()); len(again) != 0 {
			t.Errorf("%d transitions were told twice", len(again))
		}
	})
}

// States that are no commands leave an earlier command in force.
func TestForceOfAMachineState(t *testing.T) {
	inBubble(t, func(b rig) {
		b.Force(breaker.Override{State: breaker.ForcedClosed}, time.Now())
		b.Force(breaker.Override{State: breaker.Open}, time.Now())
		b.Force(breaker.Override{State: breaker.HalfOpen, Until: time.Now()}, time.Now())
		b.Force(breaker.Override{State: 99}, time.Now())
		b.want(breaker.ForcedClosed)
	})
}

// Time is over only when gobreaker's reading of the clock says so, too; the hint for that moment is a millisecond, never 0.
func TestTimeIsOverByBothClocks(t *testing.T) {
	inBubble(t, func(b rig) {
		b.open()
		later := time.Now().Add(2 * time.Second)
		if ok, retryAfter := b.Ready(later); ok || retryAfter != time.Millisecond {
			t.Errorf("Ready = %v, %v; want a refusal for 1ms", ok, retryAfter)
		}
		sleep(3 * time.Second)
		if ok, _ := b.Ready(later.Add(-1)); ok {
			t.Error("half-open, though now says that it is open")
		}
		if ok, _ := b.Ready(later); !ok {
			t.Error("not half-open, though both clocks say so")
		}
	})
}

// An owner that waited for its lock passes an instant of before: nothing breaks, the open time ends by the later clock.
func TestNowBehindTheClock(t *testing.T) {
	inBubble(t, func(b rig) {
		before := time.Now()
		sleep(100 * time.Millisecond)
		b.calls(9, breaker.Failure, 0)
		b.Done(b.pass(), breaker.Failure, 0, before)
		b.want(breaker.Open)
		sleep(2*time.Second - 1)
		b.want(breaker.Open)
		sleep(1)
		b.want(breaker.HalfOpen)
		b.Allow(before)
		sleep(1900 * time.Millisecond)
		b.want(breaker.Open) // the probe is as old as the owner said
	})
}
