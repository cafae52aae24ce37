package guard_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/internal/guard/breaker"
)

// trace returns the n-th trace.
func trace(n int, sampled bool) guard.Trace {
	return guard.Trace{ID: [16]byte{15: byte(n), 14: byte(n >> 8), 13: byte(n >> 16), 0: 1}, Sampled: sampled}
}

// off switches a feature off, so that its calls are refused and cost nothing.
func (r rig) off(feature string) { r.set(feature, 0) }

// last returns the newest refusal on record.
func (r rig) last() guard.Refusal {
	r.Helper()
	list := r.Refusals(guard.Filter{}, 1)
	if len(list) != 1 {
		r.Fatal("no refusal is on record")
	}
	return list[0]
}

func TestARefusalIsOnRecordWithItsFigures(t *testing.T) {
	c := guard.Call{
		Method: check, Feature: "report", Tenant: "acme", Criticality: guard.Sheddable, Attempt: 2, Trace: trace(7, true),
	}
	for name, why := range map[string]struct {
		reason guard.Reason
		make   func(r rig, c *guard.Call)
	}{
		"feature off":   {guard.FeatureOff, func(r rig, c *guard.Call) { r.off("report") }},
		"deadline":      {guard.DeadlineUnreachable, func(r rig, c *guard.Call) { c.Deadline = time.Now() }},
		"breaker":       {guard.BreakerOpen, func(r rig, c *guard.Call) { r.ForceBreaker(breaker.Override{State: breaker.ForcedOpen}) }},
		"retries":       {guard.RetryBudgetExhausted, func(r rig, c *guard.Call) { r.pass(call); r.refuse(call, guard.LimitReached) }},
		"limit":         {guard.LimitReached, func(r rig, c *guard.Call) { r.pass(call); c.Attempt = 0 }},
		"shutting down": {guard.Draining, func(r rig, c *guard.Call) { r.Drain(r.Context()) }},
		"a stream":      {guard.FeatureOff, func(r rig, c *guard.Call) { r.off("report"); c.Stream = true }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, fixed(1), func(r rig) {
				c := c
				why.make(r, &c)
				d := r.refuse(c, why.reason)
				c.Deadline = time.Time{} // which is not kept
				if got, want := r.last(), (guard.Refusal{Time: time.Now(), Call: c, Decision: d}); got != want || got.Observed() {
					t.Errorf("on record is\n%+v, want\n%+v", got, want)
				}
			})
		})
	}
}

// The wait is part of what is on record, and so is who still waits.
func TestAWaitInVainIsOnRecord(t *testing.T) {
	inBubble(t, lined(1), func(r rig) {
		r.pass(call)
		a := r.ask(r.Context(), call)
		sleep(time.Millisecond)
		b := r.ask(r.Context(), call)
		sleep(2 * time.Second)
		for _, d := range []guard.Decision{a.look().d, b.look().d} {
			list := r.Refusals(guard.Filter{Reason: guard.QueueTimeout}, 9)
			if d.Wait == 0 || len(list) != 2 || list[0].Decision.Wait == 0 || list[1].Decision.Queued != 1 || list[0].Decision.Queued != 0 {
				r.Errorf("decided %+v, on record is %+v", d, list)
			}
		}
	})
}

func TestWhatObserveLetsPassIsOnRecord(t *testing.T) {
	s := fixed(1)
	s.Mode = guard.Observe
	inBubble(t, s, func(r rig) {
		r.pass(call)
		_, d := r.Admit(r.Context(), call)
		if got := r.last(); !d.Admitted || !got.Observed() || got.Decision != d || d.Reason != guard.LimitReached {
			r.Errorf("decided %+v, on record is %+v", d, got)
		}
		if list := r.Refusals(guard.Filter{Enforced: true}, 9); len(list) != 0 {
			r.Errorf("refused were %+v", list)
		}
	})
}

// The data path refuses by itself when nobody can be reached.
func TestReport(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		d := guard.Decision{Reason: guard.BackendUnreachable, RetryAfter: time.Second, Limit: 1}
		r.Report(call, d)
		if got := r.last(); got.Decision.Reason != d.Reason || got.Call != call || !got.Time.Equal(time.Now()) {
			r.Errorf("on record is %+v", got)
		}
	})
}

// flood refuses so many calls a second for so long; each call is made by its number.
func (r rig) flood(perSecond int, d time.Duration, c func(i int) guard.Call) (n int) {
	for end := time.Now().Add(d); time.Now().Before(end); sleep(10 * time.Millisecond) {
		for range perSecond / 100 {
			r.refuse(c(n), guard.FeatureOff)
			n++
		}
	}
	return n
}

func reporting(int) guard.Call { return guard.Call{Method: check, Feature: "report"} }

// Of a flood the beginning is kept whole and then a part, so that what is on record stays there for half a minute; the rest is counted.
func TestAFloodIsThinned(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		sleep(time.Hour) // which earns no more than one burst
		total := r.flood(10_000, 4*time.Second, reporting)
		got := r.Records()
		want := 1024 + 400 + 4 // the burst, a hundred a second, and the news of each second
		if got.Kept < want-3 || got.Kept > want+3 || uint64(got.Kept)+got.Unrecorded != uint64(total) {
			r.Errorf("of %d are %d kept and %d counted; want about %d kept", total, got.Kept, got.Unrecorded, want)
		}
		r.flood(5_000, 2*time.Minute, reporting)
		if age := time.Since(r.Records().Since); age < 30*time.Second {
			r.Errorf("records go back by %v only", age)
		}
		if n := len(r.Refusals(guard.Filter{Method: check}, 100_000)); n < 4096 || n > 2*4096 {
			r.Errorf("%d are on record", n)
		}
	})
}

// The first refusal of a method is in one ring, the others are in the other: the older of the two beginnings counts.
func TestHowFarRecordsGoBack(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		if got := r.Records(); got != (guard.Records{}) {
			r.Errorf("there are records: %+v", got)
		}
		r.off("report")
		began := time.Now()
		for range 3 {
			r.refuse(reporting(0), guard.FeatureOff)
			sleep(100 * time.Millisecond)
		}
		if got := r.Records(); got.Kept != 3 || !got.Since.Equal(began) {
			r.Errorf("records are %+v, want 3 since %v", got, began)
		}
	})
}

// What is asked for most is not washed away by a flood: sampled traces, and other methods and reasons.
func TestAFloodDoesNotWashAwayWhatIsAskedFor(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		flood := func(i int) guard.Call {
			c := reporting(i)
			if i%500 == 499 { // twenty a second
				c.Trace = trace(i, true)
			}
			return c
		}
		r.flood(10_000, 30*time.Second, flood)
		rare := guard.Call{Method: "/shop.Stock/Rare", Feature: "report"}
		r.refuse(rare, guard.FeatureOff)
		total := r.flood(10_000, 30*time.Second, flood)
		if got := r.Refusals(guard.Filter{Method: rare.Method}, 9); len(got) != 1 {
			r.Errorf("%d refusals of the rare method are on record, want 1", len(got))
		}
		for i := 499; i < total; i += 500 {
			if got := r.Refusals(guard.Filter{Trace: trace(i, true).ID}, 9); len(got) == 0 {
				r.Fatalf("trace %d of %d is not on record", i, total)
			}
		}
	})
}

// Names come from callers: what is kept of them is bounded, and stays text.
func TestALongTenantIsCutWhereItIsText(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		c := reporting(0)
		c.Tenant = strings.Repeat("a", 127) + "é and more"
		r.refuse(c, guard.FeatureOff)
		if got, want := r.last().Call.Tenant, strings.Repeat("a", 127); got != want {
			r.Errorf("tenant is %q", got)
		}
	})
}

func TestRefusalsAreFoundByEveryField(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		r.off("report")
		r.set("report", 0)
		for i := range 8 {
			c := guard.Call{Method: "/m/" + strconv.Itoa(i), Feature: "report", Tenant: "t" + strconv.Itoa(i%2), Trace: trace(i/4, false)}
			r.refuse(c, guard.FeatureOff)
			sleep(time.Second)
		}
		r.pass(call)
		r.refuse(call, guard.LimitReached)
		for name, f := range map[string]struct {
			guard.Filter
			want int
		}{
			"all":             {guard.Filter{}, 9},
			"method":          {guard.Filter{Method: "/m/3"}, 1},
			"feature":         {guard.Filter{Feature: "report"}, 8},
			"tenant":          {guard.Filter{Tenant: "t1"}, 4},
			"reason":          {guard.Filter{Reason: guard.LimitReached}, 1},
			"trace":           {guard.Filter{Trace: trace(1, false).ID}, 4},
			"two fields":      {guard.Filter{Tenant: "t1", Trace: trace(1, false).ID}, 2},
			"nothing matches": {guard.Filter{Method: "/m/3", Tenant: "t0"}, 0},
		} {
			got := r.Refusals(f.Filter, 100)
			if len(got) != f.want {
				r.Errorf("%s: %d found, want %d", name, len(got), f.want)
			}
			for i := 1; i < len(got); i++ {
				if got[i].Time.After(got[i-1].Time) {
					r.Errorf("%s: %v comes after %v", name, got[i].Time, got[i-1].Time)
				}
			}
		}
		if got := r.Refusals(guard.Filter{}, 3); len(got) != 3 || got[0].Decision.Reason != guard.LimitReached || got[1].Call.Method != "/m/7" {
			r.Errorf("the newest three are %+v", got)
		}
	})
}

// Whatever comes: every refusal is on record, was overwritten, or is counted as unrecorded; and recording costs no memory beyond the bound.
func TestEveryRefusalIsAccountedFor(t *testing.T) {
	inBubble(t, fixed(1), func(r rig) {
		random := rand.New(rand.NewPCG(1, 2))
		r.off("report")
		r.pass(call)
		total := 0
		for range 20_000 {
			c := guard.Call{Method: "/m/" + strconv.Itoa(random.IntN(50)), Tenant: strconv.Itoa(random.IntN(1000))}
			c.Trace = trace(total, random.IntN(9) == 0)
			if random.IntN(2) == 0 {
				c.Feature = "report"
			}
			if _, d := r.Admit(r.Context(), c); d.Admitted {
				r.Fatalf("admitted: %+v", c)
			}
			total++
			sleep(time.Duration(random.ExpFloat64() * float64(time.Millisecond)))
			if got := r.Records(); total <= 4096 && uint64(got.Kept)+got.Unrecorded != uint64(total) || got.Kept > 2*4096 {
				r.Fatalf("of %d are %d kept and %d counted", total, got.Kept, got.Unrecorded)
			}
		}
	})
}

// What is not recorded must stay cheap: see also TestAllocations.
func BenchmarkRefuseFlood(b *testing.B) {
	for name, watchers := range map[string]int{"unwatched": 0, "watched": 4} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			g, ctx, c := switched(0), b.Context(), tagged()
			c.Tenant, c.Trace = "acme", trace(1, false)
			for range watchers {
				w, err := g.Watch(guard.Filter{Tenant: "acme"}, 1)
				if err != nil {
					b.Fatal(err)
				}
				defer w.Close()
			}
			for b.Loop() {
				g.Admit(ctx, c)
			}
		})
	}
}
