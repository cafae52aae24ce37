package guard_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// again is the retry of a call of somebody.
func again(tenant string) guard.Call { return guard.Call{Method: check, Tenant: tenant, Attempt: 1} }

// by is a first attempt of somebody.
func by(tenant string) guard.Call { return guard.Call{Method: check, Tenant: tenant} }

// short makes the limit bind, which is one, and leaves its slot free.
func (r rig) short() {
	r.Helper()
	p := r.pass(call)
	r.refuse(call, guard.LimitReached)
	p.Done(guard.Success)
}

// passes counts those of n calls that are not refused for want of a budget of retries.
func (r rig) passes(n int, c guard.Call) (passed int) {
	r.Helper()
	for range n {
		if p, d := r.Admit(r.Context(), c); d.Admitted {
			p.Done(guard.Success)
			passed++
		} else if d.Reason != guard.RetryBudgetExhausted {
			r.Fatalf("refused: %+v", d)
		}
	}
	return passed
}

// While nothing is short all retries pass; then, of each caller, one, and a tenth of its first attempts since.
func TestRetryBudget(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(100, again(""), time.Millisecond, guard.Success)
		sleep(10 * time.Second)
		r.run(100, call, time.Millisecond, guard.Success)
		p := r.pass(call)
		r.refuse(call, guard.LimitReached)
		r.refuse(again(""), guard.LimitReached) // The budget lets it through, the limit does not, and so it has cost nothing.
		p.Done(guard.Success)
		for _, test := range []struct{ first, want int }{{0, 1}, {19, 0}, {1, 1}, {9, 0}, {1, 1}} {
			r.run(test.first, call, time.Millisecond, guard.Success)
			if got := r.passes(5, again("")); got != test.want {
				t.Errorf("after %d more first attempts %d retries pass, want %d", test.first, got, test.want)
			}
		}
		sleep(time.Second) // no longer short
		if got := r.passes(100, again("")); got != 100 {
			t.Errorf("%d of 100 retries pass after the shortage", got)
		}
	})
}

// All callers together stay within their share also when each is within its own.
func TestRetryBudgetOfAll(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(57, call, 0, guard.Success)
		r.short() // 58 first attempts by now
		var got int
		for n := range 100 {
			got += r.passes(2, again(fmt.Sprint(n)))
		}
		if got != 5 {
			t.Errorf("%d retries of a hundred callers pass, want 5", got)
		}
		r.run(2, call, 0, guard.Success)
		if got := r.passes(5, again("late")); got != 1 {
			t.Errorf("%d retries pass after 60 first attempts, want one more", got)
		}
	})
}

// A caller's retries are measured by what was admitted of its own: one that storms does not spend what others have earned, and calls that
// were refused earn nothing.
func TestRetryBudgetOfEachCaller(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(1000, call, 0, guard.Success)
		r.short()
		p := r.pass(by("hog"))
		for range 1000 {
			r.refuse(by("hog"), guard.LimitReached)
		}
		p.Done(guard.Success)
		r.run(40, by("victim"), 0, guard.Success)
		if got := r.passes(1000, again("hog")); got != 1 {
			t.Errorf("%d retries of the hog pass, want its one", got)
		}
		if got := r.passes(10, again("victim")); got != 4 {
			t.Errorf("%d retries of the victim pass, want a tenth of its calls", got)
		}
	})
}

// In a lasting shortage what is older than ten seconds counts no more, on either side.
func TestRetryBudgetForgets(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(1000, call, 0, guard.Success)
		r.short()
		r.run(30, by("acme"), 0, guard.Success)
		if got := r.passes(9, again("acme")); got != 3 {
			t.Fatalf("%d retries pass, want 3", got)
		}
		for range 10 {
			sleep(time.Second)
			r.short()
			r.run(20, call, 0, guard.Success)
		}
		if got := r.passes(9, again("acme")); got != 1 {
			t.Errorf("%d retries pass ten seconds later, want one", got)
		}
	})
}

// No retry passes, not even the first, where none is wanted.
func TestRetryRatioZero(t *testing.T) {
	s := fixed(1)
	s.RetryRatio = 0
	inBubble(t, s, func(r rig) {
		r.short()
		if got := r.passes(9, again("")); got != 0 {
			t.Errorf("%d retries pass", got)
		}
	})
}

// Callers without end: a name costs memory only within a bound, beyond it strangers share; and room is made when they are gone.
func TestInventedCallers(t *testing.T) {
	const most, shared = 1000, 64
	passes := func(r rig, callers int) (got int) {
		r.short()
		for range callers {
			got += r.passes(2, again(fmt.Sprintf("%x", rand.Uint64())))
		}
		return got
	}
	inBubble(t, fixed(1), func(r rig) {
		for range 3 {
			r.run(20_000, call, 0, guard.Success)
			if got := passes(r, 5000); got < most-1 || got > most+shared {
				t.Errorf("of 5000 callers %d retried once, want the first thousand and %d of the others", got, shared)
			}
			sleep(12 * time.Second)
		}
	})
}

// Names that are too long to be kept are counted with others, and take nobody's room.
func TestCallersWithLongNames(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(30_000, call, 0, guard.Success)
		r.short()
		long := strings.Repeat("x", 128)
		var got int
		for n := range 2000 {
			got += r.passes(1, again(long+fmt.Sprint(n)))
		}
		if got > 64 {
			t.Errorf("%d retries of callers with long names pass, want at most 64", got)
		}
		for n := range 900 {
			if r.passes(2, again(fmt.Sprint(n))) != 1 {
				t.Fatalf("caller %d has lost its account", n)
			}
		}
	})
}

// Invented names do not push a real caller's account out.
func TestInventedCallersAmnestyNobody(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.run(30_000, call, 0, guard.Success)
		r.short()
		r.passes(1, again("hog"))
		for n := range 3 {
			for m := range 2000 {
				r.passes(1, again(fmt.Sprint(n, m)))
			}
			sleep(time.Second)
			r.short()
			if got := r.passes(9, again("hog")); got != 0 {
				t.Errorf("%d more retries of the hog pass", got)
			}
		}
	})
}

// ledger counts, naively, what a guard let through: every attempt with its instant and its caller.
type ledger struct {
	held time.Time // when the limit last held a call back
	all  []entered
}

type entered struct {
	at           time.Time
	tenant       string
	retry, short bool
}

func (l *ledger) short() bool { return time.Since(l.held) < time.Second }

func (l *ledger) enter(c guard.Call) {
	l.all = append(l.all, entered{at: time.Now(), tenant: c.Tenant, retry: c.Attempt > 0, short: l.short()})
}

// sum counts the matching attempts of this second and the nine before.
func (l *ledger) sum(match func(entered) bool) (first, retries float64) {
	since := time.Now().Truncate(time.Second).Add(-9 * time.Second)
	for _, e := range l.all {
		switch {
		case e.at.Before(since) || !match(e):
		case e.retry:
			retries++
		default:
			first++
		}
	}
	return first, retries
}

// admits is the rule of both budgets, the long way.
func (l *ledger) admits(c guard.Call) bool {
	if c.Attempt == 0 || !l.short() {
		return true
	}
	first, retries := l.sum(func(entered) bool { return true })
	own, ownRetries := l.sum(func(e entered) bool { return e.short && e.tenant == c.Tenant })
	return retries+1 <= 0.1*first && (ownRetries == 0 || ownRetries+1 <= 0.1*own)
}

// TestRetriesAgainstALedger plays shortages of several callers against the ledger: every decision is foretold. Bubbles begin with a whole
// second, and so the guard's seconds are those of the clock.
func TestRetriesAgainstALedger(t *testing.T) {
	tenants := []string{"", "acme", "hog", "hog", "hog", "umbrella"}
	var passed, refused int // in shortages
	for seed := range uint64(10) {
		inBubble(t, fixed(1), func(r rig) {
			random, l := rand.New(rand.NewPCG(seed, 1)), &ledger{}
			for n := range 3000 {
				if random.IntN(60) == 0 {
					l.enter(call)
					r.short()
					l.held = time.Now()
				}
				c := by(tenants[random.IntN(len(tenants))])
				c.Attempt = max(random.IntN(5)-3, 0)
				want := l.admits(c)
				if got := r.passes(1, c) == 1; got != want {
					t.Fatalf("seed %d, call %d: attempt %d of %q passes: %v, want %v", seed, n, c.Attempt, c.Tenant, got, want)
				}
				switch {
				case !want:
					refused++
				case c.Attempt > 0 && l.short():
					passed++
				}
				if want {
					l.enter(c)
				}
				sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			}
		})
	}
	if passed < 100 || refused < 100 {
		t.Errorf("%d retries passed and %d were refused in shortages: too few to tell", passed, refused)
	}
}

// Retries in line count against their caller, until they leave it.
func TestRetriesInLineCountForTheirCaller(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.run(1000, call, 0, guard.Success)
		p := r.pass(call)
		waits := r.ask(r.Context(), again("acme"))
		if a := r.ask(r.Context(), again("acme")); !a.done || a.d.Reason != guard.RetryBudgetExhausted {
			t.Errorf("the second retry of one caller: %+v", a.d)
		}
		other := r.ask(r.Context(), again("umbrella"))
		r.waiting(2)
		sleep(time.Second)
		r.settled(waits, guard.QueueTimeout, time.Second)
		r.settled(other, guard.QueueTimeout, time.Second)
		x := r.ask(r.Context(), by("x")) // It is short again.
		p.Done(guard.Success)
		r.waiting(0)
		x.look().p.Done(guard.Success)
		if got := r.passes(5, again("acme")); got != 1 {
			t.Errorf("%d retries pass after the one that left the line, want 1", got)
		}
	})
}

// busy makes so many calls end within a second, on all n slots: a back-end that ends one call in pace.
func busy(r rig, n int, took time.Duration) {
	for range int(time.Second / took) {
		var out []guard.Permit
		for range n {
			out = append(out, r.pass(call))
		}
		sleep(took)
		for _, p := range out {
			p.Done(guard.Success)
		}
	}
}

// fill takes all n slots.
func fill(r rig, n int) (out []guard.Permit) {
	for range n {
		out = append(out, r.pass(call))
	}
	return out
}

// TestHintsAreAppointments refuses a burst: those who return at their hints come no faster than retries are let in, a tenth of what the
// back-end ends, and the first of them not before the back-end has drained.
func TestHintsAreAppointments(t *testing.T) {
	for _, width := range []int{2, 8, 32} {
		inBubble(t, fixed(width), func(r rig) {
			took := time.Duration(width) * 2500 * time.Microsecond // 400 calls a second, so a retry in 25 ms, and the drain is took
			busy(r, width, took)
			fill(r, width)
			var hints []time.Duration
			for range 80 {
				hints = append(hints, r.refuse(call, guard.LimitReached).RetryAfter)
			}
			for n, hint := range hints {
				want := max(took+time.Duration(n)*25*time.Millisecond, 10*time.Millisecond)
				if hint < want-1 || hint > 2*want {
					t.Errorf("width %d: hint %d is %v, want %v to twice that", width, n, hint, want)
				}
			}
			slices.Sort(hints)
			for n := range len(hints) - 45 {
				if within := hints[n+45] - hints[n]; within < time.Second {
					t.Errorf("width %d: 45 retries return within %v of %v", width, within, hints[n])
				}
			}
		})
	}
}

// The more are refused the later they are told to return, up to a bound; when the refusals end, so does that.
func TestHintsGrowWithRefusals(t *testing.T) {
	inBubble(t, fixed(8), func(r rig) {
		busy(r, 8, 20*time.Millisecond)
		mean := func(refusals int) (sum time.Duration) {
			out := fill(r, 8)
			for range refusals {
				hint := r.refuse(call, guard.LimitReached).RetryAfter
				if hint > 5*time.Second {
					t.Errorf("hint %v", hint)
				}
				sum += hint / time.Duration(refusals)
			}
			for _, p := range out {
				p.Done(guard.Success)
			}
			busy(r, 8, 20*time.Millisecond)
			return sum
		}
		few, many, flood := mean(2), mean(40), mean(4000)
		if few > 100*time.Millisecond || many < 5*few || flood < 3*time.Second {
			t.Errorf("mean hints of 2, 40 and 4000 refusals: %v, %v, %v", few, many, flood)
		}
		for range 3 {
			busy(r, 8, 20*time.Millisecond)
		}
		if after := mean(2); after > 100*time.Millisecond {
			t.Errorf("mean hint %v after the flood", after)
		}
	})
}

// A back-end that has become slow has a later hint at once, not when ten seconds of better times are forgotten.
func TestHintsFollowTheBackend(t *testing.T) {
	inBubble(t, fixed(8), func(r rig) {
		for range 10 {
			busy(r, 8, 20*time.Millisecond)
		}
		for range 2 {
			busy(r, 8, 500*time.Millisecond)
		}
		fill(r, 8)
		if hint := r.refuse(call, guard.LimitReached).RetryAfter; hint < 300*time.Millisecond {
			t.Errorf("hint %v for calls of 500 ms", hint)
		}
	})
}

// What is in line is ahead of those who return.
func TestHintsReckonWithTheLine(t *testing.T) {
	s := lined(1)
	s.Queue.MaxLength = 20
	inBubble(t, s, func(r rig) {
		busy(r, 1, 20*time.Millisecond)
		r.pass(call)
		for range 20 {
			r.ask(r.Context(), call)
		}
		if hint := r.refuse(call, guard.LimitReached).RetryAfter; hint < 420*time.Millisecond {
			t.Errorf("hint %v behind 21 calls of 20 ms", hint)
		}
		sleep(time.Second)
		r.waiting(0)
	})
}

// Calls that are stuck have taken long already, before any of them ends.
func TestHintsReckonWithWhatIsStuck(t *testing.T) {
	inBubble(t, fixed(8), func(r rig) {
		r.run(10, call, 20*time.Millisecond, guard.Success)
		fill(r, 8)
		sleep(1200 * time.Millisecond)
		if hint := r.refuse(call, guard.LimitReached).RetryAfter; hint < 900*time.Millisecond {
			t.Errorf("hint %v while all slots are stuck for 1.2 s", hint)
		}
	})
}

// Of streams nobody knows when they end.
func TestHintsForStreams(t *testing.T) {
	s := fixed(8)
	s.MaxStreams = 0
	inBubble(t, s, func(r rig) {
		busy(r, 8, 20*time.Millisecond)
		if hint := r.refuse(guard.Call{Stream: true}, guard.LimitReached).RetryAfter; hint < 2500*time.Millisecond {
			t.Errorf("hint %v for a stream", hint)
		}
	})
}
